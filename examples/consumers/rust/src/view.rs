//! The effects: a copy of the tables.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use crate::contract::{Columns, Event};

/// The tables by source and name.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct View(BTreeMap<String, BTreeMap<String, Table>>);

#[derive(Debug, Default, Serialize, Deserialize)]
struct Table {
    /// The `sequence` of the last `truncated`; empty: none yet.
    truncated: String,
    /// By key.
    rows: BTreeMap<String, Row>,
}

/// A row as its last event left it.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    /// Of that event.
    sequence: String,
    /// `None`: deleted.
    data: Option<Columns>,
}

impl View {
    /// The effect of an event that is new.
    pub(crate) fn handle(&mut self, event: &Event) {
        if event.kind == "forebay.gap.v1" {
            let warning = "forebay.gap.v1: events may be missing, compare the view with the tables";
            drop(writeln!(io::stderr(), "{warning}: {}", event.data));
            return;
        }
        match automatic(&event.kind) {
            // It has another key than the rows, so it may come before or after events of rows: `current` compares the sequences.
            Some((table, "truncated")) => {
                let truncated = &mut self.table(event, table).truncated;
                if event.sequence > *truncated {
                    truncated.clone_from(&event.sequence);
                }
            }
            Some((table, "deleted")) => self.table(event, table).put(event, None),
            Some((table, "inserted" | "updated")) => {
                // Else not a row: an application may publish a type with such a name, and its data are any JSON.
                if let Ok(data) = serde_json::from_str(event.data.get()) {
                    self.table(event, table).put(event, Some(data));
                }
            }
            _ => {}
        }
    }

    fn table(&mut self, event: &Event, name: &str) -> &mut Table {
        self.0.entry(event.source.clone()).or_default().entry(name.to_owned()).or_default()
    }

    /// The rows that the database has, as table, key and columns.
    fn current(&self) -> impl Iterator<Item = (&str, &str, &Columns)> {
        self.0.values().flatten().flat_map(|(name, table)| {
            let current = table.rows.iter().filter(|(_, row)| row.sequence > table.truncated);
            current.filter_map(|(key, row)| Some((name.as_str(), key.as_str(), row.data.as_ref()?)))
        })
    }

    /// Writes each row as `[table, key, columns]` on a line, by table and key.
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let mut rows: Vec<_> = self.current().collect();
        rows.sort_by_key(|&(table, key, _)| (table, key));
        for (table, key, columns) in rows {
            let [table, key] = [table, key].map(serde_json::to_string);
            writeln!(out, "[{}, {}, {}]", table?, key?, serde_json::to_string(columns)?)?;
        }
        Ok(())
    }
}

impl Table {
    /// Replaces the row of an event; values that the database did not send are those of the former row.
    fn put(&mut self, event: &Event, mut data: Option<Columns>) {
        let former = self.rows.remove(&event.subject).and_then(|row| row.data);
        if let (Some(data), Some(mut former)) = (&mut data, former) {
            let kept = event.unavailable().into_iter().filter_map(|column| former.remove_entry(&column));
            data.extend(kept);
        }
        self.rows.insert(event.subject.clone(), Row { sequence: event.sequence.clone(), data });
    }
}

/// Table and operation of an automatic event. Other types have neither.
fn automatic(kind: &str) -> Option<(&str, &str)> {
    kind.strip_suffix(".v1")?.rsplit_once('.')
}
