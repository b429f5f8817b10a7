//! The signature of a put: AWS Signature Version 4 over the few headers that we send. Does no I/O; the time
//! is a parameter.
//!
//! The SDK can sign any request. Ours always have the same method, path and headers, so the canonical request
//! is written directly, and the derived key is kept for its day.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use sha2::{Digest as _, Sha256};

use crate::time::write_rfc3339;

/// The service's name in signatures.
pub(super) const SERVICE: &str = "kinesis";
/// The media type of requests.
pub(super) const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

/// The signed parts of a request, besides body and time.
#[derive(Clone, Copy, Debug)]
pub(super) struct SignedParts<'a> {
    pub(super) region: &'a str,
    pub(super) host: &'a str,
    /// Path, normalized and encoded.
    pub(super) path: &'a str,
    /// Value of the header `x-amz-target`.
    pub(super) operation: &'a str,
}

/// The headers that a signature adds.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Signature {
    /// Value of `x-amz-date`.
    pub(super) date: String,
    /// Value of `authorization`.
    pub(super) authorization: String,
}

/// The signing key, derived from the secret for one day, region and service.
pub(super) struct DayKey {
    /// The day, such as `20261129`.
    day: String,
    key: Vec<u8>,
}

impl fmt::Debug for DayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DayKey").field("day", &self.day).finish_non_exhaustive()
    }
}

/// Signs a request with this body. `kept` has the key of the last request with the same credentials and
/// region.
pub(super) fn sign(
    parts: SignedParts<'_>,
    credentials: &Credentials,
    kept: &mut Option<DayKey>,
    (body, now): (&[u8], SystemTime),
) -> Signature {
    let date = basic_date(now);
    let day = date.get(.."20261129".len()).unwrap_or_default();
    let key = match kept.take() {
        Some(key) if key.day == day => key,
        _ => {
            let secret = credentials.secret_access_key();
            let key = generate_signing_key(secret, now, parts.region, SERVICE).as_ref().to_vec();
            DayKey { day: day.to_owned(), key }
        }
    };
    let scope = format!("{day}/{}/{SERVICE}/aws4_request", parts.region);
    let signed = if credentials.session_token().is_some() {
        "content-type;host;x-amz-date;x-amz-security-token;x-amz-target"
    } else {
        "content-type;host;x-amz-date;x-amz-target"
    };
    let request = canonical_request(parts, credentials.session_token(), signed, (body, &date));
    let mut text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n");
    push_hex(&mut text, &Sha256::digest(request));
    let signature = calculate_signature(&key.key, text.as_bytes());
    *kept = Some(key);
    let id = credentials.access_key_id();
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={signed}, Signature={signature}");
    Signature { date, authorization }
}

fn canonical_request(
    SignedParts { host, path, operation, .. }: SignedParts<'_>,
    token: Option<&str>,
    signed: &str,
    (body, date): (&[u8], &str),
) -> String {
    let mut text = format!("POST\n{path}\n\ncontent-type:{CONTENT_TYPE}\nhost:{host}\nx-amz-date:{date}\n");
    if let Some(token) = token {
        text.push_str("x-amz-security-token:");
        text.push_str(token);
        text.push('\n');
    }
    text.push_str("x-amz-target:");
    text.push_str(operation);
    text.push_str("\n\n");
    text.push_str(signed);
    text.push('\n');
    push_hex(&mut text, &Sha256::digest(body));
    text
}

/// A time such as `20261129T101500Z`.
fn basic_date(now: SystemTime) -> String {
    let micros = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().saturating_mul(1_000_000);
    let mut text = Vec::with_capacity(32);
    write_rfc3339(&mut text, i64::try_from(micros).unwrap_or_default());
    text.truncate("2026-11-29T10:15:00".len());
    text.retain(|byte| !matches!(byte, b'-' | b':'));
    text.push(b'Z');
    String::from_utf8_lossy(&text).into_owned()
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(digit.into(), 16));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign as sign_by_sdk};
    use aws_sigv4::sign::v4;
    use proptest::prelude::*;

    use super::super::address::ServiceAddress;
    use super::*;

    /// The signature of the crate that the SDK uses, with the SDK's settings for `PutRecords`.
    fn by_sdk(
        url: &str,
        operation: &str,
        credentials: &Credentials,
        body: &[u8],
        now: SystemTime,
    ) -> Signature {
        let identity = credentials.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region("eu-central-1")
            .name(SERVICE)
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .unwrap();
        let headers = [("content-type", CONTENT_TYPE), ("x-amz-target", operation)];
        let request =
            SignableRequest::new("POST", url, headers.into_iter(), SignableBody::Bytes(body)).unwrap();
        let (instructions, _) = sign_by_sdk(request, &params.into()).unwrap().into_parts();
        let mut signature = Signature { date: String::new(), authorization: String::new() };
        for (name, value) in instructions.headers() {
            match name {
                "x-amz-date" => value.clone_into(&mut signature.date),
                "authorization" => value.clone_into(&mut signature.authorization),
                _ => {}
            }
        }
        signature
    }

    fn check(url: &str, token: Option<String>, body: &[u8], now: SystemTime, kept: &mut Option<DayKey>) {
        let operation = "Kinesis_20131202.PutRecords";
        let credentials = Credentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG", token, None, "test");
        let address = ServiceAddress::parse(url).unwrap();
        let host = address.host.to_str().unwrap();
        let parts = SignedParts { region: "eu-central-1", host, path: &address.signed_path, operation };
        let ours = sign(parts, &credentials, kept, (body, now));
        let full = format!(
            "{}://{}{}",
            address.origin.scheme_str().unwrap(),
            address.origin.authority().unwrap(),
            address.path
        );
        let theirs = by_sdk(&full, operation, &credentials, body, now);
        assert_eq!((ours.date, ours.authorization), (theirs.date, theirs.authorization), "{url}");
    }

    #[test]
    fn signature_is_that_of_the_sdk() {
        let mut kept = None;
        let day = |days: u64| UNIX_EPOCH + Duration::from_secs(1_795_910_360 + days * 86_400);
        for now in [day(0), day(0), day(1), day(36_500), day(0)] {
            for url in [
                "https://kinesis.eu-central-1.amazonaws.com",
                "https://h:443/",
                "http://127.0.0.1:4566",
                "http://[::1]:80/kinesis/",
                "http://h/a%20b/c,d;e=(f)*'!$&+:~_.-/../x//y",
            ] {
                for token in [None, Some("IQoJb3JpZ2lu//x+=".to_owned())] {
                    check(url, token, b"{\"StreamName\":\"lab\"}", now, &mut kept);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_path_and_body_is_signed_as_the_sdk_does(
            path in "(/[a-zA-Z0-9._~!$&'()*+,;=:-]{0,8}|/%[0-9A-F]{2}){0,4}",
            body in proptest::collection::vec(any::<u8>(), 0..200),
            token in proptest::option::of("[!-~]{1,80}"),
            seconds in 0_u64..4_000_000_000,
        ) {
            let now = UNIX_EPOCH + Duration::from_secs(seconds);
            check(&format!("http://host:4566{path}"), token, &body, now, &mut None);
        }
    }

    /// The example key of AWS's manual, so that the comparison does not depend on one crate alone.
    #[test]
    fn derived_key_is_that_of_the_manual() {
        let at = UNIX_EPOCH + Duration::from_mins(24_015_636);
        let key = generate_signing_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", at, "us-east-1", "iam");
        let mut text = String::new();
        push_hex(&mut text, key.as_ref());
        assert_eq!(text, "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
    }
}
