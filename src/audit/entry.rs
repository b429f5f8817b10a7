//! The record of an event or a row that an audit sorts. It contains digests of values, never the values.

use std::collections::HashMap;

use super::line::{EventLine, digest};
use super::sorter::SortEntry;

/// The sequence of a row's entry: after every event of its key.
const OF_ROW: u128 = u128::MAX;

/// The kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    /// An event that shows a row.
    Present,
    /// An event that shows that the row was deleted.
    Deleted,
    /// A row of the database.
    Row,
}

/// Digests of fields, each with the number of the field's name.
pub(super) type Digests = Vec<(u16, u128)>;

/// An entry as it is read back.
#[derive(Debug)]
pub(super) struct AuditEntry {
    pub(super) kind: EntryKind,
    /// Digest of the whole line of an event.
    pub(super) line: u128,
    pub(super) fields: Digests,
    /// Fields whose value the database did not send.
    pub(super) unavailable: Vec<u16>,
}

/// Numbers for the names of fields.
#[derive(Debug, Default)]
pub(super) struct FieldNames {
    numbers: HashMap<String, u16>,
    names: Vec<String>,
}

impl FieldNames {
    /// The number of a name. `None`: there are more names than numbers.
    fn number(&mut self, name: &str) -> Option<u16> {
        if let Some(number) = self.numbers.get(name) {
            return Some(*number);
        }
        let number = u16::try_from(self.names.len()).ok()?;
        self.numbers.insert(name.to_owned(), number);
        self.names.push(name.to_owned());
        Some(number)
    }

    /// The name of a number.
    pub(super) fn name(&self, number: u16) -> &str {
        self.names.get(usize::from(number)).map_or("?", String::as_str)
    }

    /// The entry of an event or of a row. `group`: the index of its scope. `None`: the line has no sequence,
    /// or the archive has more field names than an audit can number.
    pub(super) fn entry(
        &mut self,
        group: u8,
        kind: EntryKind,
        event: &EventLine<'_>,
        line: &[u8],
    ) -> Option<SortEntry> {
        let sequence = if kind == EntryKind::Row { OF_ROW } else { event.order()? };
        let mut body = vec![match kind {
            EntryKind::Present => 0,
            EntryKind::Deleted => 1,
            EntryKind::Row => 2,
        }];
        let line = if kind == EntryKind::Row { 0 } else { digest(line) };
        body.extend_from_slice(&line.to_le_bytes());
        // The old row has only the key columns, and a delete needs no fields.
        let fields = if kind == EntryKind::Deleted { &[][..] } else { &event.data.0 };
        body.extend_from_slice(&u16::try_from(fields.len()).ok()?.to_le_bytes());
        for (name, value) in fields {
            body.extend_from_slice(&self.number(name)?.to_le_bytes());
            body.extend_from_slice(&digest(value.get().as_bytes()).to_le_bytes());
        }
        for name in event.unavailable() {
            body.extend_from_slice(&self.number(&name)?.to_le_bytes());
        }
        let key = [&[group][..], event.subject.as_bytes()].concat();
        Some(SortEntry { key, sequence, body })
    }
}

impl AuditEntry {
    /// Parses a body. `None`: [`FieldNames::entry`] did not write it.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let (kind, rest) = body.split_first()?;
        let (line, rest) = rest.split_first_chunk()?;
        let (count, mut rest) = rest.split_first_chunk()?;
        let mut fields = Digests::new();
        for _ in 0..u16::from_le_bytes(*count) {
            let (number, after) = rest.split_first_chunk()?;
            let (value, after) = after.split_first_chunk()?;
            fields.push((u16::from_le_bytes(*number), u128::from_le_bytes(*value)));
            rest = after;
        }
        let kind = match kind {
            0 => EntryKind::Present,
            1 => EntryKind::Deleted,
            _ => EntryKind::Row,
        };
        let (pairs, _) = rest.as_chunks();
        let unavailable = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
        Some(Self { kind, line: u128::from_le_bytes(*line), fields, unavailable })
    }
}
