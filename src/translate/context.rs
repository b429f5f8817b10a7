//! What a transaction says of itself: who, why, in which trace. A transactional logical message with the prefix
//! `forebay:context` and an object of texts applies to all events of its transaction that come after it.
//!
//! A value that is no good is left out: what an application says beside its data never stops the data.

use serde::{Deserialize, Serialize};

use super::json;

/// Prefix of the messages.
pub const CONTEXT_PREFIX: &str = "forebay:context";

/// Largest content that is looked at, in bytes.
const CONTENT_MAX: usize = 16 << 10;

/// Longest text, in characters.
const TEXT_MAX: usize = 256;

/// What a transaction has said of itself. At least one thing is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionContext {
    /// What groups the events of one request or process.
    #[serde(skip_serializing_if = "Option::is_none")]
    correlationid: Option<String>,
    /// The trace, in W3C's form.
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    /// Who.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
}

impl TransactionContext {
    /// Reads a message's content; `None`: it says nothing that is good. With it, what is wrong, without values.
    pub fn read(content: &[u8]) -> (Option<Self>, Vec<String>) {
        if content.len() > CONTENT_MAX {
            return (None, vec![format!("it has more than {CONTENT_MAX} bytes")]);
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
                    wrong.push("it has a member beside correlationid, traceparent and user".to_owned());
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

    /// Appends what is given as members of an object, each or each but the first behind a comma.
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
    }
}

fn form_of(name: &str) -> &'static str {
    match name {
        "traceparent" => "is not of the W3C's form, 00-<32 hex digits>-<16 hex digits>-<2 hex digits>",
        _ => "is not a text of 1 to 256 characters without control characters",
    }
}

fn is_text(text: &str) -> bool {
    // CloudEvents forbids control characters and non-characters in attributes.
    let forbidden = |c: char| {
        c.is_control()
            || matches!(u32::from(c) & 0xFFFF, 0xFFFE | 0xFFFF)
            || matches!(c, '\u{FDD0}'..='\u{FDEF}')
    };
    !text.is_empty() && !text.contains(forbidden) && text.chars().nth(TEXT_MAX).is_none()
}

/// Version 00 of the W3C's Trace Context, or a later one in the same form; ids of zeros are none.
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
    fn what_is_good_is_taken_in_one_order_and_the_rest_is_told() {
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
    fn a_traceparent_has_the_form_of_the_w3c() {
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
