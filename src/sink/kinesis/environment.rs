//! The AWS environment: region, endpoint and variables, checked before anything is sent.
//!
//! The SDK puts several of these values into headers and addresses, and panics if they do not fit. So each is
//! checked here, and an error names its source.

mod profiles;
mod value;

use std::path::Path;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_types::service_config::ServiceConfigKey;

use crate::config::{self, aws};
use crate::failure::Problem;

use super::bounded::RESPONSE_MAX;
use super::network::{Network, fits_header};

/// The configured stream and its address. Credentials come from the AWS environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name or ARN of the stream.
    pub stream: String,
    /// Region. Default: that of the ARN, then that of the AWS environment; with an `endpoint`, finally
    /// `us-east-1`.
    pub region: Option<String>,
    /// An address other than AWS's: LocalStack, tests, a VPC endpoint.
    pub endpoint: Option<String>,
}

impl From<&config::Kinesis> for Settings {
    fn from(kinesis: &config::Kinesis) -> Self {
        Self {
            stream: kinesis.stream.clone(),
            region: kinesis.region.clone(),
            endpoint: kinesis.endpoint.clone(),
        }
    }
}

/// The checked AWS environment.
#[derive(Debug)]
pub(super) struct Environment {
    pub(super) shared: SdkConfig,
    pub(super) network: Network,
    pub(super) region: Region,
    /// Where requests are sent; `None`: to AWS's own address.
    pub(super) endpoint: Option<String>,
}

impl Environment {
    /// Reads variables and profile files. May request the region from the machine's metadata service.
    ///
    /// # Errors
    /// A value cannot be used in requests. The error names its source.
    pub(super) async fn read(settings: &Settings) -> Result<Self, Problem> {
        Self::read_with(settings, RESPONSE_MAX).await
    }

    /// Like [`read`](Self::read), with a limit for the size of responses.
    ///
    /// # Errors
    /// The same as those of [`read`](Self::read).
    pub(super) async fn read_with(settings: &Settings, response_max: usize) -> Result<Self, Problem> {
        check_variables(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()))),
        )?;
        profiles::check()?;
        let network = Network::read(response_max)?;
        let given = settings.region.as_deref().or(aws::region_of(&settings.stream));
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(network.sdk.clone());
        if let Some(region) = given {
            loader = loader.region(Region::new(region.to_owned()));
        }
        if let Some(endpoint) = &settings.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        let shared = loader.load().await;
        let endpoint = endpoint(settings, &shared)?;
        let region = region(&shared, endpoint.is_some())?;
        if let Some(endpoint) = &endpoint {
            for (is_set, variable) in [
                (shared.use_fips(), "AWS_USE_FIPS_ENDPOINT"),
                (shared.use_dual_stack(), "AWS_USE_DUALSTACK_ENDPOINT"),
            ] {
                if is_set == Some(true) {
                    let fact = format!(
                        "{variable} asks for an address of AWS's own, but the endpoint is {endpoint}"
                    );
                    return Err(Problem::new(fact).with_hint(format!(
                        "Leave out one of them: {variable} (or its key in the AWS profile), or kinesis.endpoint (or AWS_ENDPOINT_URL)."
                    )));
                }
            }
        }
        Ok(Self { shared, network, region, endpoint })
    }
}

/// Where the region comes from if not from our configuration, for messages.
fn source_of_region() -> String {
    ["AWS_REGION", "AWS_DEFAULT_REGION"]
        .into_iter()
        .find(|variable| std::env::var_os(variable).is_some())
        .unwrap_or("the region of the AWS profile or of this machine")
        .to_owned()
}

fn region(shared: &SdkConfig, has_endpoint: bool) -> Result<Region, Problem> {
    let Some(region) = shared.region() else {
        return if has_endpoint {
            Ok(Region::from_static("us-east-1"))
        } else {
            Err(Problem::new("no AWS region is known").with_hint("Set kinesis.region or AWS_REGION."))
        };
    };
    let trimmed = region.as_ref().trim();
    aws::region(trimmed, has_endpoint).map_err(|error| error.at(&source_of_region()))?;
    Ok(Region::new(trimmed.to_owned()))
}

/// The effective endpoint: that of the configuration, otherwise the one that the SDK would take from
/// variables or the profile.
fn endpoint(settings: &Settings, shared: &SdkConfig) -> Result<Option<String>, Problem> {
    if settings.endpoint.is_some() {
        return Ok(settings.endpoint.clone());
    }
    let key = ServiceConfigKey::builder()
        .service_id("Kinesis")
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()
        .map_err(|error| Problem::new(error.to_string()))?;
    let of_service = shared.service_config().and_then(|config| config.load_config(key));
    let Some(found) = of_service.or_else(|| shared.endpoint_url().map(str::to_owned)) else {
        return Ok(None);
    };
    aws::endpoint(&found)
        .map(Some)
        .map_err(|error| error.at("endpoint_url of the AWS profile, or AWS_ENDPOINT_URL"))
}

/// Checks values that the SDK would put into headers and addresses unchecked. Keys and region are trimmed
/// when they are used.
fn check_variables(variables: impl Iterator<Item = (String, Option<String>)>) -> Result<(), Problem> {
    const TRIMMED: [&str; 5] = [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
    ];
    /// Variables that name files, which may have any name.
    const PATHS: [&str; 5] = [
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_CA_BUNDLE",
    ];
    for (name, value) in variables.filter(|(name, _)| name.starts_with("AWS_")) {
        let Some(value) = value else { return Err(format!("{name} is not UTF-8").into()) };
        let seen = if TRIMMED.contains(&name.as_str()) { value.trim() } else { &value };
        let fits = if PATHS.contains(&name.as_str()) {
            !seen.chars().any(char::is_control)
        } else {
            fits_header(seen)
        };
        if !fits {
            // The value is not repeated, because it may be a secret.
            let fact =
                format!("{name} has a line end, a blank at an end or another character that cannot be sent");
            return Err(
                Problem::new(fact).with_hint("Correct it where it is set (`echo -n` writes no line end).")
            );
        }
        value::check(&name, seen)?;
        if name.starts_with("AWS_ENDPOINT_URL") && !value.is_empty() {
            aws::endpoint(&value).map_err(|error| error.at(&name))?;
        }
    }
    Ok(())
}

/// What in the environment explains that no credentials were found.
pub(super) fn missing_credentials() -> Option<String> {
    let set = |name: &str| std::env::var(name).is_ok_and(|value| !value.trim().is_empty());
    for (one, other) in
        [("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID")]
    {
        if set(one) && !set(other) {
            return Some(format!("{one} is set, but {other} is not"));
        }
    }
    if set("AWS_WEB_IDENTITY_TOKEN_FILE") && !set("AWS_ROLE_ARN") {
        return Some("AWS_WEB_IDENTITY_TOKEN_FILE is set, but AWS_ROLE_ARN is not".to_owned());
    }
    for name in ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] {
        let Some(path) = std::env::var_os(name) else { continue };
        let path = Path::new(&path);
        match std::fs::read_to_string(path) {
            Err(error) => return Some(format!("{name}: {}: {error}", path.display())),
            Ok(text) if text.trim().is_empty() => {
                return Some(format!("{name}: {} is empty", path.display()));
            }
            Ok(text) if !fits_header(text.trim_end()) => {
                return Some(format!("{name}: {} has a character that cannot be sent", path.display()));
            }
            Ok(_) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_cannot_be_sent_are_refused_by_name() {
        let check = |name: &str, value: &str| {
            check_variables([(name.to_owned(), Some(value.to_owned()))].into_iter())
        };
        for (name, value) in [
            ("AWS_EXECUTION_ENV", "lab\n"),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "token\r"),
            ("AWS_ACCESS_KEY_ID", "AKID\u{c4}"),
            ("AWS_SESSION_TOKEN", "to\nken"),
            ("AWS_ENDPOINT_URL", "localhost:4566"),
            ("AWS_ENDPOINT_URL_STS", "http://u:sekret@h"),
            ("AWS_CA_BUNDLE", "/etc/ca\n"),
            ("AWS_ACCESS_KEY_ID", "\"AKIDsekret\""),
            ("AWS_ACCESS_KEY_ID", "${sekret}"),
            ("AWS_SECRET_ACCESS_KEY", "'sekret'"),
            ("AWS_USE_FIPS_ENDPOINT", "1"),
            ("AWS_USE_DUALSTACK_ENDPOINT", "yes"),
        ] {
            let error = check(name, value).unwrap_err().lines();
            assert!(error.starts_with(name) && !error.contains("sekret"), "{error}");
        }
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", "AKID\r\n"),
            ("AWS_REGION", "eu-central-1\r"),
            ("AWS_CONFIG_FILE", "/home/jürgen/.aws/config"),
            ("OTHER", "\n"),
            ("AWS_USE_FIPS_ENDPOINT", "TRUE"),
            ("AWS_ACCESS_KEY_ID", ""),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:4566"),
        ] {
            assert_eq!(check(name, value), Ok(()), "{name}");
        }
    }
}
