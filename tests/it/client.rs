//! The HTTP client of puts through the built binary: signatures as a service checks them, clocks, TLS, proxies, and connections
//! that others close.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use kinesis_stub::Config;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::support::daemon::Settings;
use crate::support::flow::Flow;
use crate::support::postgres::{Postgres, Version};
use crate::support::proxy::{Proxy, Target};
use crate::support::tls::Tls;
use crate::support::{SOON, eventually};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCY";

/// A flow whose stub checks each signature.
fn checked(clock_ahead: i64, change: impl FnOnce(&mut Settings)) -> Flow {
    let stub = Config { secret: Some(SECRET.to_owned()), clock_ahead, ..Config::default() };
    Flow::between(Postgres::lab(Version::usual()), stub.stream("lab-events", 4), |settings| {
        settings.environment = variables(&[("AWS_SECRET_ACCESS_KEY", SECRET)]);
        change(settings);
    })
}

fn variables(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn port_of(endpoint: &str) -> u16 {
    endpoint.rsplit_once(':').unwrap().1.parse().unwrap()
}

#[test]
fn puts_are_signed_as_the_service_checks_them() {
    for (path, region, token) in [("", "eu-central-1", ""), ("/kinesis/a%20b", "local", "IQoJb3JpZ2lu//+==")]
    {
        let mut flow = checked(0, |settings| {
            settings.endpoint.push_str(path);
            settings.environment.extend(variables(&[("AWS_SESSION_TOKEN", token), ("AWS_REGION", region)]));
        });
        flow.start();
        flow.wait_until_it_moves("signed requests");
        let requests = flow.stub.requests();
        assert!(requests.puts > 0 && requests.forged == 0, "{requests:?}");
        assert!(flow.daemon.terminate().success());
    }
}

#[test]
fn wrong_secret_is_refused_and_nothing_is_stored() {
    let mut flow = checked(0, |settings| {
        settings.environment = variables(&[("AWS_SECRET_ACCESS_KEY", "another")]);
    });
    flow.start();
    flow.mark();
    flow.daemon.wait_for_event_with(0, "stream_unavailable", "InvalidSignatureException");
    let requests = flow.stub.requests();
    assert!(requests.forged > 0 && requests.stored == 0, "{requests:?}");
    assert!(flow.daemon.terminate().success());
}

#[test]
fn clock_that_is_wrong_is_corrected() {
    for ahead in [-3600, 86_400] {
        let mut flow = checked(ahead, |_| {});
        flow.start();
        flow.wait_until_it_moves("with the time of the service");
        assert_eq!(flow.daemon.count_events("clock_corrected"), 1, "{ahead}");
        assert!(flow.daemon.terminate().success());
    }
}

/// Servers and routers close idle connections. The next event leaves over another one, and no outage is reported.
#[test]
fn closed_idle_connection_is_replaced_unnoticed() {
    let mut ends = None;
    let mut flow = checked(0, |settings| {
        let address = SocketAddr::from(([127, 0, 0, 1], port_of(&settings.endpoint)));
        let proxy = Proxy::start(Target::Tcp(address)).unwrap();
        settings.endpoint = format!("http://{}", proxy.address());
        ends = Some(proxy);
    });
    let proxy = ends.unwrap();
    flow.start();
    flow.wait_until_it_moves("over a first connection");
    for _ in 0..5 {
        flow.wait_until_ready();
        // The stream has a record before its response arrives, and until then the connection is not idle.
        eventually("all responses have arrived", SOON, || {
            let stored = f64::from(u32::try_from(flow.stub.stats().records).unwrap());
            let accepted = flow.daemon.metric("forebay_records_accepted_total");
            accepted.filter(|accepted| *accepted >= stored).map(drop)
        });
        let before = proxy.accepted();
        proxy.cut();
        flow.wait_until_it_moves("over another connection");
        assert!(proxy.accepted() > before);
    }
    flow.daemon.assert_quiet(&[]);
    assert!(flow.daemon.terminate().success());
}

/// Something that forwards connections, in a thread that ends with the tests.
struct Front {
    address: SocketAddr,
    /// The heads of the requests for tunnels.
    tunnels: Arc<Mutex<Vec<String>>>,
}

impl Front {
    /// TLS before the service on this port, or a proxy that opens tunnels.
    fn start(service: Option<(u16, &Tls)>) -> Self {
        let tunnels = Arc::new(Mutex::new(Vec::new()));
        let tls = service.map(|(port, tls)| (port, acceptor(tls)));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::clone(&tunnels);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                let mut connections = JoinSet::new();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    if let Some((port, acceptor)) = tls.clone() {
                        connections.spawn(async move { drop(decrypt(stream, acceptor, port).await) });
                    } else {
                        let heads = Arc::clone(&heads);
                        connections.spawn(async move { drop(tunnel(stream, &heads).await) });
                    }
                }
            });
        });
        Self { address, tunnels }
    }

    fn take_tunnels(&self) -> Vec<String> {
        std::mem::take(&mut *self.tunnels.lock().unwrap())
    }
}

fn acceptor(tls: &Tls) -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_file(&tls.certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_file(&tls.key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()))
}

async fn decrypt(stream: TcpStream, acceptor: TlsAcceptor, port: u16) -> std::io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut service = TcpStream::connect(("127.0.0.1", port)).await?;
    copy_bidirectional(&mut stream, &mut service).await.map(drop)
}

async fn tunnel(mut stream: TcpStream, heads: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    heads.lock().unwrap().push(head);
    let mut service = TcpStream::connect(target).await?;
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    copy_bidirectional(&mut stream, &mut service).await.map(drop)
}

#[test]
fn https_goes_through_the_proxy_with_own_authority() {
    let directory = tempfile::tempdir().unwrap();
    let tls = Tls::generate(directory.path());
    let mut service = 0;
    let mut flow = checked(0, |settings| service = port_of(&settings.endpoint));
    let (front, proxy) = (Front::start(Some((service, &tls))), Front::start(None));
    let port = front.address.port();
    let url = format!("http://user:p%40ss@{}", proxy.address);
    let bundle = ("AWS_CA_BUNDLE", tls.ca.to_str().unwrap());
    let settings = flow.daemon.settings();
    settings.endpoint = format!("https://localhost:{port}");
    settings.environment.extend(variables(&[bundle, ("HTTPS_PROXY", &url), ("NO_PROXY", "other.example")]));
    flow.start();
    flow.wait_until_it_moves("through a proxy");
    assert!(flow.daemon.terminate().success());
    let tunnels = proxy.take_tunnels();
    // One for the description, one for puts.
    assert!(tunnels.len() >= 2, "{tunnels:?}");
    for head in tunnels {
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with(&format!("connect localhost:{port} http/1.1\r\n")), "{head}");
        assert!(head.contains("proxy-authorization: basic dxnlcjpwqhnz"), "{head}");
    }
    assert!(!flow.daemon.log().join("\n").contains("p%40ss"), "the password is not logged");

    flow.wait_until_slot_is_free();
    flow.daemon.settings().environment.extend(variables(&[("NO_PROXY", "localhost")]));
    flow.start();
    flow.wait_until_it_moves("beside the proxy");
    assert_eq!(proxy.take_tunnels(), Vec::<String>::new());
    assert!(flow.daemon.terminate().success());
    assert!(flow.check().is_clean());
}

#[test]
fn untrusted_certificate_is_named_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let tls = Tls::generate(directory.path());
    let mut service = 0;
    let mut flow = checked(0, |settings| service = port_of(&settings.endpoint));
    let front = Front::start(Some((service, &tls)));
    flow.daemon.settings().endpoint = format!("https://localhost:{}", front.address.port());
    flow.start();
    flow.mark();
    flow.daemon.wait_for_event_with(0, "stream_unavailable", "UnknownIssuer");
    assert!(flow.daemon.terminate().success());
}
