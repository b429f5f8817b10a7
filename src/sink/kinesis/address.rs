//! The address that requests are sent to, by the SDK's own rules: region, FIPS, dual stack, an endpoint in
//! the environment, and the account of an ARN or of the credentials.

use aws_config::SdkConfig;
use aws_sdk_kinesis::config::endpoint::{DefaultResolver, Params, ResolveEndpoint as _};
use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::http::uri::{PathAndQuery, Scheme};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::environment::Environment;

/// Characters that a signature encodes in a path, in addition to the path's own encoding.
const SIGNED_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An address of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceAddress {
    /// Scheme, host and port.
    pub(super) origin: Uri,
    /// Value of the header `host`: without the scheme's default port.
    pub(super) host: HeaderValue,
    /// Path of every request.
    pub(super) path: PathAndQuery,
    /// The path as it appears in the signature.
    pub(super) signed_path: String,
}

impl ServiceAddress {
    /// # Errors
    /// The text is not an address with a host.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let wrong = |what: &dyn std::fmt::Display| format!("the endpoint {url} cannot be used: {what}");
        let uri: Uri = url.parse().map_err(|error| wrong(&error))?;
        let (Some(authority), Some(scheme)) = (uri.authority(), uri.scheme()) else {
            return Err(wrong(&"it has no host"));
        };
        let usual = if *scheme == Scheme::HTTPS { 443 } else { 80 };
        let host = match authority.port_u16() {
            Some(port) if port == usual => authority.host(),
            _ => authority.as_str(),
        };
        let path = format!("{}/", uri.path().trim_end_matches('/'));
        Ok(Self {
            host: host.parse().map_err(|error| wrong(&error))?,
            signed_path: signed_path(&path),
            path: path.parse().map_err(|error| wrong(&error))?,
            origin: uri,
        })
    }

    /// Whether connections are encrypted.
    pub(super) fn is_https(&self) -> bool {
        self.origin.scheme() == Some(&Scheme::HTTPS)
    }
}

/// The path without empty, `.` and `..` segments, encoded as in the signature.
fn signed_path(path: &str) -> String {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(utf8_percent_encode(segment, SIGNED_PATH).to_string()),
        }
    }
    if segments.is_empty() { "/".to_owned() } else { format!("/{}/", segments.join("/")) }
}

/// Whether the address belongs to AWS, such as that of a VPC endpoint.
pub(super) fn is_aws(endpoint: &str) -> bool {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let host = rest.split(['/', ':']).next().unwrap_or_default();
    [".amazonaws.com", ".amazonaws.com.cn", ".api.aws"].iter().any(|end| host.ends_with(end))
}

/// The ARN of a stream in any account, as an IAM policy contains it.
pub(super) fn resource(region: &str, stream: &str) -> String {
    let partition = [("cn-", "aws-cn"), ("us-gov-", "aws-us-gov")];
    let partition =
        partition.iter().find(|(start, _)| region.starts_with(start)).map_or("aws", |(_, name)| name);
    format!("arn:{partition}:kinesis:{region}:*:stream/{stream}")
}

/// Inputs of the SDK's rules, except the account of the credentials.
#[derive(Debug)]
pub(super) struct AddressRules {
    resolver: DefaultResolver,
    region: String,
    endpoint: Option<String>,
    stream_arn: Option<String>,
    use_fips: Option<bool>,
    use_dual_stack: Option<bool>,
    account_mode: String,
}

impl AddressRules {
    pub(super) fn new(environment: &Environment, stream_arn: Option<&str>) -> Self {
        let shared: &SdkConfig = &environment.shared;
        Self {
            resolver: DefaultResolver::new(),
            region: environment.region.to_string(),
            endpoint: environment.endpoint.clone(),
            stream_arn: stream_arn.map(str::to_owned),
            use_fips: shared.use_fips(),
            use_dual_stack: shared.use_dual_stack(),
            account_mode: shared.account_id_endpoint_mode().cloned().unwrap_or_default().to_string(),
        }
    }

    /// The address for credentials of this account.
    ///
    /// # Errors
    /// The rules give no address, such as for FIPS in a region without it.
    pub(super) async fn resolve(&self, account: Option<&str>) -> Result<ServiceAddress, String> {
        let parameters = Params::builder()
            .region(self.region.clone())
            .set_use_fips(self.use_fips)
            .set_use_dual_stack(self.use_dual_stack)
            .set_endpoint(self.endpoint.clone())
            .set_account_id(account.map(str::to_owned))
            .account_id_endpoint_mode(self.account_mode.clone())
            .operation_type("data")
            .set_stream_arn(self.stream_arn.clone())
            .build()
            .map_err(|error| error.to_string())?;
        let endpoint =
            self.resolver.resolve_endpoint(&parameters).await.map_err(|error| error.to_string())?;
        ServiceAddress::parse(endpoint.url())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:kinesis:eu-central-1:123456789012:stream/lab";

    #[test]
    fn endpoint_of_aws_is_told_from_its_substitutes() {
        for (endpoint, expected) in [
            ("https://vpce-1.kinesis.eu-central-1.vpce.amazonaws.com", true),
            ("https://kinesis.cn-north-1.amazonaws.com.cn:443/", true),
            ("https://kinesis.eu-central-1.api.aws/x", true),
            ("http://127.0.0.1:4566", false),
            ("http://kinesis.eu-central-1.amazonaws.com.localhost.localstack.cloud:4566", false),
            ("http://[::1]:4566", false),
        ] {
            assert_eq!(is_aws(endpoint), expected, "{endpoint}");
        }
    }

    fn rules(region: &str) -> AddressRules {
        AddressRules {
            resolver: DefaultResolver::new(),
            region: region.to_owned(),
            endpoint: None,
            stream_arn: None,
            use_fips: None,
            use_dual_stack: None,
            account_mode: "preferred".to_owned(),
        }
    }

    #[tokio::test]
    async fn addresses_follow_region_account_and_settings() {
        let usual = || rules("eu-central-1");
        let arn = || Some(ARN.to_owned());
        for (rules, host) in [
            (usual(), "kinesis.eu-central-1.amazonaws.com"),
            (rules("cn-north-1"), "kinesis.cn-north-1.amazonaws.com.cn"),
            (rules("us-gov-west-1"), "kinesis.us-gov-west-1.amazonaws.com"),
            (
                AddressRules { use_fips: Some(true), ..rules("us-east-1") },
                "kinesis-fips.us-east-1.amazonaws.com",
            ),
            (AddressRules { use_dual_stack: Some(true), ..usual() }, "kinesis.eu-central-1.api.aws"),
            (
                AddressRules { stream_arn: arn(), ..usual() },
                "123456789012.data-kinesis.eu-central-1.amazonaws.com",
            ),
            (
                AddressRules { stream_arn: arn(), use_dual_stack: Some(true), ..usual() },
                "123456789012.data-kinesis.eu-central-1.api.aws",
            ),
            (
                AddressRules {
                    stream_arn: arn(),
                    endpoint: Some("https://vpce-1.example:443/x/".to_owned()),
                    ..usual()
                },
                "vpce-1.example",
            ),
        ] {
            let address = rules.resolve(None).await.unwrap();
            assert_eq!((address.host.to_str().unwrap(), address.is_https()), (host, true));
        }
        let none = AddressRules { account_mode: "required".to_owned(), ..usual() };
        drop(none.resolve(None).await);
        let fips = AddressRules { use_fips: Some(true), endpoint: Some("https://h".to_owned()), ..usual() };
        assert!(fips.resolve(None).await.is_err());
    }

    #[test]
    fn paths_and_ports_of_endpoints_are_kept() {
        for (url, host, path, signed) in [
            ("http://127.0.0.1:4566", "127.0.0.1:4566", "/", "/"),
            ("http://h:80/", "h", "/", "/"),
            ("https://h:80/a", "h:80", "/a/", "/a/"),
            ("http://[::1]:4566/kinesis/x", "[::1]:4566", "/kinesis/x/", "/kinesis/x/"),
            ("http://h/a%20b//c/../d", "h", "/a%20b//c/../d/", "/a%2520b/d/"),
        ] {
            let address = ServiceAddress::parse(url).unwrap();
            let seen = (address.host.to_str().unwrap(), address.path.as_str(), address.signed_path.as_str());
            assert_eq!(seen, (host, path, signed), "{url}");
        }
        assert!(ServiceAddress::parse("/x").is_err());
    }
}
