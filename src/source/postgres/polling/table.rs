//! A table that is polled: its definition and its cursor.

use std::sync::Arc;

use super::cursor::Cursor;
use crate::change::Relation;
use crate::config::{Polling, TableName};
use crate::identity::PollingIdentity;
use crate::source::postgres::encoding::Encoding;
use crate::source::postgres::publication::quoted;
use crate::source::postgres::transcode::Transcoder;

/// Precedes, in a resume point, the hexadecimal digits of a text without a character in UTF-8. No text
/// contains it.
const HIDDEN: char = '\u{FFFE}';

/// The encoding of a database that is not UTF-8.
#[derive(Debug)]
pub struct StoredEncoding {
    /// As PostgreSQL names it.
    pub name: String,
    /// The conversion.
    pub encoding: Encoding,
}

/// Encodes a text without a character in UTF-8, given as hexadecimal digits, for a resume point.
pub fn hide(digits: &str) -> String {
    format!("{HIDDEN}{digits}")
}

/// The hexadecimal digits that were given to [`hide`]; `None` for other values.
pub fn hidden(value: &str) -> Option<&str> {
    value.strip_prefix(HIDDEN)
}

/// A table that is polled.
#[derive(Clone, Debug)]
pub struct PolledTable {
    /// Its name.
    pub name: TableName,
    /// Its definition, with the primary key as its identity.
    pub relation: Arc<Relation>,
    /// Its cursor.
    pub cursor: Cursor,
    /// The result of [`check`](super::query::check) for this definition.
    pub fingerprint: String,
    /// Whether a column has a composite type. Its attributes may be altered without the table.
    pub has_composites: bool,
    /// Whether its rows are in partitions.
    pub is_partitioned: bool,
    /// The database's encoding; `None`: UTF-8.
    pub encoding: Option<Arc<StoredEncoding>>,
}

impl PolledTable {
    /// The table in a FROM clause.
    pub fn from(&self) -> String {
        let only = if self.is_partitioned { "" } else { "ONLY " };
        format!("{only}{}", quoted(&self.name))
    }

    /// Converts its rows to UTF-8; `None` if they are in UTF-8.
    pub fn transcoder(&self) -> Option<Transcoder> {
        self.encoding.as_ref().map(|stored| Transcoder::new(stored.encoding.clone(), usize::MAX))
    }

    /// Names of its columns.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.relation.columns.iter().map(|column| column.name.as_str())
    }

    /// Names of the columns of the sort order.
    pub fn order(&self) -> impl Iterator<Item = &str> {
        self.cursor.order.iter().map(String::as_str)
    }

    /// The column of the cursor.
    pub fn cursor_column(&self) -> &str {
        self.cursor.order.first().map_or("", String::as_str)
    }

    /// Indexes of the columns of the sort order.
    pub fn order_places(&self) -> Vec<usize> {
        let place = |name: &str| self.columns().position(|column| column == name);
        self.order().filter_map(place).collect()
    }
}

/// What one connection polls.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The tables, sorted by name.
    pub tables: Arc<[PolledTable]>,
    /// The identity of the source.
    pub identity: PollingIdentity,
    /// The settings of polling.
    pub polling: Polling,
}
