//! The progress of polling: windows of transaction ids, the pages of a window, and the resume point. Does no
//! I/O.
//!
//! A window has all transactions with `horizon <= id < until`. `until` was the oldest running transaction
//! when the window was opened. So every transaction of the window has ended, and each row version belongs to
//! exactly one window. A window is read table by table, in the order of the cursor, in pages.
//!
//! The resume point of a page has the window, the table and the last row read. Resume points are ordered by
//! `seq`, then by the text. The text begins with ten digits, the number of rows read in the window. Then it
//! has `p` and the number of pages while the window is being read, and `z` after it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::position::{CommitSeq, ResumePoint};

/// The progress of polling.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollProgress {
    /// All transactions below this id are read. `None`: nothing is read, and the first window has no lower
    /// end.
    pub horizon: Option<u64>,
    /// The window that is being read; `None` between two windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<PollWindow>,
    /// When the last window was opened, microseconds since the Unix epoch.
    #[serde(default)]
    pub time: i64,
    /// What makes the windows of a table fast, by table.
    #[serde(default)]
    pub tables: BTreeMap<String, TableProgress>,
    /// The server that contains everything that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerMark>,
}

/// Proves that a server on a later timeline contains everything that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerMark {
    /// Start time of the last polled server, by its own clock, in microseconds. As long as it runs, its
    /// history only grows.
    pub started: i64,
    /// A WAL position beyond the end of every transaction that was read.
    pub wal: u64,
}

/// A window that is being read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollWindow {
    /// The first transaction id after the window.
    pub until: u64,
    /// Number of rows read in the window.
    pub rows: u32,
    /// The table that is being read.
    pub table: String,
    /// Number of pages read in the window.
    #[serde(default)]
    pub pages: u32,
    /// The column of the table's cursor.
    #[serde(default)]
    pub by: String,
    /// Cursor and key of the last row read in that table; empty before the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
}

/// What is known about a table between windows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableProgress {
    /// File node of the table when the bound was proven. Another one means that the table was rewritten or
    /// truncated.
    pub node: u32,
    /// The column of its cursor. The bound is valid only for this column.
    #[serde(default)]
    pub by: String,
    /// All rows up to this cursor value are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<String>,
}

impl PollProgress {
    /// The progress of a first start. `horizon` is the oldest running transaction; `None`: read from the
    /// beginning.
    pub fn first(horizon: Option<u64>) -> Self {
        Self { horizon, ..Self::default() }
    }

    /// The transaction id that a server must have reached to be polled.
    pub fn needs(&self) -> u64 {
        self.window.as_ref().map(|window| window.until).or(self.horizon).unwrap_or_default()
    }

    /// Opens the next window if there is one, and returns whether it did. `time` is the server's,
    /// microseconds since the Unix epoch.
    pub fn open(&mut self, until: u64, time: i64, first_table: &str) -> bool {
        let opens = self.window.is_none() && self.horizon.is_none_or(|horizon| until > horizon);
        if opens {
            self.time = self.time.max(time);
            self.window = Some(PollWindow {
                until,
                rows: 0,
                pages: 0,
                table: first_table.to_owned(),
                by: String::new(),
                after: Vec::new(),
            });
        }
        opens
    }

    /// Ends the window: it is read.
    pub fn close(&mut self) {
        if let Some(window) = self.window.take() {
            self.horizon = Some(window.until);
        }
    }

    /// The resume point; `None` if the key of the last row is too long for it.
    pub fn resume_point(&self) -> Option<ResumePoint> {
        let seq = CommitSeq::new(self.needs());
        let stage = self.window.as_ref().map_or_else(
            || format!("{:010}z", u32::MAX),
            |window| format!("{:010}p{:010}", window.rows, window.pages),
        );
        let token = |progress: &Self| {
            let json = serde_json::to_string(progress).ok()?;
            ResumePoint::with_token(seq, &format!("{stage}{json}"))
        };
        // Without the lower bounds, the next windows only take longer.
        token(self).or_else(|| token(&Self { tables: BTreeMap::new(), ..self.clone() }))
    }

    /// Parses a resume point.
    ///
    /// # Errors
    /// It was not created by polling.
    pub fn read(point: &ResumePoint) -> Result<Self, String> {
        let json = point.token().and_then(|token| token.get(token.find('{')?..));
        let json = json.ok_or("the checkpoint has no resume point of polling")?;
        serde_json::from_str(json).map_err(|error| format!("the resume point in the checkpoint: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(until: u64, rows: u32, table: &str, after: &[&str]) -> PollProgress {
        let after = after.iter().map(|text| (*text).to_owned()).collect();
        let window =
            PollWindow { until, rows, pages: 1, table: table.to_owned(), by: "id".to_owned(), after };
        PollProgress { horizon: Some(until - 5), window: Some(window), ..PollProgress::default() }
    }

    #[test]
    fn resume_points_are_ordered_and_round_trip() {
        let mut done = page(20, 12, "lab.b", &["9"]);
        done.close();
        let steps = [
            PollProgress::first(None),
            PollProgress::first(Some(10)),
            page(20, 2, "lab.b", &["9"]),
            page(20, 11, "lab.a", &["1"]),
            page(20, 12, "lab.a", &["2"]),
            done,
            page(21, 1, "lab.a", &["3"]),
        ];
        let points: Vec<_> = steps.iter().map(|step| step.resume_point().unwrap()).collect();
        assert!(points.windows(2).all(|pair| pair[0] < pair[1]), "{points:?}");
        for (step, point) in steps.iter().zip(&points) {
            assert_eq!(PollProgress::read(point).as_ref(), Ok(step));
        }
    }

    #[test]
    fn window_never_goes_back() {
        let mut progress = PollProgress::first(Some(10));
        for (until, opens) in [(9, false), (10, false), (12, true)] {
            assert_eq!(
                (progress.open(until, 5, "lab.a"), progress.window.is_some()),
                (opens, opens),
                "{until}"
            );
        }
        progress.open(30, 6, "lab.a");
        assert_eq!((progress.needs(), progress.time), (12, 5), "an open window keeps its end");
        progress.close();
        assert_eq!((progress.horizon, progress.needs()), (Some(12), 12));
        progress.open(13, 4, "lab.a");
        assert_eq!(progress.time, 5, "time does not go back");
    }

    #[test]
    fn long_resume_point_leaves_out_the_bounds() {
        let mut progress = page(20, 1, "lab.a", &["7"]);
        for nth in 0..100 {
            let low = Some("x".repeat(60));
            progress
                .tables
                .insert(format!("lab.table_{nth}"), TableProgress { node: nth, by: "id".to_owned(), low });
        }
        let read = PollProgress::read(&progress.resume_point().unwrap()).unwrap();
        assert_eq!((read.window, read.tables.len()), (progress.window, 0));
        assert_eq!(page(20, 1, "lab.a", &["x".repeat(5_000).as_str()]).resume_point(), None);
    }
}
