//! Lists and reads the objects of an S3 bucket: with signed requests over our own connections. The SDK for S3
//! would be the largest dependency, for two operations.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials as Identity;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HOST, HeaderName, HeaderValue, RANGE};
use hyper::{Request, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tokio::time::sleep;

use super::RESPONSE_MAX;
use crate::sink::kinesis::address::ServiceAddress;
use crate::sink::kinesis::connect::Dialer;
use crate::sink::kinesis::credentials::Credentials;
use crate::sink::kinesis::environment::{Environment, Settings};
use crate::sink::kinesis::pool::{HttpConnection, PutResponse};

/// Bytes of an object that one request reads.
const PIECE: u64 = 1 << 20;
/// Attempts of a request. The first pause between them doubles after each.
const ATTEMPTS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(250);
/// Characters that S3 does not encode in a path, and in a query.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// An object of the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketObject {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
}

/// A page of a list, for [`Bucket::list`].
#[derive(Clone, Debug)]
pub struct ObjectPage(Option<String>);

/// The objects of a bucket below `events/`.
#[derive(Debug)]
pub struct Bucket {
    address: Arc<ServiceAddress>,
    /// What comes before the key in paths: `/`, or `/bucket/`.
    path: String,
    prefix: String,
    region: String,
    credentials: Credentials,
    dialer: Dialer,
}

impl Bucket {
    /// Opens a location `s3://bucket` or `s3://bucket/prefix`. `endpoint` is an address other than AWS's.
    /// Default: `AWS_ENDPOINT_URL_S3`, then `AWS_ENDPOINT_URL`.
    ///
    /// # Errors
    /// The location is invalid, no region is known, or a value of the environment cannot be used.
    pub async fn open(settings: &Settings, location: &str, endpoint: Option<&str>) -> Result<Self, String> {
        let rest = location.strip_prefix("s3://").unwrap_or_default();
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_name =
            |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | '_');
        if bucket.is_empty() || !bucket.chars().all(is_name) {
            return Err(format!("{location:?} is not of the form s3://bucket or s3://bucket/prefix"));
        }
        let environment =
            Environment::read_with(settings, RESPONSE_MAX).await.map_err(|problem| problem.lines())?;
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = endpoint.map(str::to_owned);
        let endpoint =
            endpoint.or_else(|| variable("AWS_ENDPOINT_URL_S3")).or_else(|| variable("AWS_ENDPOINT_URL"));
        let region = environment.region.to_string();
        let (url, path) = match endpoint {
            Some(endpoint) => (endpoint, format!("/{bucket}/")),
            // The wildcard certificate of AWS does not cover bucket names with dots.
            None if bucket.contains('.') => (aws(&region, ""), format!("/{bucket}/")),
            None => (aws(&region, &format!("{bucket}.")), "/".to_owned()),
        };
        let prefix = prefix.trim_end_matches('/');
        let prefix = if prefix.is_empty() { "events/".to_owned() } else { format!("{prefix}/events/") };
        let credentials = Credentials::new(
            environment.network.sdk.clone(),
            environment.region.clone(),
            &environment.shared,
        );
        Ok(Self {
            address: Arc::new(ServiceAddress::parse(&url)?),
            path,
            prefix,
            region,
            credentials,
            dialer: Dialer::new(environment.network),
        })
    }

    /// The first page of the list.
    pub const fn first_page(&self) -> Option<ObjectPage> {
        Some(ObjectPage(None))
    }

    /// The objects of a page, and the next page.
    ///
    /// # Errors
    /// The service rejects the request or does not respond.
    pub async fn list(&self, page: ObjectPage) -> Result<(Vec<BucketObject>, Option<ObjectPage>), String> {
        let encoded = |text: &str| utf8_percent_encode(text, QUERY).to_string();
        let mut query = String::new();
        if let Some(token) = &page.0 {
            query = format!("continuation-token={}&", encoded(token));
        }
        // Parameters are in alphabetical order, as the signature requires.
        let path =
            format!("{}?{query}encoding-type=url&list-type=2&prefix={}", self.path, encoded(&self.prefix));
        let body = self.get_path(&path, None, "s3:ListBucket").await?;
        let text = String::from_utf8_lossy(&body);
        let objects = text.split("<Contents>").skip(1).map(|object| {
            let key = element(object, "Key").map(|key| key.replace('+', " "));
            let key = percent_decode_str(key.as_deref()?).decode_utf8().ok()?.into_owned();
            Some(BucketObject { key, size: element(object, "Size")?.parse().ok()? })
        });
        let objects: Option<Vec<_>> = objects.collect();
        let objects = objects.ok_or_else(|| "the list of objects cannot be read".to_owned())?;
        let next = element(&text, "NextContinuationToken");
        Ok((objects, next.map(|token| ObjectPage(Some(token.to_owned())))))
    }

    /// The next bytes of an object, beginning at `from`.
    ///
    /// # Errors
    /// The service rejects the request or does not respond, or the object has changed.
    pub async fn get(&self, object: &BucketObject, from: u64) -> Result<Bytes, String> {
        let path = format!("{}{}", self.path, utf8_percent_encode(&object.key, PATH));
        let last = (from + PIECE).min(object.size).saturating_sub(1);
        let bytes = self.get_path(&path, Some((from, last)), "s3:GetObject").await?;
        if bytes.len() as u64 != last + 1 - from {
            return Err(format!(
                "object {} is {} bytes short: it has changed",
                object.key,
                last + 1 - from - bytes.len() as u64
            ));
        }
        Ok(bytes)
    }

    /// Sends a request, and retries errors that may pass.
    async fn get_path(&self, path: &str, range: Option<(u64, u64)>, right: &str) -> Result<Bytes, String> {
        let mut pause = PAUSE;
        for attempt in 1.. {
            let again = match self.attempt(path, range).await {
                Ok((parts, body)) if parts.status.is_success() => return Ok(body),
                Ok((parts, body)) => {
                    let code = String::from_utf8_lossy(&body);
                    let code = element(&code, "Code").unwrap_or("no code").to_owned();
                    let text = format!("S3 refused {path}: {} {code}", parts.status);
                    let may_pass =
                        parts.status.is_server_error() || parts.status == StatusCode::TOO_MANY_REQUESTS;
                    if !may_pass {
                        let hint = format!("\n  hint: An audit of the bucket needs {right} on it.");
                        return Err(if parts.status == StatusCode::FORBIDDEN { text + &hint } else { text });
                    }
                    text
                }
                Err(error) => error,
            };
            if attempt == ATTEMPTS {
                return Err(again);
            }
            sleep(pause).await;
            pause *= 2;
        }
        Err("no attempt".to_owned())
    }

    async fn attempt(&self, path: &str, range: Option<(u64, u64)>) -> Result<PutResponse, String> {
        let identity = self.credentials.identity().await?;
        let request = self.request(path, range, &identity)?;
        let at = &self.address.origin;
        let stream =
            self.dialer.connect(&self.address).await.map_err(|error| format!("S3 at {at}: {error}"))?;
        let connection = HttpConnection::new(stream, Arc::clone(&self.address)).await;
        let mut connection = connection.map_err(|error| format!("S3 at {at}: {error}"))?;
        connection.exchange(request).await.map_err(|error| format!("S3 at {at} did not respond: {error:?}"))
    }

    fn request(
        &self,
        path: &str,
        range: Option<(u64, u64)>,
        identity: &Identity,
    ) -> Result<Request<Full<Bytes>>, String> {
        let base = self.address.origin.to_string();
        let url = format!("{}{path}", base.trim_end_matches('/'));
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let identity = identity.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("s3")
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(|error| error.to_string())?;
        let signable = SignableRequest::new("GET", &url, std::iter::empty(), SignableBody::Bytes(&[]));
        let signed = signable.and_then(|signable| sign(signable, &parameters.into()));
        let (instructions, _) = signed.map_err(|error| error.to_string())?.into_parts();
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.uri_mut() = path.parse().map_err(|error| format!("{path}: {error}"))?;
        let headers = request.headers_mut();
        headers.insert(HOST, self.address.host.clone());
        for (name, value) in instructions.headers() {
            let wrong = "the credentials have a character that cannot be sent";
            let value = HeaderValue::from_str(value).map_err(|_| wrong.to_owned())?;
            headers.insert(HeaderName::try_from(name).map_err(|error| error.to_string())?, value);
        }
        if let Some((first, last)) = range {
            let value = format!("bytes={first}-{last}");
            headers.insert(RANGE, HeaderValue::try_from(value).map_err(|error| error.to_string())?);
        }
        Ok(request)
    }
}

/// AWS's own address of a bucket.
fn aws(region: &str, bucket: &str) -> String {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://{bucket}s3.{region}.{domain}")
}

/// The text of an element without children. Object keys in it are URL-encoded, so it has no XML escapes.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(value, _)| value)
}
