//! Checks of signatures, AWS Signature Version 4, from the request as it arrived. Written from AWS's manual, and apart from the
//! code that it checks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;
use sha2::{Digest as _, Sha256};

use crate::error::ApiError;

/// How far the time of a request may be off.
const TOLERANCE: Duration = Duration::from_mins(5);

/// What is wrong with the signature of a request.
pub(crate) fn check(parts: &Parts, body: &[u8], secret: &str, now: SystemTime) -> Result<(), ApiError> {
    let wrong = |message: String| ApiError::new(403, "InvalidSignatureException", message);
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let given = header(AUTHORIZATION.as_str()).unwrap_or_default();
    let field = |name: &str| {
        let (_, rest) = given.split_once(name)?;
        rest.strip_prefix('=').map(|rest| rest.split(',').next().unwrap_or_default())
    };
    let (Some(credential), Some(names), Some(signature), Some(date)) =
        (field("Credential"), field("SignedHeaders"), field("Signature"), header("x-amz-date"))
    else {
        return Err(ApiError::new(400, "IncompleteSignature", format!("'{given}'")));
    };
    let Some((_, scope)) = credential.split_once('/') else {
        return Err(ApiError::new(400, "IncompleteSignature", "no scope".to_owned()));
    };
    let [day, region, service, end] = scope.split('/').collect::<Vec<_>>()[..] else {
        return Err(ApiError::new(400, "IncompleteSignature", format!("scope {scope}")));
    };
    let time = seconds(date).ok_or_else(|| wrong(format!("'{date}' is not a time")))?;
    let ours = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if time.abs_diff(ours) > TOLERANCE.as_secs() {
        return Err(wrong(format!("Signature expired or not yet current: {date}")));
    }
    if service != "kinesis" || end != "aws4_request" || !date.starts_with(day) {
        return Err(wrong(format!("Credential should be scoped to correct service: 'kinesis', not {scope}")));
    }
    let mut must = vec!["host", "x-amz-date"];
    must.extend(
        parts
            .headers
            .keys()
            .map(hyper::header::HeaderName::as_str)
            .filter(|name| name.starts_with("x-amz-") || *name == "content-type"),
    );
    if let Some(unsigned) = must.iter().find(|name| !names.split(';').any(|signed| signed == **name)) {
        return Err(wrong(format!("{unsigned} is not signed")));
    }
    let mut request = format!("{}\n{}\n\n", parts.method, encode_path(parts.uri.path()));
    for name in names.split(';') {
        let value = header(name).ok_or_else(|| wrong(format!("{name} is signed, and missing")))?;
        let value: Vec<_> = value.split_ascii_whitespace().collect();
        request.extend([name, ":", &value.join(" "), "\n"]);
    }
    request.extend(["\n", names, "\n", &hex(&Sha256::digest(body))]);
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(request.as_bytes())));
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in [day, region, service, end, &text] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|error| wrong(error.to_string()))?;
        mac.update(part.as_bytes());
        key = mac.finalize().into_bytes().to_vec();
    }
    if hex(&key) == signature {
        return Ok(());
    }
    Err(wrong(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and \
         signing method."
            .to_owned(),
    ))
}

/// Seconds since 1970 of `20261129T101500Z`.
fn seconds(date: &str) -> Option<u64> {
    let number = |from: usize, to: usize| date.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let days_before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let leap_days = (1970..year).filter(|year| leap(*year)).count() as u64;
    let month_index = usize::try_from(month.checked_sub(1)?).ok()?;
    let days =
        year.checked_sub(1970)? * 365 + leap_days + days_before.get(month_index)? + day.checked_sub(1)?;
    let days = days + u64::from(leap(year) && month > 2);
    Some(days * 86_400 + number(9, 11)? * 3600 + number(11, 13)? * 60 + number(13, 15)?)
}

/// Services other than S3 encode the path once more.
fn encode_path(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let encode = |byte: u8| {
        if plain(byte) { char::from(byte).to_string() } else { format!("%{}", hex(&[byte]).to_uppercase()) }
    };
    path.bytes().map(encode).collect()
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first is the time of AWS's examples.
    #[test]
    fn time_of_a_request_is_read() {
        for (text, expected) in [
            ("20150830T123600Z", Some(1_440_938_160)),
            ("19700101T000000Z", Some(0)),
            ("20240229T000001Z", Some(1_709_164_801)),
            ("20240301T000000Z", Some(1_709_251_200)),
            ("2015", None),
            ("20150030T123600Z", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn signature_of_another_secret_or_time_is_refused() {
        let request = |authorization: &str| {
            let request = hyper::Request::post("/kinesis/").header("host", "127.0.0.1:4566");
            let request =
                request.header("x-amz-date", "20150830T123600Z").header("authorization", authorization);
            request.body(()).unwrap().into_parts().0
        };
        let now = UNIX_EPOCH + Duration::from_mins(24_015_636);
        let scope = "20150830/us-east-1/kinesis/aws4_request";
        let signed = |signature: &str| {
            request(&format!(
                "AWS4-HMAC-SHA256 Credential=AKID/{scope}, SignedHeaders=host;x-amz-date, Signature={signature}"
            ))
        };
        // Computed with Python's hmac and hashlib.
        let good = "df78eaedf8dacb99764e1d1c2d3ffd25b5ad193ff30bdceaab7f319f5e37e2c3";
        assert_eq!(check(&signed(good), b"x", "secret", now), Ok(()));
        for (parts, body, secret, at) in [
            (signed(good), b"y", "secret", now),
            (signed(good), b"x", "other", now),
            (signed(good), b"x", "secret", now + Duration::from_secs(301)),
            (signed("00"), b"x", "secret", now),
            (request("AWS4-HMAC-SHA256 Credential=AKID"), b"x", "secret", now),
        ] {
            assert!(check(&parts, body, secret, at).is_err());
        }
    }
}
