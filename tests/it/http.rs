//! The HTTP port under hostile and clumsy clients: whoever reaches it cannot stop the daemon, nor keep a probe out.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use crate::support::daemon::Daemon;
use crate::support::flow::Flow;
use crate::support::random::seed;
use crate::support::{SOON, eventually};

fn connect(daemon: &Daemon) -> Option<TcpStream> {
    let stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, daemon.port()).into(), SOON).ok()?;
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    Some(stream)
}

/// Descriptors that the daemon has open.
fn descriptors(daemon: &Daemon) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", daemon.id())).unwrap().count()
}

/// Sends a request; everything that comes back until the server closes.
fn exchange(daemon: &Daemon, request: &[u8]) -> String {
    let mut stream = connect(daemon).unwrap();
    // The server may refuse and close before it has read everything.
    drop(stream.write_all(request));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

/// Fault A4: 700 half requests once used up the descriptors; the next segment could not be made, and the daemon ended.
#[test]
fn idle_half_requests_stop_neither_daemon_nor_probe() {
    let mut flow = Flow::prepare(seed(), |settings| settings.open_files = Some(256));
    flow.start();
    let mut held = Vec::new();
    for _ in 0..700 {
        let Some(mut stream) = connect(&flow.daemon) else { continue };
        // One that is closed already is as good.
        drop(stream.write_all(b"GET /metrics HTTP/1.1\r\nX: "));
        held.push(stream);
    }
    assert_eq!(flow.daemon.get("/health/live").as_deref(), Some("live\n"));
    let open = descriptors(&flow.daemon);
    assert!(open < 192, "{open} descriptors are open");
    flow.mark();
    flow.wait_until_published();
    assert!(flow.daemon.is_running());
    drop(held);
    flow.daemon.assert_quiet(&[]);
}

/// Where even the hard limit is low, the database and the log come before the HTTP port.
#[test]
fn low_descriptor_limit_leaves_log_and_database_running() {
    let mut flow = Flow::prepare(seed(), |settings| settings.open_files = Some(80));
    flow.start();
    let held: Vec<_> = (0..200).filter_map(|_| connect(&flow.daemon)).collect();
    flow.mark();
    flow.wait_until_published();
    assert_eq!(flow.daemon.get("/health/live").as_deref(), Some("live\n"));
    drop(held);
    assert!(flow.daemon.count_events("descriptor_limit_low") > 0);
}

#[test]
fn endless_header_is_refused_and_not_kept() {
    let mut flow = Flow::prepare(seed(), |_| {});
    flow.start();
    let mut stream = connect(&flow.daemon).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ").unwrap();
    let mut sent = 0;
    let block = vec![b'a'; 64 << 10];
    let closed = (0..1_000).any(|_| {
        sent += block.len();
        stream.write_all(&block).is_err()
    });
    assert!(closed, "{sent} bytes of header were taken");
    let answer =
        exchange(&flow.daemon, format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(9_000)).as_bytes());
    assert!(answer.starts_with("HTTP/1.1 431") || answer.is_empty(), "{answer}");
    assert!(flow.daemon.get("/metrics").is_some());
}

#[test]
fn half_header_is_closed_in_time() {
    let mut flow = Flow::prepare(seed(), |_| {});
    flow.start();
    let mut stream = connect(&flow.daemon).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ").unwrap();
    let mut answer = Vec::new();
    // SOON is the deadline of the read: an open connection would fail here.
    assert_ne!(
        stream.read_to_end(&mut answer).map_err(|error| error.kind()),
        Err(std::io::ErrorKind::WouldBlock)
    );
}

#[test]
fn one_request_a_connection_and_no_bodies() {
    let mut flow = Flow::prepare(seed(), |_| {});
    flow.start();
    let twice = "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2);
    let answer = exchange(&flow.daemon, twice.as_bytes());
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
    let answer = exchange(&flow.daemon, b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    let answer = exchange(&flow.daemon, b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let answer = exchange(&flow.daemon, b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"), "{answer}");
    eventually("no connection is left open", SOON, || (descriptors(&flow.daemon) < 100).then_some(()));
}

/// The image's environment sets where it listens; what a person writes in the file wins, `FOREBAY_HTTP__LISTEN` over both.
#[test]
fn listen_in_the_file_wins_over_the_images_default() {
    let dockerfile = std::fs::read_to_string(crate::support::repository().join("Dockerfile")).unwrap();
    let line = dockerfile.lines().find_map(|line| line.strip_prefix("ENV ")).unwrap();
    let (variable, value) = line.split_once('=').unwrap();
    let text =
        "name = \"lab\"\nsource.url = \"postgres://u@h/d\"\nkinesis.stream = \"s\"\nbuffer.dir = \"/b\"\n";
    let listen = |text: &str, environment: &[(&str, &str)]| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        forebay::config::Config::read(file.path(), environment).unwrap().http.listen.to_string()
    };
    let written = format!("{text}http.listen = \"127.0.0.1:9999\"\n");
    let own = ("FOREBAY_HTTP__LISTEN", "127.0.0.1:1234");
    assert_eq!(listen(text, &[]), "127.0.0.1:9187");
    assert_eq!(listen(text, &[(variable, value)]), "0.0.0.0:9187");
    assert_eq!(listen(&written, &[(variable, value)]), "127.0.0.1:9999");
    assert_eq!(listen(&written, &[(variable, value), own]), "127.0.0.1:1234");
}
