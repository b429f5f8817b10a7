//! A dead letter becomes records once more: the event as it was, or its raw change translated anew.

use crate::buffer::dead_letter::position_of;
use crate::change::Change;
use crate::event::{Record, RecordKind, Records};
use crate::position::Position;
use crate::source::postgres::again;
use crate::source::postgres::pgoutput::Cells;
use crate::translate::dead_letter::{DeadLetter, Kept, NotKept};
use crate::translate::{Failed, Outcome, Translator};

/// Why a letter does not become records.
#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    /// The line is not one that Forebay has written.
    #[error("the line of the dead letter cannot be read: {0}")]
    Line(#[from] serde_json::Error),
    /// A retry cannot help.
    #[error(transparent)]
    NotKept(#[from] NotKept),
    /// It fails again, for this reason.
    #[error("{0}")]
    Again(String),
}

#[derive(serde::Deserialize)]
struct Head {
    #[serde(rename = "type", default)]
    event_type: String,
    #[serde(default)]
    key: String,
}

#[derive(serde::Deserialize)]
struct Event {
    sequence: Option<String>,
}

/// The content of a letter's line.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// An event, without its line feed.
    Event(&'a [u8]),
    /// What [`DeadLetter`] has written.
    Change(&'a [u8]),
}

/// The event or change in a line of the dead-letter file, byte for byte. Quotes within texts are escaped, so that the
/// first member of that name is the member.
pub fn content(line: &[u8]) -> Option<Content<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line).strip_suffix(b"}")?;
    let after = |mark: &[u8]| {
        let at = line.windows(mark.len()).take(HEAD_MAX).position(|window| window == mark)?;
        line.get(at + mark.len()..)
    };
    after(b",\"event\":").map(Content::Event).or_else(|| after(b",\"change\":").map(Content::Change))
}

/// The head of a line holds two names of at most 64 KiB, escaped, and a reason.
const HEAD_MAX: usize = 1 << 20;

/// Why what was readable once cannot come into the log now.
const TOO_LARGE: &str = "it is larger than the log may be (buffer.max_size), or than any stream takes";

/// Adds the records of a letter's line; `most` bytes of them fit into a frame. What fails again becomes a dead letter
/// again. Returns where the change stands.
///
/// # Errors
/// The line cannot be read, or is gone.
pub fn records(
    line: &[u8],
    translator: &Translator,
    most: usize,
    records: &mut Records,
) -> Result<Position, RetryError> {
    match content(line) {
        Some(Content::Event(event)) => {
            if line.len() > most {
                return Err(RetryError::Again(TOO_LARGE.to_owned()));
            }
            let head: Head = serde_json::from_slice(line)?;
            let Event { sequence } = serde_json::from_slice(event)?;
            let pushed: Result<(), std::convert::Infallible> =
                records.push(RecordKind::Event, &head.event_type, &head.key, |out| {
                    out.extend_from_slice(event);
                    out.push(b'\n');
                    Ok(())
                });
            match pushed {
                Ok(()) => Ok(sequence.as_deref().and_then(position_of_sequence).unwrap_or_default()),
            }
        }
        Some(Content::Change(change)) => {
            let kept = Kept::read(change)?;
            if let Err(RetryError::Again(reason)) = translate(&kept, translator, most, records) {
                records.clear();
                dead(&kept, kept.rule.as_deref(), &reason).push(records);
            }
            Ok(kept.place.position(kept.epoch))
        }
        None => Err(NotKept::Malformed("it has neither event nor change".to_owned()).into()),
    }
}

/// Whether a letter's change can be translated now, or its event can be sent again.
///
/// # Errors
/// Why not.
pub fn check(line: &[u8], translator: &Translator, most: usize) -> Result<(), RetryError> {
    let mut made = Records::default();
    match content(line) {
        Some(Content::Change(change)) => translate(&Kept::read(change)?, translator, most, &mut made),
        Some(Content::Event(_)) | None => records(line, translator, most, &mut made).map(drop),
    }
}

fn translate(
    kept: &Kept,
    translator: &Translator,
    most: usize,
    records: &mut Records,
) -> Result<(), RetryError> {
    let mut translator = translator.of_epoch(kept.epoch);
    translator.set_context(kept.context.clone());
    let mut outcome = Outcome::default();
    let again = |error: &dyn std::fmt::Display| RetryError::Again(error.to_string());
    let mut cells = Cells::default();
    let mut make = |records: &mut Records, outcome: &mut Outcome| {
        let Some(relation) = &kept.relation else {
            let message = again::message(kept.place, &kept.raw).map_err(RetryError::Again)?;
            return translator.message(&message, records).map_err(|error| again(&error));
        };
        let operation =
            again::decode(&kept.raw, relation.columns.len(), &mut cells).map_err(RetryError::Again)?;
        let change = Change { place: kept.place, relation, operation, raw: &kept.raw };
        translator.translate(&change, records, outcome).map_err(|error| again(&error))
    };
    match &kept.rule {
        None => {
            make(records, &mut outcome)?;
            for Failed { event_type, reason } in &outcome.failed {
                dead(kept, Some(event_type), reason).push(records);
            }
        }
        Some(rule) => {
            let mut all = Records::default();
            make(&mut all, &mut outcome)?;
            if let Some(failed) = outcome.failed.iter().find(|failed| failed.event_type == *rule) {
                return Err(RetryError::Again(failed.reason.clone()));
            }
            for record in all.iter().filter(|record| record.event_type == rule) {
                push(records, &record);
            }
        }
    }
    if records.is_empty() {
        return Err(RetryError::Again(match &kept.rule {
            None => {
                "no rule wants its table any more: discard it, or include the table again (tables.exclude)"
                    .to_owned()
            }
            Some(rule) => format!("{rule} does not want this change any more: discard it, or mend the rule"),
        }));
    }
    if records.size() > most {
        return Err(RetryError::Again(TOO_LARGE.to_owned()));
    }
    Ok(())
}

fn push(records: &mut Records, record: &Record<'_>) {
    let pushed: Result<(), std::convert::Infallible> =
        records.push(record.kind, record.event_type, record.key, |out| {
            out.extend_from_slice(record.line);
            Ok(())
        });
    match pushed {
        Ok(()) => {}
    }
}

fn dead<'a>(kept: &'a Kept, rule: Option<&'a str>, reason: &'a str) -> DeadLetter<'a> {
    DeadLetter {
        epoch: kept.epoch,
        place: kept.place,
        rule,
        table: Some(&kept.table),
        relation: kept.relation.as_deref(),
        context: kept.context.as_ref(),
        reason,
        size: kept.raw.len() as u64,
        raw: &kept.raw,
    }
}

/// The position in an event's `sequence`: epoch, commit and index in hex digits.
fn position_of_sequence(sequence: &str) -> Option<Position> {
    let hex = |range| u64::from_str_radix(sequence.get(range)?, 16).ok();
    let (commit, index) = (hex(4..20)?, u32::try_from(hex(20..28)?).ok()?);
    position_of(&format!("{}:{:X}/{:X}:{index}", hex(0..4)?, commit >> 32, commit & 0xFFFF_FFFF))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Lsn;
    use crate::translate::Settings;

    #[test]
    fn the_content_is_found_behind_any_head() {
        let line = b"{\"id\":\"x\",\"reason\":\"a \\\",\\\"event\\\":\\\" b\",\"event\":{\"a\":\"}\"}}\n";
        assert!(matches!(content(line), Some(Content::Event(b"{\"a\":\"}\"}"))));
        let line = b"{\"reason\":\"r\",\"change\":{\"raw\":\"\"}}\n";
        assert!(matches!(content(line), Some(Content::Change(b"{\"raw\":\"\"}"))));
        assert!(content(b"{}\n").is_none() && content(b"").is_none());
    }

    #[test]
    fn a_sequence_says_its_position() {
        let position = Position { epoch: 3, commit: Lsn::new(0x16_B374_D848), index: 9 };
        assert_eq!(position_of_sequence("000300000016B374D848000000090001"), Some(position));
        for bad in ["", "0003", "000300000016B374D84Z000000090001"] {
            assert_eq!(position_of_sequence(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_event_is_sent_as_it_was() {
        let line = b"{\"frame\":1,\"part\":0,\"type\":\"t.v1\",\"key\":\"k\",\"reason\":\"r\",\"event\":{\"sequence\":\"000300000016B374D848000000090001\"}}\n";
        let translator = Translator::new("urn:forebay:lab", 9, Settings::default());
        let mut made = Records::default();
        let position = records(line, &translator, 1 << 20, &mut made).unwrap();
        assert_eq!(position.epoch, 3);
        let record = made.iter().next().unwrap();
        assert_eq!((record.event_type, record.key), ("t.v1", "k"));
        assert_eq!(record.line, b"{\"sequence\":\"000300000016B374D848000000090001\"}\n");
    }

    #[test]
    fn an_event_that_the_log_cannot_hold_any_more_is_told_before() {
        let line = b"{\"type\":\"t.v1\",\"key\":\"k\",\"event\":{\"sequence\":\"000300000016B374D848000000090001\"}}\n";
        let translator = Translator::new("urn:forebay:lab", 9, Settings::default());
        assert!(check(line, &translator, 1 << 10).is_ok());
        assert!(matches!(check(line, &translator, 20), Err(RetryError::Again(_))));
    }
}
