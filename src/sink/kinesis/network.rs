//! Proxy and certificate authorities from the environment, for the SDK's client and for our own connections.

use std::path::Path;
use std::sync::Arc;

use aws_sdk_kinesis::config::SharedHttpClient;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};
use hyper_util::client::proxy::matcher::Matcher;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::bounded::bounded;

/// Connection settings.
#[derive(Debug)]
pub(super) struct Network {
    /// The SDK's HTTP client, for control calls and credential providers.
    pub(super) sdk: SharedHttpClient,
    /// Which addresses are reached through a proxy.
    pub(super) proxy: Option<Matcher>,
    /// Certificates of `AWS_CA_BUNDLE`; `None`: the system's certificate authorities are trusted.
    bundle: Option<RootCertStore>,
}

impl Network {
    /// Reads the environment. Responses to the SDK may have at most `response_max` bytes.
    ///
    /// # Errors
    /// A variable cannot be used. The error names it.
    pub(super) fn read(response_max: usize) -> Result<Self, String> {
        let proxy = ProxySettings::read()?;
        let bundle = match std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty()) {
            Some(path) => Some(bundle(Path::new(&path))?),
            None => None,
        };
        let (roots, bundle) = match bundle {
            Some((pem, roots)) => (TrustStore::empty().with_pem_certificate(pem), Some(roots)),
            None => (TrustStore::default(), None),
        };
        let sdk = sdk_client(proxy.as_ref().map(ProxySettings::for_sdk).transpose()?, roots, response_max)?;
        Ok(Self { sdk, proxy: proxy.map(ProxySettings::matcher), bundle })
    }

    /// TLS settings for HTTP/1.1.
    ///
    /// # Errors
    /// The system's certificate authorities cannot be read.
    pub(super) fn tls(&self) -> Result<Arc<ClientConfig>, String> {
        let provider = Arc::new(ring::default_provider());
        let wrong = |error: rustls::Error| format!("cannot set up TLS: {error}");
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(wrong)?;
        let mut config = if let Some(roots) = &self.bundle {
            builder.with_root_certificates(roots.clone()).with_no_client_auth()
        } else {
            let verifier = rustls_platform_verifier::Verifier::new(provider).map_err(wrong)?;
            let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
            builder.with_no_client_auth()
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// The SDK's HTTP client, with bounded responses.
fn sdk_client(
    proxy: Option<ProxyConfig>,
    roots: TrustStore,
    response_max: usize,
) -> Result<SharedHttpClient, String> {
    let tls = TlsContext::builder().with_trust_store(roots).build().map_err(|error| error.to_string())?;
    let client = Builder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = Connector::builder();
        builder.set_connector_settings(settings.cloned());
        builder.set_proxy_config(proxy.clone());
        if let Some(components) = components {
            builder.set_sleep_impl(components.sleep_impl());
        }
        builder.tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(tls.clone()).build()
    });
    Ok(bounded(client, response_max))
}

/// The certificates of `AWS_CA_BUNDLE`, which replace the system's: as PEM, and parsed.
fn bundle(path: &Path) -> Result<(Vec<u8>, RootCertStore), String> {
    let wrong = |why: String| format!("AWS_CA_BUNDLE: {}: {why}", path.display());
    let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|error| wrong(format!("is not PEM: {error}")))?;
        roots
            .add(certificate)
            .map_err(|error| wrong(format!("has a certificate that cannot be used: {error}")))?;
    }
    if roots.is_empty() { Err(wrong("has no certificate".to_owned())) } else { Ok((bytes, roots)) }
}

/// The proxy for `https` addresses. `HTTP_PROXY` is not used, because services without TLS (metadata
/// services, emulators) are local.
struct ProxySettings {
    /// The variable that names it.
    variable: &'static str,
    /// Address of the proxy. It may contain a password.
    url: String,
    /// Hosts that are reached without the proxy (`NO_PROXY`).
    except: Option<String>,
}

impl ProxySettings {
    fn read() -> Result<Option<Self>, String> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
        let Some((variable, url)) = names.into_iter().find_map(|name| Some((name, set(name)?))) else {
            return Ok(None);
        };
        let url = if url.contains("://") { url } else { format!("http://{url}") };
        let is_http = url.starts_with("http://") || url.starts_with("https://");
        let except = ["NO_PROXY", "no_proxy"].into_iter().find_map(|name| std::env::var(name).ok());
        let proxy = Self { variable, url, except };
        if !is_http || !fits_header(&proxy.url) {
            return Err(proxy.wrong());
        }
        let host = proxy.url.rsplit_once('@').map_or(proxy.url.as_str(), |(_, host)| host);
        tracing::info!(
            event = "https_proxy",
            variable,
            proxy = host,
            "requests to https addresses go through a proxy"
        );
        Ok(Some(proxy))
    }

    /// The error about an invalid proxy address. It does not repeat the address, which may contain a
    /// password.
    fn wrong(&self) -> String {
        let name = self.variable;
        format!(
            "{name} is not the address of a proxy such as http://proxy.example:3128 (SOCKS is not supported)"
        )
    }

    fn for_sdk(&self) -> Result<ProxyConfig, String> {
        let proxy = ProxyConfig::https(self.url.as_str()).map_err(|_| self.wrong())?;
        Ok(match &self.except {
            Some(rules) => proxy.no_proxy(rules),
            None => proxy,
        })
    }

    fn matcher(self) -> Matcher {
        let matcher = Matcher::builder().https(self.url);
        matcher.no(self.except.unwrap_or_default()).build()
    }
}

/// Whether a value can be used in a header unchanged.
pub(super) fn fits_header(value: &str) -> bool {
    value.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) && value.trim() == value
}
