//! Decides when to list the shards of the stream. The permission is optional: without it, and until there is
//! a response, the boundaries of shards are learned from the responses to PutRecords.

use std::time::Duration;

use tokio::time::Instant;

use crate::failure::Problem;
use crate::sink::lanes::Lanes;
use crate::sink::{HashRange, PutError};

/// Shortest time between two requests. The service allows far more.
const EVERY: Duration = Duration::from_secs(10);
/// Pause after a failure. It is long because the permission is often missing.
const AGAIN: Duration = Duration::from_mins(10);

/// When to list the shards, and whether the last attempt failed.
#[derive(Debug)]
pub(super) struct RangeWatch {
    not_before: Instant,
    failed: bool,
}

impl RangeWatch {
    pub(super) fn new() -> Self {
        Self { not_before: Instant::now(), failed: false }
    }

    /// When to list the shards; `None` if the hash ranges of all shards are known.
    pub(super) fn due(&self, lanes: &Lanes) -> Option<Instant> {
        lanes.wants_ranges().then_some(self.not_before)
    }

    /// Handles the result of a request.
    pub(super) fn listed(&mut self, result: Result<Vec<HashRange>, PutError>, lanes: &mut Lanes) {
        let now = Instant::now();
        match result {
            Ok(ranges) => {
                (self.not_before, self.failed) = (now + EVERY, false);
                lanes.set_hash_ranges(&ranges, now);
            }
            Err(error) => {
                self.not_before = now + AGAIN;
                if !std::mem::replace(&mut self.failed, true) {
                    let problem = Problem::from(error);
                    tracing::info!(
                        event = "shards_not_listed",
                        error = problem.primary(),
                        hint = problem.hint(),
                        "cannot list shards; learning their ranges from responses"
                    );
                }
            }
        }
    }
}
