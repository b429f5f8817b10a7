//! AWS names: streams, regions and endpoints, checked by the service's rules before a request is sent.

use crate::failure::Problem;

/// Longest stream name, in characters.
const STREAM_NAME_MAX: usize = 128;
/// The form of an ARN in `kinesis.stream`.
const ARN_FORM: &str = "arn:aws:kinesis:<region>:<account>:stream/<name>";

/// Checks a stream name or ARN.
///
/// # Errors
/// Why the service would refuse it, with the valid form.
pub fn stream(text: &str) -> Result<String, Problem> {
    if text.starts_with("arn:") { arn(text) } else { stream_name(text) }?;
    Ok(text.to_owned())
}

fn stream_name(name: &str) -> Result<(), Problem> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if (1..=STREAM_NAME_MAX).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(Problem::new(format!("{name:?} is not a stream name")).with_detail(format!(
        "A name consists of letters, digits, \"_\", \".\" and \"-\", at most {STREAM_NAME_MAX} of them."
    )))
}

fn arn(text: &str) -> Result<(), Problem> {
    let wrong = |why: String| Err(Problem::new(why).with_hint(format!("Write {ARN_FORM}.")));
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let [_, partition, service, region_, account, resource] = parts[..] else {
        return wrong(format!("{text:?} is not an ARN"));
    };
    if service != "kinesis" {
        return wrong(format!("{text:?} is an ARN of the service {service:?}, not of Kinesis Data Streams"));
    }
    let Some(name) = resource.strip_prefix("stream/") else {
        return wrong(format!("{text:?} is not the ARN of a stream"));
    };
    if let Some((name, _)) = name.split_once("/consumer/") {
        let of_stream = format!("arn:{partition}:kinesis:{region_}:{account}:stream/{name}");
        return Err(Problem::new(format!("{text:?} is the ARN of a consumer"))
            .with_hint(format!("Write the ARN of its stream, {of_stream:?}.")));
    }
    let is_partition = partition.starts_with("aws")
        && partition.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    if !is_partition {
        return wrong(format!("{text:?} has no AWS partition"));
    }
    if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
        return wrong(format!("{text:?} has no AWS account of twelve digits"));
    }
    host_label(region_).map_err(|error| error.at(&format!("{text:?} has no valid region")))?;
    stream_name(name)
}

/// The region of an ARN, `arn:aws:kinesis:<region>:<account>:stream/<name>`.
pub fn region_of(stream: &str) -> Option<&str> {
    stream.strip_prefix("arn:")?.split(':').nth(2).filter(|region| !region.is_empty())
}

/// Checks a region. Emulators accept any text, so AWS's form is only required without an endpoint.
///
/// # Errors
/// Why it is not a region, with a suggestion.
pub fn region(text: &str, has_endpoint: bool) -> Result<(), Problem> {
    host_label(text)?;
    if has_endpoint || is_region(text) {
        return Ok(());
    }
    let zone = text.trim_end_matches(|last: char| last.is_ascii_lowercase());
    if is_region(zone) {
        return Err(Problem::new(format!("{text:?} is an availability zone"))
            .with_hint(format!("Write its region, {zone:?}.")));
    }
    Err(not_a_region(text))
}

/// Checks a text that becomes part of a host name and a signature.
fn host_label(text: &str) -> Result<(), Problem> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_label = (1..=63).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-');
    if is_label { Ok(()) } else { Err(not_a_region(text)) }
}

/// `eu-central-1`, `us-gov-west-1`, `eusc-de-east-1`.
fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let letters = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    match parts[..] {
        [ref words @ .., number] => {
            (2..=4).contains(&words.len())
                && words.iter().all(letters)
                && (1..=2).contains(&number.len())
                && number.bytes().all(|byte| byte.is_ascii_digit())
        }
        [] => false,
    }
}

fn not_a_region(text: &str) -> Problem {
    let words = text.trim().to_ascii_lowercase();
    let guess: Vec<&str> = words.split([' ', '_', '-']).filter(|word| !word.is_empty()).collect();
    let guess = guess.join("-");
    let hint = if is_region(&guess) {
        format!("Did you mean {guess:?}?")
    } else {
        "Write its code, such as \"eu-central-1\".".to_owned()
    };
    Problem::new(format!("{text:?} is not a region")).with_hint(hint)
}

/// Checks the address of an endpoint. The message omits parts that may be secret.
///
/// # Errors
/// Why requests cannot be sent there, with the valid form.
pub fn endpoint(text: &str) -> Result<String, Problem> {
    const FORM: &str = "Write an address such as \"http://127.0.0.1:4566\".";
    let wrong = |why: String| Err(Problem::new(why).with_hint(FORM));
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    if text.contains('@') {
        return Err(Problem::new(
            "the address has a user name or password (not shown), which Kinesis does not use",
        )
        .with_hint(format!("{FORM} Leave credentials to the AWS environment.")));
    }
    if text.contains(['?', '#']) {
        return wrong(
            "the address has a query or fragment (not shown), which Kinesis does not use".to_owned(),
        );
    }
    let Some(rest) = rest else {
        return wrong(format!("{text:?} must begin with http:// or https://"));
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if port.is_some_and(|port| {
        !matches!(port.parse::<u16>(), Ok(1..)) || !port.starts_with(|c: char| c.is_ascii_digit())
    }) {
        return wrong(format!("{text:?} has no port from 1 to 65535 after its last colon"));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_name = |host: &str| (1..=253).contains(&host.len()) && host.bytes().all(allowed);
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host =
        address.map_or_else(|| is_name(host), |address| address.parse::<std::net::Ipv6Addr>().is_ok());
    if !is_host {
        return wrong(format!("{text:?} has no host"));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:%".contains(&byte);
    if !path.bytes().all(allowed) {
        return wrong(format!("{text:?} has a path with characters that are not valid in a URL"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_names_and_arns_follow_the_services_rules() {
        let long = "x".repeat(128);
        for good in [
            "lab-events",
            "Lab_events.2",
            &long,
            "arn:aws:kinesis:eu-central-1:123456789012:stream/lab",
            "arn:aws-us-gov:kinesis:us-gov-west-1:123456789012:stream/lab",
            "arn:aws:kinesis:local:000000000000:stream/lab",
        ] {
            assert_eq!(stream(good), Ok(good.to_owned()));
        }
        let longer = "x".repeat(129);
        for (bad, about) in [
            ("", "not a stream name"),
            (&longer, "at most 128"),
            ("my stream", "letters"),
            ("lab\r", "letters"),
            ("läb", "letters"),
            ("stream/lab", "letters"),
            ("arn:aws:kinesis", "not an ARN"),
            ("arn:aws:firehose:eu-central-1:123456789012:deliverystream/x", "\"firehose\""),
            ("arn:aws:dynamodb:eu-central-1:123456789012:table/t/stream/x", "\"dynamodb\""),
            ("arn:aws:kinesis:eu-central-1:123456789012:table/x", "not the ARN of a stream"),
            ("arn:aws:kinesis:eu-central-1:123456789012:stream/x/consumer/c:1", ":stream/x\""),
            ("arn:aws:kinesis:eu-central-1:1:stream/x", "twelve digits"),
            ("arn:aws:kinesis:EU:123456789012:stream/x", "no valid region"),
            ("arn:aws:kinesis:eu-central-1:123456789012:stream/a b", "letters"),
            ("arn::kinesis:eu-central-1:123456789012:stream/x", "partition"),
        ] {
            let error = stream(bad).unwrap_err().lines();
            assert!(error.contains(about), "{bad}: {error}");
        }
    }

    #[test]
    fn arn_names_its_region() {
        for (stream, region) in [
            ("arn:aws:kinesis:eu-central-1:123456789012:stream/lab", Some("eu-central-1")),
            ("arn:aws:kinesis", None),
            ("arn:aws:kinesis::1:stream/x", None),
            ("lab-events", None),
        ] {
            assert_eq!(region_of(stream), region, "{stream}");
        }
    }

    #[test]
    fn regions_have_a_form_and_typos_a_guess() {
        for good in ["eu-central-1", "us-gov-west-1", "us-isob-east-1", "eusc-de-east-1", "ap-southeast-5"] {
            assert_eq!(region(good, false), Ok(()));
        }
        assert_eq!(region("local", true), Ok(()), "an emulator takes any word");
        for (bad, has_endpoint, about) in [
            ("", false, "code"),
            ("", true, "code"),
            ("EU Central 1", false, "\"eu-central-1\"?"),
            ("eu_central_1", true, "\"eu-central-1\"?"),
            ("eu-central-1\r", true, "\"eu-central-1\"?"),
            ("eu-central-1a", false, "availability zone"),
            ("local", false, "code"),
            ("Frankfurt", false, "code"),
            ("eu-central", false, "code"),
        ] {
            let error = region(bad, has_endpoint).unwrap_err().lines();
            assert!(error.contains(about), "{bad}: {error}");
        }
    }

    #[test]
    fn endpoints_are_addresses_and_hide_what_may_be_secret() {
        for good in [
            "http://127.0.0.1:4566",
            "https://vpce-0a1b.kinesis.eu-central-1.vpce.amazonaws.com",
            "http://[::1]:4566/",
            "http://localhost/kinesis",
        ] {
            assert_eq!(endpoint(good), Ok(good.to_owned()));
        }
        for bad in [
            "",
            "localhost:4566",
            "ftp://h",
            "http://",
            "http:///x",
            "http://:80",
            "http://h:",
            "http://h:0",
            "http://h:+1",
            "http://h:99999",
            "http://[::1",
            "http://a b",
            "http://h/\r",
            "http://h/ä",
        ] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
        for secret in ["http://u:sekret@h", "https://h/?token=sekret", "sekret@h", "http://h/#sekret"] {
            let error = endpoint(secret).unwrap_err().lines();
            assert!(!error.contains("sekret"), "{error}");
        }
    }
}
