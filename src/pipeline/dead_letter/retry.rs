//! Creates the records of a dead letter again: its event unchanged, or its raw change translated again.

use std::sync::Arc;

use crate::change::{Change, Operation, Relation};
use crate::dead_letter::entry::{self, ChangeEntry, Content, Head, Kept, Lines, NotKept, content, one_line};
use crate::event::{Record, RecordKind, Records};
use crate::failure::Problem;
use crate::position::Position;
use crate::source::Redecode;
use crate::translate::{RuleOutcome, TranslateError, Translator};

/// Why a dead letter cannot be retried.
#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    /// The line is not one that Forebay has written.
    #[error("the line of the dead letter cannot be read: {0}")]
    Line(#[from] serde_json::Error),
    /// The letter lacks what a retry needs.
    #[error(transparent)]
    NotKept(#[from] NotKept),
    /// The translation failed again.
    #[error("{}", .0.primary())]
    Again(Problem),
}

impl RetryError {
    /// Advice for the operator.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Again(problem) => problem.hint(),
            Self::Line(_) | Self::NotKept(_) => None,
        }
    }
}

/// What the translation of a letter's change needs.
#[derive(Clone, Copy, Debug)]
pub struct RetryTools<'a> {
    /// The rules.
    pub translator: &'a Translator,
    /// Reads the captured change.
    pub source: &'a dyn Redecode,
}

/// Why a record that was in the log before cannot be appended now.
const TOO_LARGE: &str = "it is larger than the log may be (buffer.max_size), or than any stream accepts";

/// Adds the records of a letter, as far as they fit into a frame, and returns the position of the change. An
/// event that fails again becomes a dead letter again.
///
/// # Errors
/// The line cannot be read, or a part of it is missing.
pub fn records(lines: &Lines, tools: RetryTools<'_>, records: &mut Records) -> Result<Position, RetryError> {
    let line = lines.letter.as_slice();
    match content(line) {
        Some(Content::Event(event)) => {
            let head = Head::read(line)?;
            let position = entry::sequence_of(event).map(|(position, _)| position);
            let pushed: Result<(), std::convert::Infallible> =
                records.push(RecordKind::Event, &head.event_type, &head.key, |out| {
                    out.extend_from_slice(event);
                    out.push(b'\n');
                    Ok(())
                });
            match pushed {
                Ok(()) if !records.fit() => Err(RetryError::Again(TOO_LARGE.into())),
                Ok(()) => Ok(position.unwrap_or_default()),
            }
        }
        Some(Content::Change(change)) => {
            let kept = lines.kept(change)?;
            if let Err(RetryError::Again(problem)) = translate(&kept, tools, records) {
                let reason = one_line(&problem);
                let entry = dead(&kept, kept.rule.as_deref(), &reason);
                ChangeEntry { hint: problem.hint(), ..entry }.push_alone(records);
            }
            Ok(kept.place.position(kept.epoch))
        }
        None => Err(NotKept::Malformed("it has neither event nor change".to_owned()).into()),
    }
}

/// Checks that a letter's change can be translated now, or that its event can be sent again.
///
/// # Errors
/// The reason why it cannot.
pub fn check(lines: &Lines, tools: RetryTools<'_>, limit: usize) -> Result<(), RetryError> {
    let mut made = Records::with_limit(limit);
    match content(&lines.letter) {
        Some(Content::Change(change)) => translate(&lines.kept(change)?, tools, &mut made),
        Some(Content::Event(_)) | None => records(lines, tools, &mut made).map(drop),
    }
}

/// Translates the change with the table definition in its letter. If that fails, tries the other known
/// definitions of the table.
fn translate(kept: &Kept, tools: RetryTools<'_>, records: &mut Records) -> Result<(), RetryError> {
    let Err(failed) = translate_as(kept, kept.relation.as_ref(), tools, records) else { return Ok(()) };
    let others =
        kept.relation.as_ref().map(|relation| tools.source.descriptions(relation)).unwrap_or_default();
    for other in others {
        let mut made = Records::with_limit(records.limit());
        if translate_as(kept, Some(&Arc::new(other)), tools, &mut made).is_ok() {
            records.clear();
            made.iter().for_each(|record| push(records, &record));
            return Ok(());
        }
    }
    Err(failed)
}

fn translate_as(
    kept: &Kept,
    relation: Option<&Arc<Relation>>,
    tools: RetryTools<'_>,
    records: &mut Records,
) -> Result<(), RetryError> {
    let RetryTools { translator, source } = tools;
    let mut translator = translator.of_epoch(kept.epoch);
    translator.set_context(kept.context.clone());
    let mut outcome = RuleOutcome::default();
    let again = |error: &TranslateError| RetryError::Again(Problem::of(error));
    let unread = |error: String| RetryError::Again(error.into());
    let mut make = |records: &mut Records, outcome: &mut RuleOutcome| {
        let Some(relation) = relation else {
            let message = source.message(kept.place, &kept.raw).map_err(unread)?;
            return translator.message(&message, records).map_err(|error| again(&error));
        };
        let mut made = Ok(());
        let mut then = |operation: Operation<'_>| {
            let change = Change { place: kept.place, relation, operation, raw: &kept.raw };
            made = translator.translate(&change, records, outcome).map_err(|error| again(&error));
        };
        source.row(&kept.raw, relation.columns.len(), &mut then).map_err(unread)?;
        made
    };
    match &kept.rule {
        None => {
            make(records, &mut outcome)?;
            if records.fit() {
                dead(kept, None, "").push_failed(&outcome.failed, records);
            }
        }
        Some(rule) => {
            let mut all = Records::with_limit(records.limit());
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
            None => Problem::new("no rule selects its table")
                .with_hint("Include the table again (tables.exclude), or discard the letter."),
            Some(rule) => Problem::new(format!("the rule for {rule} no longer selects this change"))
                .with_hint("Correct the rule, or discard the letter."),
        }));
    }
    if !records.fit() {
        return Err(RetryError::Again(TOO_LARGE.into()));
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

fn dead<'a>(kept: &'a Kept, rule: Option<&'a str>, reason: &'a str) -> ChangeEntry<'a> {
    ChangeEntry {
        epoch: kept.epoch,
        place: kept.place,
        rule,
        table: Some(&kept.table),
        relation: kept.relation.as_deref(),
        context: kept.context.as_ref(),
        reason,
        hint: None,
        size: kept.raw.len() as u64,
        raw: &kept.raw,
        raw_in: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::postgres::redecode::Pgoutput;
    use crate::translate::TranslateSettings;

    #[test]
    fn retried_event_is_byte_identical() {
        let line = b"{\"frame\":1,\"part\":0,\"type\":\"t.v1\",\"key\":\"k\",\"reason\":\"r\",\"event\":{\"sequence\":\"000300000016B374D848000000090001\"}}\n";
        let translator = Translator::new("urn:forebay:lab", 9, TranslateSettings::default());
        let mut made = Records::default();
        let lines = Lines { letter: line.to_vec(), raw: None };
        let position =
            records(&lines, RetryTools { translator: &translator, source: &Pgoutput }, &mut made).unwrap();
        assert_eq!(position.epoch, 3);
        let record = made.iter().next().unwrap();
        assert_eq!((record.event_type, record.key), ("t.v1", "k"));
        assert_eq!(record.line, b"{\"sequence\":\"000300000016B374D848000000090001\"}\n");
    }

    #[test]
    fn oversize_retry_is_refused_before_injection() {
        let line = b"{\"type\":\"t.v1\",\"key\":\"k\",\"event\":{\"sequence\":\"000300000016B374D848000000090001\"}}\n";
        let translator = Translator::new("urn:forebay:lab", 9, TranslateSettings::default());
        let lines = Lines { letter: line.to_vec(), raw: None };
        assert!(check(&lines, RetryTools { translator: &translator, source: &Pgoutput }, 1 << 10).is_ok());
        assert!(matches!(
            check(&lines, RetryTools { translator: &translator, source: &Pgoutput }, 20),
            Err(RetryError::Again(_))
        ));
    }
}
