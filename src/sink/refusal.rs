//! What the service says when it refuses: how it is sorted, and what a person can do about it.
//!
//! A message names what was tried, on which stream and where, the service's code, words and request id, and the next step.
//! Nothing here is final: whatever the service refuses is tried again, one request at a time, for as long as it takes. Values
//! that the service quotes are left out: they may be keys.

use std::error::Error;
use std::sync::Arc;

use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::RequestId as _;

use super::PutError;
use super::credentials::Credentials;

/// A request that is under way.
#[derive(Clone, Debug)]
pub struct Tried {
    /// The service's name of it.
    pub operation: &'static str,
    /// The stream, and where it is looked for.
    pub place: Arc<str>,
    /// What it is signed with: forgotten if the service does not take them.
    pub credentials: Credentials,
}

impl Tried {
    /// It failed like this.
    pub fn failed<E>(&self, error: &SdkError<E>) -> PutError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match error {
            SdkError::ServiceError(context) => {
                let status = context.raw().status().as_u16();
                let meta = context.err().meta();
                let code = meta.code().unwrap_or("no error code");
                let message = presentable(meta.message().unwrap_or("no message"));
                let id = meta.request_id().map_or_else(String::new, |id| format!(", request {id}"));
                if is_about_credentials(code) {
                    self.credentials.distrust();
                }
                let said = format!("{code}: {} (HTTP {status}{id})", message.trim_end_matches('.'));
                sort(code, status, self.text(&said, &next_step(code, self.operation)))
            }
            SdkError::ConstructionFailure(_) => PutError::Refused(self.text(&chain(error), "")),
            // Credentials are looked for before anything is sent; the SDK calls that a dispatch failure.
            SdkError::DispatchFailure(context) if context.is_other() || context.is_user() => {
                let text = chain(error);
                if text.contains("credential") {
                    PutError::Refused(self.text(&text, NO_CREDENTIALS))
                } else if context.is_user() {
                    PutError::Refused(self.text(&text, ""))
                } else {
                    PutError::Unanswered(self.text(&text, AWAY))
                }
            }
            // Timeouts, connections refused or broken off, answers that cannot be read. The SDK's enum may grow.
            _ => PutError::Unanswered(self.text(&chain(error), AWAY)),
        }
    }

    /// It was answered with nothing.
    pub fn empty(&self) -> PutError {
        PutError::Unanswered(self.text("the answer is empty", ""))
    }

    fn text(&self, said: &str, next: &str) -> String {
        let Self { operation, place, .. } = self;
        let separator = if next.is_empty() { "" } else { ". " };
        format!("{operation} on the stream {place}: {said}{separator}{next}")
    }
}

/// For what may be an outage of the service or of the way to it.
const AWAY: &str = "It is tried again until it answers; if only this machine cannot reach it, look at the network, \
    kinesis.region and kinesis.endpoint";
/// For a machine without any.
const NO_CREDENTIALS: &str = "Give this process credentials, by a role, a profile or AWS_ACCESS_KEY_ID and \
    AWS_SECRET_ACCESS_KEY; only environment variables need a restart";

/// What a person can do about it.
fn next_step(code: &str, operation: &str) -> String {
    let text = match code {
        "AccessDeniedException" => {
            return format!("Allow kinesis:{operation} on it to these credentials; no restart is needed");
        }
        "ResourceNotFoundException" => {
            "Are kinesis.stream, its region and its account right? If it was deleted: nothing is sent until there is one of this \
             name, and another one than before is refused"
        }
        "KMSAccessDeniedException" => {
            "Allow kms:GenerateDataKey on the stream's key to these credentials, in their policy and in the key's; no restart is \
             needed"
        }
        "KMSDisabledException" => "Enable the stream's KMS key; no restart is needed",
        "KMSInvalidStateException" => {
            "The stream's KMS key cannot be used, perhaps because its deletion is pending: cancel that and enable the key, or \
             encrypt the stream with another one; no restart is needed"
        }
        "KMSNotFoundException" => {
            "The stream's KMS key is gone: encrypt the stream with another one (StartStreamEncryption); no restart is needed"
        }
        "KMSOptInRequired" => "This AWS account has no subscription for KMS: complete its registration",
        "KMSThrottlingException" => "The account's KMS requests are used up: raise that quota, or wait",
        code if is_about_the_clock(code) => {
            "Set this machine's clock (the service allows five minutes) and see that the secret access key belongs to the access \
             key; the AWS environment is read again each time, only environment variables need a restart"
        }
        code if is_about_credentials(code) => {
            "Renew the credentials where they come from: roles and profiles are read again each time, only environment variables \
             need a restart"
        }
        "ValidationException" | "InvalidArgumentException" => {
            "The stream's settings are read again, in case its largest record is smaller now; if it stays, report it with this line"
        }
        _ => "",
    };
    text.to_owned()
}

fn is_about_the_clock(code: &str) -> bool {
    matches!(
        code,
        "InvalidSignatureException" | "SignatureDoesNotMatch" | "RequestExpired" | "RequestTimeTooSkewed"
    )
}

/// The service's codes that mean "not with these credentials": the environment may have others by now.
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

/// The service's codes that mean "slower".
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

/// Sorts an answer that is an error. What the service gives up on (5xx) may have been stored; any other 4xx was refused
/// before that: permissions, KMS keys, a missing or inactive stream, validation.
fn sort(code: &str, status: u16, text: String) -> PutError {
    if is_throttling(code) || status == 429 {
        PutError::Throttled(text)
    } else if status >= 500 || status == 408 || matches!(code, "InternalFailure" | "InternalFailureException")
    {
        PutError::Unanswered(text)
    } else if code == "ResourceNotFoundException" {
        PutError::Missing(text)
    } else {
        PutError::Refused(text)
    }
}

/// A message of the service without the values it quotes, which may be keys, and not longer than a line or two.
pub(super) fn presentable(message: &str) -> String {
    const LONGEST: usize = 400;
    let parts = message.split_once("Value '").zip(message.rsplit_once("' at '"));
    let spared = match parts {
        Some(((before, _), (_, after))) => format!("{before}Value (left out) at '{after}"),
        None => message.to_owned(),
    };
    spared.chars().take(LONGEST).collect()
}

/// An error and its causes, each said once.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(error: &PutError) -> &'static str {
        match error {
            PutError::Throttled(_) => "throttled",
            PutError::Unanswered(_) => "unanswered",
            PutError::Refused(_) => "refused",
            PutError::Missing(_) => "missing",
        }
    }

    #[test]
    fn errors_of_a_request_are_sorted() {
        for (code, status, expected) in [
            ("ProvisionedThroughputExceededException", 400, "throttled"),
            ("LimitExceededException", 400, "throttled"),
            ("KMSThrottlingException", 400, "throttled"),
            ("ThrottlingException", 400, "throttled"),
            ("no error code", 429, "throttled"),
            ("InternalFailure", 500, "unanswered"),
            ("InternalFailureException", 400, "unanswered"),
            ("no error code", 503, "unanswered"),
            ("ServiceUnavailable", 503, "unanswered"),
            ("AccessDeniedException", 400, "refused"),
            ("ResourceNotFoundException", 400, "missing"),
            ("ResourceInUseException", 400, "refused"),
            ("KMSDisabledException", 400, "refused"),
            ("KMSAccessDeniedException", 400, "refused"),
            ("ValidationException", 400, "refused"),
            ("ExpiredTokenException", 400, "refused"),
            ("UnrecognizedClientException", 400, "refused"),
            ("InvalidSignatureException", 403, "refused"),
            ("KMSInvalidStateException", 400, "refused"),
            ("KMSNotFoundException", 400, "refused"),
            ("KMSOptInRequired", 400, "refused"),
            ("no error code", 413, "refused"),
        ] {
            assert_eq!(kind(&sort(code, status, String::new())), expected, "{code} {status}");
        }
    }

    #[test]
    fn a_message_is_presented_without_the_values_it_quotes() {
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
    fn every_refusal_that_a_person_can_mend_says_how() {
        for (code, word) in [
            ("AccessDeniedException", "kinesis:PutRecords"),
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
            assert!(next_step(code, "PutRecords").contains(word), "{code}");
        }
        assert_eq!(next_step("InternalFailure", "PutRecords"), "");
    }
}
