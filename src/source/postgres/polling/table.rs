//! A table that is polled: its definition and its cursor.

use std::sync::Arc;

use super::cursor::Cursor;
use crate::change::Relation;
use crate::config::{Polling, TableName};
use crate::identity::PollingIdentity;

/// A table that is polled.
#[derive(Clone, Debug)]
pub struct PolledTable {
    /// Its name.
    pub name: TableName,
    /// Its definition, with the primary key as its identity.
    pub relation: Arc<Relation>,
    /// Its cursor.
    pub cursor: Cursor,
    /// What [`check`](super::query::check) gives for this definition.
    pub fingerprint: String,
    /// Whether a column has a composite type, whose attributes may be altered on their own.
    pub has_composites: bool,
}

impl PolledTable {
    /// Its columns.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.relation.columns.iter().map(|column| column.name.as_str())
    }

    /// The columns of the order.
    pub fn order(&self) -> impl Iterator<Item = &str> {
        self.cursor.order.iter().map(String::as_str)
    }

    /// The column of the cursor.
    pub fn cursor_column(&self) -> &str {
        self.cursor.order.first().map_or("", String::as_str)
    }

    /// Where the columns of the order are among the columns.
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
    /// The known source.
    pub identity: PollingIdentity,
    /// How they are polled.
    pub polling: Polling,
}
