//! A record that cannot leave becomes an entry of the dead-letter file.

use crate::sink::lanes::{DeadLetter, DeadReason};

/// Why it cannot leave.
pub fn reason(dead: &DeadLetter) -> String {
    match dead.reason {
        DeadReason::Untranslated => "the change could not be translated".to_owned(),
        DeadReason::TooLarge { size, limit } => {
            format!("the record has {size} bytes with its key, the stream takes at most {limit}")
        }
    }
}

/// One JSON line: the dead letter of ingest as it is, or the event that is too large.
pub fn entry(dead: &DeadLetter, reason: &str) -> Vec<u8> {
    let mut line = Vec::with_capacity(dead.line.len() + 256);
    line.extend_from_slice(format!("{{\"frame\":{},\"part\":{},\"type\":", dead.frame, dead.part).as_bytes());
    crate::translate::json::write_string(&mut line, &dead.event_type);
    line.extend_from_slice(b",\"key\":");
    crate::translate::json::write_string(&mut line, &String::from_utf8_lossy(&dead.key));
    line.extend_from_slice(b",\"reason\":");
    crate::translate::json::write_string(&mut line, reason);
    let field: &[u8] = match dead.reason {
        DeadReason::Untranslated => b",\"change\":",
        DeadReason::TooLarge { .. } => b",\"event\":",
    };
    line.extend_from_slice(field);
    line.extend_from_slice(dead.line.strip_suffix(b"\n").unwrap_or(&dead.line));
    line.extend_from_slice(b"}\n");
    line
}
