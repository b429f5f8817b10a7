//! A change that cannot become events becomes a dead letter: one JSON line with everything needed to look into it.

mod kept;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::change::{Message, Place, Relation, Unreadable};
use crate::event::{RecordKind, Records};

pub use self::kept::{Kept, NotKept};

use super::{TransactionContext, json};

/// Most bytes of a raw change that a dead letter keeps: what Kinesis takes at most. A larger change could never leave,
/// not even after a retry.
pub const RAW_MAX: usize = 10 << 20;

/// What a dead letter says, beside the raw change.
#[derive(Clone, Copy, Debug)]
pub struct DeadLetter<'a> {
    /// Epoch of the position.
    pub epoch: u16,
    /// Where the change stands.
    pub place: Place,
    /// The event that could not be made of it, where the change's other events leave; `None`: none could.
    pub rule: Option<&'a str>,
    /// `schema.table`, if that much is known.
    pub table: Option<&'a str>,
    /// Its description, if the change can be decoded: what a retry needs beside the raw change.
    pub relation: Option<&'a Relation>,
    /// What its transaction had said of itself before.
    pub context: Option<&'a TransactionContext>,
    /// Why it cannot leave; no row values.
    pub reason: &'a str,
    /// Size of the change as it was received, in bytes.
    pub size: u64,
    /// The message as it was received, or its beginning.
    pub raw: &'a [u8],
}

impl<'a> DeadLetter<'a> {
    /// Of a change that the source could not read.
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
            size: change.size,
            raw: change.raw,
        }
    }

    /// Of a logical message of this owner that is no event.
    pub const fn message(
        message: &Message<'a>,
        epoch: u16,
        (owner, context): (Option<&'a str>, Option<&'a TransactionContext>),
        reason: &'a str,
    ) -> Self {
        Self {
            epoch,
            place: message.place,
            rule: None,
            table: owner,
            relation: None,
            context,
            reason,
            size: message.size,
            raw: message.raw,
        }
    }

    /// Adds it as a record of its change, under the table's name as key. The books count it for the event that could not be
    /// made; for the table, if that was none in particular.
    pub fn push(&self, records: &mut Records) {
        let table = self.table.unwrap_or("unknown");
        let counted = self.rule.unwrap_or(table);
        let mut scratch = String::new();
        let key = super::envelope::partition_key(table, &mut scratch);
        let written: Result<(), std::convert::Infallible> =
            records.push(RecordKind::DeadLetter, counted, key, |out| {
                self.write(out);
                Ok(())
            });
        match written {
            Ok(()) => {}
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let transaction = self.place.transaction;
        let raw = self.raw.get(..RAW_MAX).unwrap_or(self.raw);
        out.extend_from_slice(b"{\"reason\":");
        json::write_string(out, self.reason);
        out.extend_from_slice(b",\"table\":");
        match self.table {
            Some(table) => json::write_string(out, table),
            None => out.extend_from_slice(b"null"),
        }
        if let Some(rule) = self.rule {
            out.extend_from_slice(b",\"rule\":");
            json::write_string(out, rule);
        }
        out.extend_from_slice(b",\"position\":");
        json::write_string(out, &self.place.position(self.epoch).to_string());
        out.extend_from_slice(b",\"lsn\":");
        json::write_string(out, &self.place.lsn.to_string());
        out.extend_from_slice(b",\"xid\":");
        super::envelope::write_integer(out, i64::from(transaction.xid));
        out.extend_from_slice(b",\"committed\":\"");
        super::time::write_rfc3339(out, transaction.time);
        out.extend_from_slice(b"\",\"size\":");
        super::envelope::write_integer(out, i64::try_from(self.size).unwrap_or(i64::MAX));
        out.extend_from_slice(b",\"raw_kept\":");
        super::envelope::write_integer(out, i64::try_from(raw.len()).unwrap_or(i64::MAX));
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
        if let Some(relation) = self.relation {
            out.extend_from_slice(b",\"relation\":");
            kept::write_relation(out, relation);
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
        out.resize(start + raw.len().div_ceil(3) * 4, 0);
        // The space is exactly what the encoding needs.
        let written = out.get_mut(start..).map_or(0, |space| STANDARD.encode_slice(raw, space).unwrap_or(0));
        out.truncate(start + written);
        out.extend_from_slice(b"\"}\n");
    }
}
