//! Transaction context: who made a change, and in which request and trace.
//!
//! An application sends a transactional logical message with the prefix `forebay:context` and a JSON object
//! of strings. It applies to all later events of the same transaction. An invalid member is ignored and never
//! blocks an event.
//!
//! The origin of changes that are not live is part of the context too. Only the source sets it.

use serde::{Deserialize, Serialize};

use crate::json;

/// Prefix of the logical messages that carry a context.
pub const CONTEXT_PREFIX: &str = "forebay:context";

/// Largest message that is parsed, in bytes.
const CONTENT_MAX: usize = 16 << 10;

/// Longest value, in characters.
const TEXT_MAX: usize = 256;

/// The context of a transaction. At least one member is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionContext {
    /// Groups the events of one request or process.
    #[serde(skip_serializing_if = "Option::is_none")]
    correlationid: Option<String>,
    /// The trace, as W3C Trace Context defines it.
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    /// The user or service that made the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// Origin of its changes; `None`: live changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<StoredRows>,
}

/// The origin of rows that are not live changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredRows {
    /// They existed before the source was first read.
    Backfill,
}

impl TransactionContext {
    /// The context of rows that existed before the source was first read.
    pub fn backfill() -> Self {
        Self { origin: Some(StoredRows::Backfill), ..Self::default() }
    }

    /// Parses a message. Returns the context (`None` if no member is valid) and what is wrong with it,
    /// without values.
    pub fn read(content: &[u8]) -> (Option<Self>, Vec<String>) {
        if content.len() > CONTENT_MAX {
            return (None, vec![format!("it exceeds {CONTENT_MAX} bytes")]);
        }
        let members: serde_json::Map<String, serde_json::Value> = match serde_json::from_slice(content) {
            Ok(members) => members,
            Err(_) => return (None, vec!["it is not a JSON object".to_owned()]),
        };
        let (mut context, mut wrong) = (Self::default(), Vec::new());
        for (name, value) in members {
            let (slot, good): (_, fn(&str) -> bool) = match name.as_str() {
                "correlationid" => (&mut context.correlationid, is_text),
                "traceparent" => (&mut context.traceparent, is_traceparent),
                "user" => (&mut context.user, is_text),
                _ => {
                    wrong.push(
                        "it has an unknown member; correlationid, traceparent and user are \
                        known"
                            .to_owned(),
                    );
                    continue;
                }
            };
            match value {
                serde_json::Value::Null => {}
                serde_json::Value::String(text) if good(&text) => *slot = Some(text),
                _ => wrong.push(format!("{name} {}", form_of(&name))),
            }
        }
        ((context != Self::default()).then_some(context), wrong)
    }

    /// Appends the set members to a JSON object. `comma`: the first one needs a comma before it.
    pub fn write_members(&self, out: &mut Vec<u8>, mut comma: bool) {
        let members = [
            ("correlationid", &self.correlationid),
            ("traceparent", &self.traceparent),
            ("user", &self.user),
        ];
        for (name, value) in members {
            let Some(value) = value else { continue };
            if comma {
                out.push(b',');
            }
            comma = true;
            json::write_string(out, name);
            out.push(b':');
            json::write_string(out, value);
        }
        if let Some(StoredRows::Backfill) = self.origin {
            out.extend_from_slice(if comma { b"," } else { b"" });
            out.extend_from_slice(b"\"origin\":\"backfill\"");
        }
    }
}

fn form_of(name: &str) -> &'static str {
    match name {
        "traceparent" => "does not have the W3C form 00-<32 hex digits>-<16 hex digits>-<2 hex digits>",
        _ => "must be a string of 1 to 256 characters without control characters",
    }
}

fn is_text(text: &str) -> bool {
    // CloudEvents forbids control characters and noncharacters in attributes.
    let forbidden = |c: char| {
        c.is_control()
            || matches!(u32::from(c) & 0xFFFF, 0xFFFE | 0xFFFF)
            || matches!(c, '\u{FDD0}'..='\u{FDEF}')
    };
    !text.is_empty() && !text.contains(forbidden) && text.chars().nth(TEXT_MAX).is_none()
}

/// Whether a text is a W3C `traceparent` of version 00, or of a later version in the same form. Ids of zeros
/// are invalid.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, parent, flags] = parts[..] else { return false };
    let hex = |part: &str, length| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let some = |part: &str| part.bytes().any(|b| b != b'0');
    hex(version, 2)
        && version != "ff"
        && hex(trace, 32)
        && some(trace)
        && hex(parent, 16)
        && some(parent)
        && hex(flags, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn written(content: &str) -> (String, usize) {
        let (context, wrong) = TransactionContext::read(content.as_bytes());
        let mut out = Vec::new();
        if let Some(context) = context {
            context.write_members(&mut out, true);
        }
        (String::from_utf8(out).unwrap(), wrong.len())
    }

    #[test]
    fn origin_comes_from_the_source_alone() {
        let (taken, wrong) = written(r#"{"origin":"backfill"}"#);
        assert_eq!((taken.as_str(), wrong), ("", 1));
        let context = TransactionContext::backfill();
        for (comma, expected) in [(true, r#","origin":"backfill""#), (false, r#""origin":"backfill""#)] {
            let mut out = Vec::new();
            context.write_members(&mut out, comma);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        assert_eq!(serde_json::from_str::<TransactionContext>(r#"{"origin":"backfill"}"#).unwrap(), context);
    }

    #[test]
    fn valid_context_members_are_taken_and_others_reported() {
        let long = "ü".repeat(256);
        for (content, expected, wrong) in [
            ("{}".to_owned(), String::new(), 0),
            (
                format!(r#"{{"user":"mira","traceparent":"{TRACE}","correlationid":"c\"1"}}"#),
                format!(r#","correlationid":"c\"1","traceparent":"{TRACE}","user":"mira""#),
                0,
            ),
            (format!(r#"{{"user":"{long}"}}"#), format!(r#","user":"{long}""#), 0),
            (format!(r#"{{"user":"{long}!","correlationid":"c"}}"#), r#","correlationid":"c""#.to_owned(), 1),
            (r#"{"user":7,"correlationid":"","traceparent":"x","who":"me"}"#.to_owned(), String::new(), 4),
            (r#"{"user":"a\u0001b"}"#.to_owned(), String::new(), 1),
            (r#"{"user":null}"#.to_owned(), String::new(), 0),
            ("[]".to_owned(), String::new(), 1),
            ("\u{0}".to_owned(), String::new(), 1),
            (" ".repeat(CONTENT_MAX + 1), String::new(), 1),
        ] {
            assert_eq!(written(&content), (expected, wrong), "{content}");
        }
    }

    #[test]
    fn traceparent_has_w3c_form() {
        assert!(is_traceparent(TRACE));
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }
}
