//! The dead letter of a change that cannot become events: one JSON line with everything that is needed to
//! examine it.
//!
//! Several rules can fail for one change. The first of their letters has the raw change, and the others refer
//! to that letter (`raw_in`), so a large row is stored once. Every text in a letter is bounded, and
//! [`ChangeEntry::push_alone`] creates one that always fits into a frame. So no content can stop receiving.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::change::{ChangePlace, Message, Relation, Unreadable};
use crate::event::{RecordKind, Records};
use crate::failure::Problem;
use crate::json;
use crate::letter_id::LetterId;
use crate::translate::{Failed, TransactionContext};

/// Most bytes of a raw change that a dead letter keeps: the largest record of Kinesis. A larger change could
/// never be published, not even by a retry.
const RAW_MAX: usize = 10 << 20;
/// Bytes of a raw change that are kept if the whole of it does not fit into the log.
const RAW_BEGINNING: usize = 64 << 10;
/// Longest reason, in bytes. Errors can quote names of any length.
const REASON_MAX: usize = 4 << 10;
/// Longest name of a table, in bytes. `PostgreSQL`'s own limit is 127.
const TABLE_MAX: usize = 512;

/// The dead letter of a change.
#[derive(Clone, Copy, Debug)]
pub struct ChangeEntry<'a> {
    /// Epoch of the position.
    pub epoch: u16,
    /// Position of the change.
    pub place: ChangePlace,
    /// The event whose rule failed, while the change's other events are published; `None`: the whole change
    /// failed.
    pub rule: Option<&'a str>,
    /// `schema.table`, if it is known.
    pub table: Option<&'a str>,
    /// The definition of the table, which a retry needs; `None` if the change cannot be decoded.
    pub relation: Option<&'a Relation>,
    /// The context of its transaction.
    pub context: Option<&'a TransactionContext>,
    /// Why it cannot be translated. Contains no row values.
    pub reason: &'a str,
    /// Advice for the operator.
    pub hint: Option<&'a str>,
    /// Size of the change as it was received, in bytes.
    pub size: u64,
    /// The message as it was received, or its beginning.
    pub raw: &'a [u8],
    /// The letter of the same change with the raw change and the description of the table; `None`: this one.
    pub raw_in: Option<&'a LetterId>,
}

/// A reason as it is logged and stored: only its beginning if it is very long.
pub fn bounded_reason(reason: &str) -> Cow<'_, str> {
    bounded(reason, REASON_MAX)
}

/// Primary message and detail. The hint is a field of its own in a letter.
pub fn one_line(problem: &Problem) -> String {
    match problem.detail() {
        Some(detail) => format!("{}. {detail}", problem.primary()),
        None => problem.primary().to_owned(),
    }
}

fn bounded(text: &str, bytes: usize) -> Cow<'_, str> {
    if text.len() <= bytes {
        return Cow::Borrowed(text);
    }
    let kept = text.get(..text.floor_char_boundary(bytes)).unwrap_or_default();
    Cow::Owned(format!("{kept}… ({} bytes)", text.len()))
}

impl<'a> ChangeEntry<'a> {
    /// For a change that the source could not read.
    pub const fn unreadable(
        change: &Unreadable<'a>,
        epoch: u16,
        context: Option<&'a TransactionContext>,
    ) -> Self {
        Self {
            epoch,
            place: change.place,
            rule: None,
            table: change.table,
            relation: change.relation,
            context,
            reason: change.reason,
            hint: None,
            size: change.size,
            raw: change.raw,
            raw_in: None,
        }
    }

    /// For a logical message that is not a valid event; `owner` is the rule that selects it.
    pub const fn message(
        message: &Message<'a>,
        epoch: u16,
        owner: Option<&'a str>,
        context: Option<&'a TransactionContext>,
        reason: &'a str,
        hint: Option<&'a str>,
    ) -> Self {
        Self {
            epoch,
            place: message.place,
            rule: None,
            table: owner,
            relation: None,
            context,
            reason,
            hint,
            size: message.size,
            raw: message.raw,
            raw_in: None,
        }
    }

    /// Adds it as a record of its change, with the table's name as key. It counts for the event type whose
    /// rule failed, or for the table if the whole change failed.
    pub fn push(&self, records: &mut Records) {
        let table = bounded(self.table.unwrap_or("unknown"), TABLE_MAX);
        let counted = self.rule.unwrap_or(&table);
        let mut scratch = String::new();
        let key = crate::translate::envelope::partition_key(&table, &mut scratch);
        let written: Result<(), std::convert::Infallible> =
            records.push(RecordKind::DeadLetter, counted, key, |out| {
                self.write(out);
                Ok(())
            });
        match written {
            Ok(()) => {}
        }
    }

    /// Adds it as the only record of its change: whole if it fits, otherwise without the description of the
    /// table and with only the beginning of the raw change.
    pub fn push_alone(&self, records: &mut Records) {
        for shorter in [
            *self,
            Self { relation: None, raw: self.raw.get(..RAW_BEGINNING).unwrap_or(self.raw), ..*self },
            Self { relation: None, raw: &[], ..*self },
        ] {
            records.clear();
            shorter.push(records);
            if records.fit() {
                return;
            }
        }
    }

    /// Adds a letter for each event whose rule failed. The first has the raw change for all of them. Events
    /// of the same type share a letter, because a retry creates all of them.
    pub fn push_failed(&self, failed: &[Failed], records: &mut Records) {
        let position = self.place.position(self.epoch);
        let mut first: Option<LetterId> = None;
        for (nth, Failed { event_type, reason }) in failed.iter().enumerate() {
            if failed.iter().take(nth).any(|before| before.event_type == *event_type) {
                continue;
            }
            let raw_in = first.clone();
            let whole: ChangeEntry<'_> = *self;
            ChangeEntry {
                rule: Some(event_type),
                reason: &one_line(reason),
                hint: reason.hint(),
                raw_in: raw_in.as_ref(),
                ..whole
            }
            .push(records);
            first.get_or_insert_with(|| LetterId::of_rule(position, event_type));
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let transaction = self.place.transaction;
        let raw = self.raw.get(..RAW_MAX).unwrap_or(self.raw);
        out.extend_from_slice(b"{\"reason\":");
        json::write_string(out, &bounded_reason(self.reason));
        if let Some(hint) = self.hint {
            out.extend_from_slice(b",\"hint\":");
            json::write_string(out, &bounded_reason(hint));
        }
        out.extend_from_slice(b",\"table\":");
        match self.table {
            Some(table) => json::write_string(out, &bounded(table, TABLE_MAX)),
            None => out.extend_from_slice(b"null"),
        }
        if let Some(rule) = self.rule {
            out.extend_from_slice(b",\"rule\":");
            json::write_string(out, rule);
        }
        out.extend_from_slice(b",\"position\":");
        json::write_string(out, &self.place.position(self.epoch).to_string());
        out.extend_from_slice(b",\"lsn\":");
        json::write_string(out, &self.place.record.to_string());
        out.extend_from_slice(b",\"xid\":");
        crate::translate::id::write_integer(out, i64::from(transaction.xid));
        out.extend_from_slice(b",\"committed\":\"");
        crate::time::write_rfc3339(out, transaction.time);
        out.extend_from_slice(b"\",\"size\":");
        crate::translate::id::write_integer(out, i64::try_from(self.size).unwrap_or(i64::MAX));
        out.extend_from_slice(b",\"raw_kept\":");
        crate::translate::id::write_integer(out, i64::try_from(raw.len()).unwrap_or(i64::MAX));
        let numbers = [
            ("epoch", i64::from(self.epoch)),
            ("index", i64::from(self.place.index)),
            ("nth", i64::from(self.place.nth)),
            ("time", transaction.time),
        ];
        for (name, number) in numbers {
            out.extend_from_slice(format!(",\"{name}\":{number}").as_bytes());
        }
        out.extend_from_slice(format!(",\"commit\":\"{}\"", transaction.commit).as_bytes());
        if let Some(first) = self.raw_in {
            out.extend_from_slice(format!(",\"raw_in\":\"{first}\"}}\n").as_bytes());
            return;
        }
        if let Some(relation) = self.relation {
            out.extend_from_slice(b",\"relation\":");
            super::kept::write_relation(out, relation);
        } else if raw.first() == Some(&b'M') {
            out.extend_from_slice(b",\"message\":true");
        }
        if let Some(context) = self.context {
            out.extend_from_slice(b",\"context\":{");
            context.write_members(out, false);
            out.push(b'}');
        }
        out.extend_from_slice(b",\"raw\":\"");
        let start = out.len();
        // Reserves the exact size of the largest part, so that the buffer is not doubled.
        out.reserve_exact(raw.len().div_ceil(3) * 4 + 3);
        out.resize(start + raw.len().div_ceil(3) * 4, 0);
        // The space is exactly what the encoding needs.
        let written = out.get_mut(start..).map_or(0, |space| STANDARD.encode_slice(raw, space).unwrap_or(0));
        out.truncate(start + written);
        out.extend_from_slice(b"\"}\n");
    }
}
