//! Why the process is not ready, in words: what `/health/ready` says beside the gauges it reads.
//!
//! Process-wide, as the gauges are: each loop notes its own trouble where it logs it, and nothing reads it but the page.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A full log whose backlog drains is no trouble: segments are released, and the slot confirmed, about once a second. One
/// that stays full while nothing is confirmed fills the database's disk.
const PATIENCE: Duration = Duration::from_secs(30);

/// An end that does not do its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Postgres.
    Database,
    /// The stream.
    Kinesis,
}

#[derive(Debug)]
struct Facts {
    database: String,
    kinesis: String,
    /// Since when the log has had no room.
    full: Option<Instant>,
    confirmed: Option<Instant>,
}

static FACTS: Mutex<Facts> =
    Mutex::new(Facts { database: String::new(), kinesis: String::new(), full: None, confirmed: None });

fn change<T>(act: impl FnOnce(&mut Facts) -> T) -> T {
    act(&mut FACTS.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Facts {
    const fn of(&mut self, end: End) -> &mut String {
        match end {
            End::Database => &mut self.database,
            End::Kinesis => &mut self.kinesis,
        }
    }

    /// Whether Postgres has had to keep its write-ahead log for long.
    fn is_stuck(&self, now: Instant) -> bool {
        self.full.is_some_and(|full| {
            now.saturating_duration_since(self.confirmed.map_or(full, |confirmed| confirmed.max(full)))
                >= PATIENCE
        })
    }
}

/// Notes what the matter is.
pub(super) fn trouble(end: End, reason: &impl ToString) {
    change(|facts| *facts.of(end) = reason.to_string());
}

/// Notes that nothing is.
pub(super) fn well(end: End) {
    change(|facts| facts.of(end).clear());
}

/// Notes whether the log has room.
pub(super) fn full(full: bool) {
    change(|facts| facts.full = full.then(|| facts.full.unwrap_or_else(Instant::now)));
}

/// Notes that something was confirmed.
pub(super) fn confirmed() {
    change(|facts| facts.confirmed = Some(Instant::now()));
}

/// What was noted last; empty if nothing was.
pub fn reason(end: End) -> String {
    change(|facts| facts.of(end).clone())
}

/// Whether the log has no room and nothing is confirmed.
pub fn is_stuck() -> bool {
    change(|facts| facts.is_stuck(Instant::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_is_trouble_only_where_nothing_is_confirmed_for_long() {
        let start = Instant::now();
        let at = |seconds: Option<u64>| seconds.map(|seconds| start + Duration::from_secs(seconds));
        for (full, confirmed, stuck) in [
            (None, None, false),
            (None, Some(0), false),
            (Some(0), None, true),
            (Some(80), None, false),
            (Some(0), Some(60), true),
            (Some(0), Some(80), false),
            (Some(60), Some(0), true),
        ] {
            let facts = Facts {
                database: String::new(),
                kinesis: String::new(),
                full: at(full),
                confirmed: at(confirmed),
            };
            assert_eq!(facts.is_stuck(start + Duration::from_secs(100)), stuck, "{full:?} {confirmed:?}");
        }
    }
}
