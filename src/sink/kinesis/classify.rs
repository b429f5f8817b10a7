//! Maps errors of the service to [`PutError`], with a message and a hint for the operator.
//!
//! A message has the operation, the stream and its address, and the service's code, text and request id. No
//! error is final: a rejected request is retried, one request at a time, without a deadline. Values that the
//! service quotes are removed from messages, because they may be keys.

use std::borrow::Cow;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::error::{ErrorMetadata, ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::RequestId as _;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::client::SendError;
use super::clock::ServiceClock;
use super::connect::{ConnectError, chain};
use super::credentials::Credentials;
use crate::sink::{ErrorResponse, PutError};

/// An error response of the service.
#[derive(Clone, Debug)]
pub(super) struct ServiceReply<'a> {
    /// HTTP status.
    pub(super) status: u16,
    /// Error code, without its namespace.
    pub(super) code: Option<Cow<'a, str>>,
    pub(super) message: Option<Cow<'a, str>>,
    pub(super) request_id: Option<&'a str>,
    pub(super) content_type: Option<&'a str>,
    /// The header `date` of the response.
    pub(super) date: Option<&'a str>,
}

/// The facts about a request that are needed if it fails.
#[derive(Clone, Debug)]
pub(super) struct Tried {
    /// Name of the operation.
    pub operation: &'static str,
    /// The stream and its address.
    pub place: Arc<str>,
    /// The stream's ARN, as an IAM policy contains it.
    pub resource: Arc<str>,
    /// The credentials that sign the request. They are looked up again if the service rejects them.
    pub credentials: Credentials,
    /// The clock of the signature. It is corrected if the service rejects the time.
    pub clock: ServiceClock,
}

impl Tried {
    /// Classifies an error of the SDK.
    pub(super) fn failed<E>(&self, error: &SdkError<E>) -> PutError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        if let SdkError::ServiceError(context) = error {
            return self.rejected(&of_sdk(context.err().meta(), context.raw()));
        }
        if let SdkError::ResponseError(context) = error {
            let raw = context.raw();
            let stranger = stranger(raw.status().as_u16(), raw.headers().get("content-type"));
            let (text, hint) =
                stranger.map_or_else(|| (chain(error), AWAY), |stranger| (stranger, NOT_KINESIS));
            return PutError::NoResponse(self.text(&text, hint));
        }
        match error {
            SdkError::ConstructionFailure(_) => PutError::Refused(self.text(&chain(error), "")),
            // Credentials are looked up before anything is sent. The SDK reports their absence as a dispatch
            // failure.
            SdkError::DispatchFailure(context) if context.is_other() || context.is_user() => {
                let text = chain(error);
                if text.contains("credential") {
                    PutError::Refused(self.text(&text, NO_CREDENTIALS))
                } else if context.is_user() {
                    PutError::Refused(self.text(&text, ""))
                } else {
                    PutError::NoResponse(self.text(&text, AWAY))
                }
            }
            // Timeouts, and refused or broken connections. The SDK may add variants to this enum.
            _ => {
                let text = chain(error);
                let hint = if text.contains("tunnel error") { PROXY } else { AWAY };
                PutError::NoResponse(self.text(&text, hint))
            }
        }
    }

    /// Classifies a put without a response.
    pub(super) fn not_sent(&self, error: &SendError) -> PutError {
        match error {
            SendError::Credentials(why) => PutError::Refused(self.text(why, NO_CREDENTIALS)),
            SendError::Request(why) => PutError::Refused(self.text(why, "")),
            SendError::Connect(error @ ConnectError::Tunnel { .. }) => {
                PutError::NoResponse(self.text(&error.to_string(), PROXY))
            }
            SendError::Connect(error @ ConnectError::Tls { .. }) => {
                PutError::NoResponse(self.text(
                    &error.to_string(),
                    "Check kinesis.endpoint, AWS_CA_BUNDLE and this machine's clock.",
                ))
            }
            SendError::Connect(error) => PutError::NoResponse(self.text(&error.to_string(), AWAY)),
            SendError::Broken(why) => {
                let problem = format!("the connection broke before the response was complete: {why}");
                PutError::NoResponse(self.text(&problem, AWAY))
            }
        }
    }

    /// Classifies an error response.
    pub(super) fn rejected(&self, reply: &ServiceReply<'_>) -> PutError {
        let ServiceReply { status, .. } = *reply;
        if reply.code.is_none()
            && let Some(stranger) = stranger(status, reply.content_type)
        {
            return PutError::NoResponse(self.text(&stranger, NOT_KINESIS));
        }
        let code = reply.code.as_deref().unwrap_or("no error code");
        let message = presentable(reply.message.as_deref().unwrap_or("no message"));
        let id = reply.request_id.map_or_else(String::new, |id| format!(", request {id}"));
        if is_about_the_clock(code) {
            self.clock.rejected(reply.date);
        }
        if is_about_credentials(code) {
            self.credentials.distrust();
        }
        let problem = format!("{code}: {} (HTTP {status}{id})", message.trim_end_matches('.'));
        let next = match code {
            "AccessDeniedException" => how_to_allow(self.operation, &self.resource, &message),
            code => next_step(code).to_owned(),
        };
        classify(status, code).with(self.text(&problem, &next))
    }

    /// Classifies a successful response that cannot be parsed.
    pub(super) fn unreadable(&self, why: &serde_json::Error, content_type: Option<&str>) -> PutError {
        match stranger(200, content_type) {
            Some(stranger) => PutError::NoResponse(self.text(&stranger, NOT_KINESIS)),
            None => PutError::NoResponse(self.text(&format!("the response cannot be read: {why}"), "")),
        }
    }

    /// The response did not arrive in time.
    pub(super) fn silent(&self, within: Duration) -> PutError {
        PutError::NoResponse(self.text(&format!("no response within {} s", within.as_secs()), AWAY))
    }

    /// The response has no body.
    pub(super) fn empty(&self) -> PutError {
        PutError::NoResponse(self.text("the response is empty", ""))
    }

    fn text(&self, problem: &str, next: &str) -> ErrorResponse {
        let Self { operation, place, .. } = self;
        let text = format!("{operation} on the stream {place}: {problem}");
        ErrorResponse { text, hint: (!next.is_empty()).then(|| next.to_owned()) }
    }
}

/// Hint for an error of the proxy.
const PROXY: &str = "Check HTTPS_PROXY and NO_PROXY.";
/// Hint for a possible outage of the service or the network.
const AWAY: &str = "Check the network, kinesis.region and kinesis.endpoint.";
/// Hint for a response that another server has sent.
const NOT_KINESIS: &str =
    "Look for a proxy or another server at this address (kinesis.endpoint, AWS_ENDPOINT_URL, HTTPS_PROXY).";
/// Hint for an environment without credentials.
const NO_CREDENTIALS: &str = "Give this process credentials: a role, a profile with static keys or a credential_process, or \
    AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Only environment variables need a restart.";

/// Describes a response whose content type is not that of the service, such as a proxy's page.
fn stranger(status: u16, content_type: Option<&str>) -> Option<String> {
    let kind = content_type.filter(|kind| !kind.contains("json"))?;
    let kind: String = kind.chars().filter(char::is_ascii_graphic).take(60).collect();
    Some(format!("HTTP {status} with content type {kind}: the response is not from Kinesis"))
}

fn of_sdk<'a>(meta: &'a ErrorMetadata, raw: &'a HttpResponse) -> ServiceReply<'a> {
    ServiceReply {
        status: raw.status().as_u16(),
        code: meta.code().map(Cow::Borrowed),
        message: meta.message().map(Cow::Borrowed),
        request_id: meta.request_id(),
        content_type: raw.headers().get("content-type"),
        date: raw.headers().get("date"),
    }
}

/// The hint for an error code.
fn next_step(code: &str) -> &'static str {
    match code {
        "ResourceNotFoundException" => {
            "Check kinesis.stream, kinesis.region and the AWS account. If the stream was deleted, nothing is sent until one of this \
             name exists; a recreated stream is refused."
        }
        "KMSAccessDeniedException" => {
            "Allow kms:GenerateDataKey on the stream's key, in the policy of these credentials and in the key's. No restart is needed."
        }
        "KMSDisabledException" => "Enable the stream's KMS key. No restart is needed.",
        "KMSInvalidStateException" => {
            "If the deletion of the stream's KMS key is pending, cancel it and enable the key. Otherwise encrypt the stream with \
             another key. No restart is needed."
        }
        "KMSNotFoundException" => {
            "The stream's KMS key does not exist. Encrypt the stream with another key (StartStreamEncryption). No restart is needed."
        }
        "KMSOptInRequired" => {
            "Complete the registration of this AWS account: it has no subscription for KMS."
        }
        "KMSThrottlingException" => "Raise the account's quota of KMS requests, or wait.",
        code if is_about_the_clock(code) => {
            "Set this machine's clock (the service allows five minutes). Check that the secret access key belongs to the access key. \
             Only environment variables need a restart."
        }
        code if is_about_credentials(code) => {
            "Renew the credentials. Roles and profiles are read again each time; only environment variables need a restart."
        }
        "ValidationException" | "InvalidArgumentException" => {
            "Check whether the stream's largest record size was lowered; its settings are read again. If the error stays, report it \
             with this line."
        }
        _ => "",
    }
}

/// The hint that names the missing policy statement. The service's message has the exact resource.
fn how_to_allow(operation: &str, resource: &str, message: &str) -> String {
    let named = message.split_once("on resource: ").and_then(|(_, rest)| rest.split_whitespace().next());
    let resource = named.filter(|name| name.starts_with("arn:")).unwrap_or(resource);
    let action = format!("kinesis:{operation}");
    if message.contains("explicit deny") {
        return format!("Remove the statement that denies {action} on {resource}. No restart is needed.");
    }
    let statement = serde_json::json!({"Effect": "Allow", "Action": action, "Resource": resource});
    format!(
        "Allow {action} on the stream to these credentials: add {statement} to their policy. No restart is needed."
    )
}

/// Codes about missing permissions, those for the stream's KMS key included.
pub(super) fn is_about_rights(code: &str) -> bool {
    code.starts_with("AccessDenied") || (code.starts_with("KMS") && !is_throttling(code))
}

fn is_about_the_clock(code: &str) -> bool {
    matches!(
        code,
        "InvalidSignatureException" | "SignatureDoesNotMatch" | "RequestExpired" | "RequestTimeTooSkewed"
    )
}

/// Codes that reject the credentials. The environment may have other ones by now.
fn is_about_credentials(code: &str) -> bool {
    is_about_the_clock(code)
        || matches!(
            code,
            "ExpiredTokenException"
                | "ExpiredToken"
                | "UnrecognizedClientException"
                | "InvalidClientTokenId"
                | "InvalidAccessKeyId"
                | "IncompleteSignature"
                | "MissingAuthenticationTokenException"
        )
}

/// Codes that throttle.
pub(super) fn is_throttling(code: &str) -> bool {
    matches!(
        code,
        "ProvisionedThroughputExceededException"
            | "LimitExceededException"
            | "KMSThrottlingException"
            | "ThrottlingException"
            | "Throttling"
            | "RequestLimitExceeded"
            | "SlowDown"
            | "TooManyRequestsException"
    )
}

/// Codes that reject the content: a record, or the whole request.
fn is_about_content(code: &str) -> bool {
    matches!(code, "ValidationException" | "InvalidArgumentException" | "SerializationException")
}

/// What an error means for the records of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejected {
    /// [`PutError::Throttled`].
    Throttled,
    /// [`PutError::NoResponse`].
    NoResponse,
    /// [`PutError::Invalid`].
    Invalid,
    /// [`PutError::Missing`].
    Missing,
    /// [`PutError::Refused`].
    Refused,
}

impl Rejected {
    fn with(self, text: ErrorResponse) -> PutError {
        match self {
            Self::Throttled => PutError::Throttled(text),
            Self::NoResponse => PutError::NoResponse(text),
            Self::Invalid => PutError::Invalid(text),
            Self::Missing => PutError::Missing(text),
            Self::Refused => PutError::Refused(text),
        }
    }
}

/// Classifies an error by status and code. After a 5xx, the records may have been stored. A 4xx was rejected
/// before that: permissions, KMS keys, a missing or inactive stream, validation.
pub(super) fn classify(status: u16, code: &str) -> Rejected {
    if is_throttling(code) || status == 429 {
        Rejected::Throttled
    } else if status >= 500 || status == 408 || matches!(code, "InternalFailure" | "InternalFailureException")
    {
        Rejected::NoResponse
    } else if status == 413 || is_about_content(code) {
        Rejected::Invalid
    } else if code == "ResourceNotFoundException" {
        Rejected::Missing
    } else {
        Rejected::Refused
    }
}

/// The service's message, shortened to a line or two, and without quoted values, which may be keys.
pub(super) fn presentable(message: &str) -> String {
    const LONGEST: usize = 400;
    let parts = message.split_once("Value '").zip(message.rsplit_once("' at '"));
    let spared = match parts {
        Some(((before, _), (_, after))) => format!("{before}Value (left out) at '{after}"),
        None => message.to_owned(),
    };
    spared.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every error that the service's reference documents for `PutRecords`, the errors common to all
    /// services, and those of proxies and load balancers.
    #[test]
    fn request_errors_are_classified() {
        use Rejected::{Invalid, Missing, NoResponse, Refused, Throttled};
        for (status, code, expected) in [
            // Documented for PutRecords.
            (400, "AccessDeniedException", Refused),
            (500, "InternalFailureException", NoResponse),
            (400, "InternalFailureException", NoResponse),
            (400, "InvalidArgumentException", Invalid),
            (400, "KMSAccessDeniedException", Refused),
            (400, "KMSDisabledException", Refused),
            (400, "KMSInvalidStateException", Refused),
            (400, "KMSNotFoundException", Refused),
            (400, "KMSOptInRequired", Refused),
            (400, "KMSThrottlingException", Throttled),
            (400, "ProvisionedThroughputExceededException", Throttled),
            (400, "ResourceNotFoundException", Missing),
            // Documented for other operations on streams.
            (400, "LimitExceededException", Throttled),
            (400, "ResourceInUseException", Refused),
            (400, "ExpiredNextTokenException", Refused),
            (400, "DryRunOperationException", Refused),
            // Common to all services.
            (403, "ExpiredTokenException", Refused),
            (403, "IncompleteSignature", Refused),
            (500, "InternalFailure", NoResponse),
            (400, "MalformedHttpRequestException", Refused),
            (401, "NotAuthorized", Refused),
            (403, "OptInRequired", Refused),
            (408, "RequestAbortedException", NoResponse),
            (413, "RequestEntityTooLargeException", Invalid),
            (400, "RequestExpired", Refused),
            (408, "RequestTimeoutException", NoResponse),
            (503, "ServiceUnavailable", NoResponse),
            (400, "ThrottlingException", Throttled),
            (403, "UnrecognizedClientException", Refused),
            (404, "UnknownOperationException", Refused),
            (400, "ValidationError", Refused),
            (400, "ValidationException", Invalid),
            (400, "SerializationException", Invalid),
            (400, "ExpiredTokenException", Refused),
            (403, "InvalidSignatureException", Refused),
            (400, "MissingAuthenticationTokenException", Refused),
            // An unknown error is refused, and retried like others.
            (400, "SomethingNewException", Refused),
            // Errors without a code come from load balancers and proxies.
            (400, "no error code", Refused),
            (403, "no error code", Refused),
            (407, "no error code", Refused),
            (408, "no error code", NoResponse),
            (413, "no error code", Invalid),
            (429, "no error code", Throttled),
            (502, "no error code", NoResponse),
            (503, "no error code", NoResponse),
            (503, "SlowDown", Throttled),
            (504, "no error code", NoResponse),
        ] {
            assert_eq!(classify(status, code), expected, "{status} {code}");
        }
    }

    #[test]
    fn service_message_is_shown_without_quoted_values() {
        let (long, cut) = ("x".repeat(1000), "x".repeat(400));
        for (message, expected) in [
            ("Rate exceeded for shard shardId-1", "Rate exceeded for shard shardId-1"),
            (
                "1 error: Value 'alice@x.org' at 'records.1.partitionKey' failed",
                "1 error: Value (left out) at 'records.1.partitionKey' failed",
            ),
            ("Value 'a' at 'b' bad; Value 'it's' at 'c' bad", "Value (left out) at 'c' bad"),
            (&long, &cut),
        ] {
            assert_eq!(presentable(message), expected);
        }
    }

    #[test]
    fn actionable_rejection_has_a_hint() {
        for (code, word) in [
            ("ResourceNotFoundException", "kinesis.stream"),
            ("KMSAccessDeniedException", "kms:GenerateDataKey"),
            ("KMSDisabledException", "Enable"),
            ("KMSInvalidStateException", "pending"),
            ("KMSNotFoundException", "StartStreamEncryption"),
            ("KMSOptInRequired", "subscription"),
            ("KMSThrottlingException", "quota"),
            ("ExpiredTokenException", "Renew"),
            ("UnrecognizedClientException", "Renew"),
            ("InvalidSignatureException", "clock"),
            ("RequestExpired", "clock"),
            ("ValidationException", "largest record"),
        ] {
            assert!(next_step(code).contains(word), "{code}");
        }
        assert_eq!(next_step("InternalFailure"), "");
    }

    #[test]
    fn missing_right_is_named_as_a_statement() {
        let (any, exact) =
            ("arn:aws:kinesis:eu-central-1:*:stream/lab", "arn:aws:kinesis:eu-central-1:1:stream/lab");
        let problem = format!(
            "User: arn:aws:iam::1:user/f is not authorized to perform: kinesis:PutRecords on resource: {exact}"
        );
        for (message, resource) in
            [("", any), ("on resource: *", any), (&*format!("{problem} because no policy"), exact)]
        {
            let hint = how_to_allow("PutRecords", any, message);
            let statement = hint.split(['{', '}']).nth(1).unwrap();
            let statement = format!("{{{statement}}}");
            let statement: serde_json::Value = serde_json::from_str(&statement).unwrap();
            let expected =
                serde_json::json!({"Effect": "Allow", "Action": "kinesis:PutRecords", "Resource": resource});
            assert_eq!(statement, expected);
        }
        let denied = how_to_allow(
            "PutRecords",
            any,
            &format!("{problem} with an explicit deny in a service control policy"),
        );
        assert!(denied.starts_with("Remove") && denied.contains(exact), "{denied}");
    }
}
