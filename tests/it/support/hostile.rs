//! A scripted PostgreSQL server for one connection: it sends what the test wants, and remembers what it received.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::tls::Tls;

/// A step of the script, after the start-up message.
#[derive(Clone, Debug)]
pub enum Step {
    /// Send these bytes.
    Send(Vec<u8>),
    /// Read one message.
    Read,
    /// Send bytes until nobody takes them.
    SendForever,
}

/// The server, listening.
#[derive(Debug)]
pub struct Hostile {
    listener: TcpListener,
    tls: Option<(tempfile::TempDir, Tls)>,
}

/// A backend message.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

/// An authentication request.
pub fn auth(code: u32, rest: &[u8]) -> Vec<u8> {
    message(b'R', &[&code.to_be_bytes()[..], rest].concat())
}

impl Hostile {
    /// On every address of this machine. With TLS, it has a certificate of an authority of its own.
    pub async fn start(tls: bool) -> Self {
        let tls = tls.then(|| {
            let directory = tempfile::tempdir().unwrap();
            let tls = Tls::generate(directory.path());
            (directory, tls)
        });
        Self { listener: TcpListener::bind("0.0.0.0:0").await.unwrap(), tls }
    }

    /// With TLS, and as its certificate that of its own authority: self-signed.
    pub async fn start_self_signed() -> Self {
        let mut server = Self::start(true).await;
        if let Some((directory, tls)) = &mut server.tls {
            tls.certificate.clone_from(&tls.ca);
            tls.key = directory.path().join("ca.key");
        }
        server
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// Its certificates.
    pub fn tls(&self) -> &Tls {
        &self.tls.as_ref().expect("started with TLS").1
    }

    /// Serves one connection by the script, until the client has gone. Gives all that the client sent.
    pub async fn serve(&self, steps: &[Step]) -> Vec<u8> {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut seen = Vec::new();
        // A client that goes ends the script: what it saw until then is what matters.
        match self.negotiate(&mut stream, &mut seen).await {
            Some(acceptor) => {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    run(&mut stream, true, steps, &mut seen).await;
                }
            }
            None => run(&mut stream, false, steps, &mut seen).await,
        }
        seen
    }

    /// Answers a request for TLS. Without one, the start-up message has been read.
    async fn negotiate(&self, stream: &mut TcpStream, seen: &mut Vec<u8>) -> Option<TlsAcceptor> {
        if read_startup(stream, seen).await? != 80_877_103 {
            return None;
        }
        if self.tls.is_none() {
            stream.write_all(b"N").await.ok()?;
            read_startup(stream, seen).await?;
            return None;
        }
        stream.write_all(b"S").await.ok()?;
        Some(self.acceptor())
    }

    fn acceptor(&self) -> TlsAcceptor {
        let (_, tls) = self.tls.as_ref().unwrap();
        let chain = vec![CertificateDer::from_pem_file(&tls.certificate).unwrap()];
        let key = PrivateKeyDer::from_pem_file(&tls.key).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Reads a message without a tag, and gives its code.
async fn read_startup(stream: &mut (impl AsyncRead + Unpin), seen: &mut Vec<u8>) -> Option<u32> {
    let length = stream.read_u32().await.ok()?;
    let mut body = vec![0; usize::try_from(length).unwrap() - 4];
    stream.read_exact(&mut body).await.ok()?;
    seen.extend_from_slice(&body);
    body.first_chunk().map(|code| u32::from_be_bytes(*code))
}

async fn run(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    awaits_startup: bool,
    steps: &[Step],
    seen: &mut Vec<u8>,
) {
    if awaits_startup && read_startup(stream, seen).await.is_none() {
        return;
    }
    for step in steps {
        let done = match step {
            Step::Send(bytes) => stream.write_all(bytes).await.ok(),
            Step::SendForever => {
                while stream.write_all(&[0; 4096]).await.is_ok() {}
                None
            }
            Step::Read => read_message(stream, seen).await,
        };
        if done.is_none() {
            break;
        }
    }
    // Whatever else the client says.
    while stream.read_buf(seen).await.is_ok_and(|size| size > 0) {}
}

async fn read_message(stream: &mut (impl AsyncRead + Unpin), seen: &mut Vec<u8>) -> Option<()> {
    let tag = stream.read_u8().await.ok()?;
    let length = stream.read_u32().await.ok()?;
    let mut body = vec![0; usize::try_from(length).unwrap() - 4];
    stream.read_exact(&mut body).await.ok()?;
    seen.push(tag);
    seen.extend_from_slice(&body);
    Some(())
}
