//! TLS as libpq's `sslmode` means it, on rustls with the ring provider given explicitly.
//!
//! Whether a certificate is verified depends on `sslmode` and on whether a root certificate is given: with one, every
//! mode verifies the chain; without, `verify-ca` and `verify-full` ask the operating system's authorities.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as RustlsError, RootCertStore,
    SignatureScheme,
};

use super::conninfo::{RootCert, Settings, SslMode};
use super::passfile;

/// Why TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The server does not offer it.
    #[error(
        "the server does not offer TLS, but sslmode asks for it; set `ssl = on` there, or sslmode=disable here"
    )]
    NotOffered,
    /// A certificate or key file cannot be used.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The operating system's authorities cannot be read, or our certificate does not fit its key.
    #[error("cannot set up TLS: {0}; name the server's authority with sslrootcert=…")]
    SetUp(RustlsError),
    /// The host is neither a name nor an address.
    #[error("{0:?} is neither a host name nor an address")]
    HostName(String),
    /// The handshake failed.
    #[error("the handshake failed: {cause}{}", advice(cause))]
    Handshake {
        /// What rustls or the operating system said.
        cause: std::io::Error,
    },
}

impl TlsError {
    /// Whether it stays as it is until somebody changes a setting or a certificate.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::NotOffered | Self::File { .. } | Self::SetUp(_) | Self::HostName(_) => true,
            Self::Handshake { cause } => rustls_error(cause).is_some(),
        }
    }
}

fn rustls_error(cause: &std::io::Error) -> Option<&RustlsError> {
    cause.get_ref().and_then(|inner| inner.downcast_ref())
}

fn advice(cause: &std::io::Error) -> &'static str {
    match rustls_error(cause) {
        Some(RustlsError::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "; name the authority that signed it with sslrootcert=…"
        }
        Some(RustlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "; connect by a name that the certificate holds, or use sslmode=verify-ca",
        _ => "",
    }
}

/// The configuration for one server, used for replication and SQL alike.
///
/// # Errors
/// A file that the settings name cannot be read, or the authorities cannot.
pub fn client_config(settings: &Settings) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = verifier(settings, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::SetUp)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match &settings.client_cert {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = certificates(cert)?;
            let pem = passfile::read_private(key).map_err(|problem| TlsError::File {
                path: key.clone(),
                problem: problem.unwrap_or_else(|| "the key file does not exist".to_owned()),
            })?;
            let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| TlsError::File {
                path: key.clone(),
                problem: format!("holds no private key in PEM form that can be read: {error}"),
            })?;
            builder.with_client_auth_cert(chain, key).map_err(TlsError::SetUp)?
        }
    };
    Ok(Arc::new(config))
}

/// The name that the server's certificate is checked against.
///
/// # Errors
/// It is neither a host name nor an address.
pub fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(host.to_owned()).map_err(|_| TlsError::HostName(host.to_owned()))
}

fn verifier(
    settings: &Settings,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let names = settings.ssl_mode == SslMode::VerifyFull;
    let (inner, pinned): (Arc<dyn ServerCertVerifier>, _) = match &settings.root_cert {
        None if settings.ssl_mode < SslMode::VerifyCa => {
            return Ok(Arc::new(NotVerified(Arc::clone(provider))));
        }
        None | Some(RootCert::System) => {
            let platform =
                rustls_platform_verifier::Verifier::new(Arc::clone(provider)).map_err(TlsError::SetUp)?;
            (Arc::new(platform), Vec::new())
        }
        Some(RootCert::File(path)) => {
            let certificates = certificates(path)?;
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates.iter().cloned());
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                .build()
                .map_err(|error| TlsError::File { path: path.clone(), problem: error.to_string() })?;
            (verifier, certificates)
        }
    };
    Ok(Arc::new(Verified { inner, pinned, names }))
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |problem: String| TlsError::File { path: path.clone(), problem };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad(format!("cannot be read as PEM certificates: {error}")))?;
    if certificates.is_empty() {
        return Err(bad("holds no certificate in PEM form".to_owned()));
    }
    Ok(certificates)
}

/// Verifies the chain, and the name only if told so.
#[derive(Debug)]
struct Verified {
    inner: Arc<dyn ServerCertVerifier>,
    /// Certificates of the root file: a self-signed one may be the server's own, as PostgreSQL's manual makes it.
    pinned: Vec<CertificateDer<'static>>,
    names: bool,
}

impl ServerCertVerifier for Verified {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        let verdict =
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verdict {
            // webpki looks at the name last, so the chain is good.
            Err(RustlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.names => Ok(ServerCertVerified::assertion()),
            // webpki looks at the validity before it refuses an authority's certificate as a server's.
            Err(RustlsError::InvalidCertificate(CertificateError::Other(_)))
                if self.pinned.iter().any(|pinned| pinned == end_entity) =>
            {
                if self.names {
                    let certificate = ParsedCertificate::try_from(end_entity)?;
                    rustls::client::verify_server_name(&certificate, server_name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Encrypts, and trusts anybody who holds the key of the certificate shown: libpq's `require` without a root.
#[derive(Debug)]
struct NotVerified(Arc<CryptoProvider>);

impl ServerCertVerifier for NotVerified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
