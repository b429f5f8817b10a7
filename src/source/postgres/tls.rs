//! TLS with the semantics of libpq's `sslmode`, on rustls with an explicit ring provider.
//!
//! Whether a certificate is verified depends on `sslmode` and on whether a root certificate is given: with
//! one, every mode verifies the chain; without one, `verify-full` uses the operating system's certificate
//! authorities, and `verify-ca` is rejected.

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

use crate::failure::{Explain, Problem};

use super::conninfo::{RootCert, Settings, SslMode};
use super::passfile;

/// Why TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The server does not offer TLS.
    #[error("the server does not offer TLS, but sslmode requires it")]
    NotOffered,
    /// A certificate or key file cannot be used.
    #[error("{}: {}", path.display(), problem.primary())]
    File {
        /// The file.
        path: PathBuf,
        /// The error, without the file's name.
        problem: Problem,
    },
    /// The key belongs to another certificate.
    #[error("sslkey {} does not belong to sslcert {}", key.display(), cert.display())]
    KeyMismatch {
        /// `sslcert`.
        cert: PathBuf,
        /// `sslkey`.
        key: PathBuf,
    },
    /// The operating system's certificate authorities cannot be read, or the client certificate is invalid.
    #[error("cannot set up TLS: {0}")]
    SetUp(RustlsError),
    /// The host is neither a name nor an address.
    #[error("{0:?} is neither a host name nor an address")]
    HostName(String),
    /// The server's certificate is rejected, or the handshake failed.
    #[error("{}", fact(cause))]
    Handshake {
        /// The error of rustls or of the operating system.
        cause: std::io::Error,
        /// Whether `sslrootcert` is a file.
        own_authority: bool,
    },
}

impl TlsError {
    /// Whether the error persists until a setting or a certificate is changed.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::NotOffered
            | Self::File { .. }
            | Self::KeyMismatch { .. }
            | Self::SetUp(_)
            | Self::HostName(_) => true,
            Self::Handshake { cause, .. } => rustls_error(cause).is_some(),
        }
    }
}

impl Explain for TlsError {
    fn detail(&self) -> Option<String> {
        match self {
            Self::Handshake { cause, .. } => Some(cause.to_string()),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotOffered => Some("Set ssl = on on the server, or sslmode=disable in the URL.".to_owned()),
            Self::KeyMismatch { .. } => Some("Name the key of sslcert.".to_owned()),
            Self::SetUp(_) => Some("Name the server's authority with sslrootcert=….".to_owned()),
            Self::Handshake { cause, own_authority } => advice(cause, *own_authority).map(str::to_owned),
            Self::File { problem, .. } => problem.hint().map(str::to_owned),
            Self::HostName(_) => None,
        }
    }
}

fn rustls_error(cause: &std::io::Error) -> Option<&RustlsError> {
    cause.get_ref().and_then(|inner| inner.downcast_ref())
}

fn certificate_error(cause: &std::io::Error) -> Option<&CertificateError> {
    match rustls_error(cause) {
        Some(RustlsError::InvalidCertificate(error)) => Some(error),
        _ => None,
    }
}

/// webpki's error for a self-signed certificate. rustls does not export its type.
fn is_self_signed(error: &CertificateError) -> bool {
    matches!(error, CertificateError::Other(_)) && format!("{error:?}").contains("CaUsedAsEndEntity")
}

fn fact(cause: &std::io::Error) -> String {
    use CertificateError as Certificate;
    match certificate_error(cause) {
        Some(Certificate::ExpiredContext { not_after, .. }) => {
            format!("the server's certificate expired on {}", date(*not_after))
        }
        Some(Certificate::Expired) => "the server's certificate has expired".to_owned(),
        Some(Certificate::NotValidYetContext { not_before, .. }) => {
            format!("the server's certificate is not valid before {}", date(*not_before))
        }
        Some(Certificate::NotValidYet) => "the server's certificate is not valid yet".to_owned(),
        Some(Certificate::UnknownIssuer | Certificate::BadSignature) => {
            "the server's certificate is signed by an authority that is not trusted".to_owned()
        }
        Some(Certificate::NotValidForName | Certificate::NotValidForNameContext { .. }) => {
            "the server's certificate is for another host".to_owned()
        }
        Some(error) if is_self_signed(error) => {
            "the server's certificate is self-signed and not the one in sslrootcert".to_owned()
        }
        _ => format!("the handshake failed: {cause}"),
    }
}

fn advice(cause: &std::io::Error, own_authority: bool) -> Option<&'static str> {
    use CertificateError as Certificate;
    Some(match certificate_error(cause)? {
        Certificate::ExpiredContext { .. }
        | Certificate::Expired
        | Certificate::NotValidYetContext { .. }
        | Certificate::NotValidYet => "Renew it, or check the clock of this machine.",
        // The key differs from that of the authority with the same name.
        Certificate::UnknownIssuer | Certificate::BadSignature => {
            "Name the file with its authority in sslrootcert=…."
        }
        Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } if own_authority => {
            "Connect by a name in the certificate, or use sslmode=verify-ca, which does not check the name."
        }
        Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
            "Connect by a name in the certificate."
        }
        error if is_self_signed(error) => "Name the certificate itself in sslrootcert=….",
        _ => return None,
    })
}

/// The day in UTC.
fn date(time: UnixTime) -> String {
    let micros = i64::try_from(time.as_secs()).unwrap_or_default().saturating_mul(1_000_000);
    let mut text = Vec::new();
    crate::time::write_rfc3339(&mut text, micros);
    text.truncate("2026-11-21".len());
    String::from_utf8_lossy(&text).into_owned()
}

/// The configuration for one server, used for replication and SQL alike.
///
/// # Errors
/// A configured file, or the operating system's authorities, cannot be read.
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
                problem: problem.unwrap_or_else(|| "the key file does not exist".into()),
            })?;
            let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| TlsError::File {
                path: key.clone(),
                problem: format!("holds no private key in PEM form that can be read: {error}").into(),
            })?;
            builder.with_client_auth_cert(chain, private).map_err(|error| match error {
                RustlsError::InconsistentKeys(_) => {
                    TlsError::KeyMismatch { cert: cert.clone(), key: key.clone() }
                }
                error => TlsError::SetUp(error),
            })?
        }
    };
    Ok(Arc::new(config))
}

/// The name against which the server's certificate is checked.
///
/// # Errors
/// It is neither a host name nor an address.
pub fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(host.to_owned()).map_err(|_| TlsError::HostName(host.to_owned()))
}

/// Whether TLS with these settings verifies the server by an authority.
pub(super) fn is_verified(settings: &Settings) -> bool {
    settings.root_cert.is_some() || settings.ssl_mode >= SslMode::VerifyCa
}

fn verifier(
    settings: &Settings,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let names = settings.ssl_mode == SslMode::VerifyFull;
    let (inner, pinned): (Arc<dyn ServerCertVerifier>, _) = match &settings.root_cert {
        None if !is_verified(settings) => {
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
                .map_err(|error| TlsError::File { path: path.clone(), problem: error.to_string().into() })?;
            (verifier, certificates)
        }
    };
    Ok(Arc::new(Verified { inner, pinned, names }))
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |problem: String| TlsError::File { path: path.clone(), problem: problem.into() };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad(format!("cannot be read as PEM certificates: {error}")))?;
    if certificates.is_empty() {
        return Err(bad("holds no certificate in PEM form".to_owned()));
    }
    Ok(certificates)
}

/// Verifies the certificate chain, and optionally the host name.
#[derive(Debug)]
struct Verified {
    inner: Arc<dyn ServerCertVerifier>,
    /// Certificates of the root file. A self-signed one may be the server's own, as in PostgreSQL's manual.
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
            // webpki checks the name last, so the chain is valid.
            Err(RustlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.names => Ok(ServerCertVerified::assertion()),
            // webpki checks the validity period before it rejects an authority's certificate as a server's.
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

/// Encrypts without verification: accepts any certificate, as libpq's `require` does without a root
/// certificate.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// rustls returns seconds since 1970.
    #[test]
    fn expired_certificate_is_named_with_its_day() {
        let at = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let handshake = |error| TlsError::Handshake {
            cause: std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                RustlsError::InvalidCertificate(error),
            ),
            own_authority: false,
        };
        let (time, day) = (at(1_795_910_360), at(1_609_459_200));
        let expired = handshake(CertificateError::ExpiredContext { time, not_after: day });
        assert_eq!(expired.to_string(), "the server's certificate expired on 2021-01-01");
        assert!(expired.hint().unwrap().contains("clock"));
        let early = handshake(CertificateError::NotValidYetContext { time: day, not_before: time });
        assert_eq!(early.to_string(), "the server's certificate is not valid before 2026-11-28");
        let other = handshake(CertificateError::NotValidForName);
        assert!(!other.hint().unwrap().contains("verify-ca"), "it would be refused");
    }
}
