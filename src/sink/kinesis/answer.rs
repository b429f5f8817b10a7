//! Parses the service's responses to puts. Does no I/O.
//!
//! Texts of a response are borrowed from its bytes until they are classified.

use std::borrow::Cow;

use hyper::HeaderMap;
use serde::Deserialize;

use super::classify::{ServiceReply, is_throttling, presentable};
use crate::sink::RecordResult;

/// Body of a successful response (awsJson1.1).
#[derive(Debug, Deserialize)]
struct PutOutput<'a> {
    #[serde(borrow, rename = "Records", default)]
    records: Vec<PutEntry<'a>>,
}

/// Result of one record. Results are in the order of the request.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct PutEntry<'a> {
    #[serde(borrow)]
    sequence_number: Option<Borrowed<'a>>,
    #[serde(borrow)]
    shard_id: Option<Borrowed<'a>>,
    #[serde(borrow)]
    error_code: Option<Borrowed<'a>>,
    #[serde(borrow)]
    error_message: Option<Borrowed<'a>>,
}

/// A text that is copied only if it has escapes. Serde always copies an optional `Cow`.
#[derive(Debug, Deserialize)]
struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);

/// Body of an error response.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorOutput<'a> {
    #[serde(borrow, rename = "__type", alias = "code", alias = "Code")]
    kind: Option<Borrowed<'a>>,
    #[serde(borrow, alias = "Message", alias = "errorMessage")]
    message: Option<Borrowed<'a>>,
}

/// Reads the result of each record.
///
/// # Errors
/// The body is not that of a `PutRecords` response.
pub(super) fn answers(body: &[u8]) -> Result<Vec<RecordResult>, serde_json::Error> {
    let output: PutOutput<'_> = serde_json::from_slice(body)?;
    Ok(output.records.into_iter().map(answer).collect())
}

fn answer(entry: PutEntry<'_>) -> RecordResult {
    match (entry.sequence_number, entry.shard_id, entry.error_code) {
        (Some(sequence), Some(shard), None) => {
            RecordResult::Accepted { sequence: sequence.0.into_owned(), shard: shard.0.into_owned() }
        }
        (_, _, Some(code)) if is_throttling(&code.0) => RecordResult::Throttled,
        (_, _, code) => {
            let code = code.map_or(Cow::Borrowed("no sequence number"), |code| code.0);
            RecordResult::Failed {
                reason: match entry.error_message {
                    Some(text) => format!("{code}: {}", presentable(&text.0)),
                    None => code.into_owned(),
                },
            }
        }
    }
}

/// Reads an error response. The error code is in a header or in the body, perhaps with a namespace before it
/// or a URL after it.
pub(super) fn refusal<'a>(status: u16, headers: &'a HeaderMap, body: &'a [u8]) -> ServiceReply<'a> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let output: ErrorOutput<'_> = serde_json::from_slice(body).unwrap_or_default();
    let code = header("x-amzn-errortype").map(Cow::Borrowed).or_else(|| output.kind.map(|kind| kind.0));
    ServiceReply {
        status,
        code: code.map(bare_code).filter(|code| !code.is_empty()),
        message: output.message.map(|message| message.0),
        request_id: header("x-amzn-requestid").or_else(|| header("x-amz-request-id")),
        content_type: header("content-type"),
        date: header("date"),
    }
}

/// Turns `com.amazonaws.kinesis#ThrottlingException:http://…` into `ThrottlingException`.
fn bare_code(code: Cow<'_, str>) -> Cow<'_, str> {
    let bare = |text: &str| -> (usize, usize) {
        let end = text.find(':').unwrap_or(text.len());
        let start = text.get(..end).and_then(|text| text.rfind('#')).map_or(0, |at| at + 1);
        (start, end)
    };
    let (start, end) = bare(&code);
    match code {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(start..end).unwrap_or_default()),
        Cow::Owned(text) => Cow::Owned(text.get(start..end).unwrap_or_default().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_results_are_classified() {
        let failed = |reason: &str| RecordResult::Failed { reason: reason.to_owned() };
        let accepted = RecordResult::Accepted { sequence: "49".to_owned(), shard: "shardId-0".to_owned() };
        for (entry, expected) in [
            (r#"{"SequenceNumber":"49","ShardId":"shardId-0"}"#, accepted.clone()),
            (
                r#"{"SequenceNumber":"4\u0039","ShardId":"shardId-0","ErrorCode":null,"ErrorMessage":null,"New":[{}]}"#,
                accepted,
            ),
            (
                r#"{"ErrorCode":"ProvisionedThroughputExceededException","ErrorMessage":"Rate exceeded"}"#,
                RecordResult::Throttled,
            ),
            (r#"{"ErrorCode":"InternalFailure","ErrorMessage":"oops"}"#, failed("InternalFailure: oops")),
            (r#"{"ErrorCode":"InternalFailure"}"#, failed("InternalFailure")),
            // A record with an error code does not count as accepted.
            (r#"{"SequenceNumber":"49","ShardId":"s","ErrorCode":"X"}"#, failed("X")),
            (r#"{"SequenceNumber":"49"}"#, failed("no sequence number")),
            ("{}", failed("no sequence number")),
        ] {
            let body = format!(
                "{{\"FailedRecordCount\":0,\"Records\":[{entry},{entry}],\"EncryptionType\":\"NONE\"}}"
            );
            assert_eq!(answers(body.as_bytes()).unwrap(), vec![expected.clone(), expected], "{entry}");
        }
        assert_eq!(answers(b"{}").unwrap(), vec![]);
        for bad in ["", "<html>", r#"{"Records":{}}"#, r#"{"Records":[{"ShardId":1}]}"#, "{\"Records\":[]"] {
            assert!(answers(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn usual_texts_are_not_copied() {
        let body = br#"{"Records":[{"SequenceNumber":"49","ShardId":"shardId-0"}]}"#;
        let output: PutOutput<'_> = serde_json::from_slice(body).unwrap();
        let entry = &output.records[0];
        for text in [&entry.sequence_number, &entry.shard_id] {
            assert!(matches!(text, Some(Borrowed(Cow::Borrowed(_)))));
        }
    }

    #[test]
    fn error_is_read_from_header_or_body() {
        for (header, body, code, message) in [
            (
                Some("X:http://internal.amazon.com/coral/"),
                r#"{"__type":"Y","message":"m"}"#,
                Some("X"),
                Some("m"),
            ),
            (None, r#"{"__type":"com.amazonaws.kinesis.v20131202#Y","Message":"m"}"#, Some("Y"), Some("m")),
            (None, r#"{"code":"a#Y:http://b#c"}"#, Some("Y"), None),
            (None, r#"{"__type":"\u0059"}"#, Some("Y"), None),
            (Some("#:"), "{}", None, None),
            (None, "<html>Request Entity Too Large</html>", None, None),
            (None, "", None, None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert("x-amzn-errortype", header.parse().unwrap());
            }
            headers.insert("x-amzn-requestid", "id-1".parse().unwrap());
            let reply = refusal(400, &headers, body.as_bytes());
            assert_eq!((reply.code.as_deref(), reply.message.as_deref()), (code, message), "{body}");
            assert_eq!(reply.request_id, Some("id-1"));
        }
    }
}
