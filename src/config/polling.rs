//! `[source]` with `mode = "polling"`: which tables are polled, how often, and by which cursor column.

use std::collections::BTreeMap;
use std::time::Duration;

use super::keys::Keys;
use super::tables::TableName;
use super::units;
use crate::failure::Problem;

/// Shortest interval: each poll is a transaction.
const INTERVAL_MIN: Duration = Duration::from_millis(50);
/// Longest interval.
const INTERVAL_MAX: Duration = Duration::from_hours(1);
/// Shortest grace. A transaction may take this long between drawing a sequence value and its first write.
const GRACE_MIN: Duration = Duration::from_secs(1);
/// Longest grace.
const GRACE_MAX: Duration = Duration::from_hours(24);
/// Most tables: the checkpoint stores the progress of each.
pub const TABLES_MAX: usize = 32;

/// How tables are polled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Polling {
    /// Time between two polls.
    pub interval: Duration,
    /// Which rows the first poll publishes.
    pub start: PollingStart,
    /// Longest time between the moment a value of a `serial` or `updated_at` cursor is made and the first
    /// write of its transaction.
    pub grace: Duration,
    /// The cursors that are configured, by table. For the other tables a cursor is chosen.
    pub cursors: BTreeMap<TableName, CursorSetting>,
}

/// Which rows the first poll publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollingStart {
    /// Rows of transactions that had not ended when Forebay started.
    Now,
    /// All rows.
    Beginning,
}

/// The column by which new rows of a table are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CursorSetting {
    /// A column that a sequence fills.
    Serial(String),
    /// A column with the time of the last change.
    UpdatedAt(String),
    /// A column with the id of the transaction that wrote the row.
    Xid8(String),
}

impl CursorSetting {
    /// The kind's name in the configuration.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Serial(_) => "serial",
            Self::UpdatedAt(_) => "updated_at",
            Self::Xid8(_) => "xid8",
        }
    }

    /// The column.
    pub fn column(&self) -> &str {
        match self {
            Self::Serial(column) | Self::UpdatedAt(column) | Self::Xid8(column) => column,
        }
    }
}

impl Default for Polling {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            start: PollingStart::Now,
            grace: Duration::from_mins(10),
            cursors: BTreeMap::new(),
        }
    }
}

impl Polling {
    /// Reads the keys. `None`: the source is a replication slot.
    pub(super) fn read(keys: &mut Keys, tables: Option<&[TableName]>) -> Option<Self> {
        let polls = keys
            .parsed("source.mode", |text| match text {
                "replication" => Ok(false),
                "polling" => Ok(true),
                other => Err(format!("{other:?} is neither \"replication\" nor \"polling\"")),
            })
            .unwrap_or(false);
        let interval = keys.parsed("source.interval", |text| bounded(text, INTERVAL_MIN, INTERVAL_MAX));
        let start = keys.parsed("source.start", |text| match text {
            "now" => Ok(PollingStart::Now),
            "beginning" => Ok(PollingStart::Beginning),
            other => Err(format!("{other:?} is neither \"now\" nor \"beginning\"")),
        });
        let grace = keys.parsed("source.grace", |text| bounded(text, GRACE_MIN, GRACE_MAX));
        let mut cursors = BTreeMap::new();
        for (name, kind, column) in keys.nested("source.cursors") {
            let key = format!("source.cursors.{name:?}");
            match cursor(&name, &kind, column) {
                Ok((table, cursor)) => {
                    if tables.is_some_and(|tables| !tables.contains(&table)) {
                        keys.error(&key, "is not one of source.tables");
                    }
                    if cursors.insert(table, cursor).is_some() {
                        keys.error(&key, Problem::new("has two cursors").with_hint("Write one."));
                    }
                }
                Err(error) => keys.error(&key, error),
            }
        }
        if !polls {
            let written = [
                ("source.interval", interval.is_some()),
                ("source.start", start.is_some()),
                ("source.grace", grace.is_some()),
                ("source.cursors", !cursors.is_empty()),
            ];
            for (key, _) in written.into_iter().filter(|(_, written)| *written) {
                keys.error(key, "has an effect only with source.mode = \"polling\"");
            }
            return None;
        }
        match tables {
            None => {
                keys.error("source.tables", Problem::new("is missing").with_hint("Name the tables to poll."));
            }
            Some(tables) if tables.len() > TABLES_MAX => {
                let many = format!("names {} tables; one process polls at most {TABLES_MAX}", tables.len());
                keys.error("source.tables", many);
            }
            Some(_) => {}
        }
        for key in ["source.slot", "source.publication", "source.failover"] {
            if keys.was_set(key) {
                let problem = Problem::new("has no effect with source.mode = \"polling\"");
                keys.error(key, problem.with_hint("Remove the key."));
            }
        }
        let defaults = Self::default();
        Some(Self {
            interval: interval.unwrap_or(defaults.interval),
            start: start.unwrap_or(defaults.start),
            grace: grace.unwrap_or(defaults.grace),
            cursors,
        })
    }
}

fn bounded(text: &str, least: Duration, most: Duration) -> Result<Duration, Problem> {
    let duration = units::duration(text)?;
    if (least..=most).contains(&duration) {
        return Ok(duration);
    }
    Err(format!("{text:?} is outside the range {} to {}", units::Span(least), units::Span(most)).into())
}

fn cursor(name: &str, kind: &str, column: String) -> Result<(TableName, CursorSetting), Problem> {
    let table = TableName::parse(name)?;
    if column.is_empty() {
        return Err("names no column".into());
    }
    let cursor = match kind {
        "serial" => CursorSetting::Serial(column),
        "updated_at" => CursorSetting::UpdatedAt(column),
        "xid8" => CursorSetting::Xid8(column),
        other => {
            return Err(Problem::new(format!("{other:?} is no kind of cursor"))
                .with_hint("Write serial, updated_at or xid8."));
        }
    };
    Ok((table, cursor))
}
