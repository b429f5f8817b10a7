//! Log lines of the publish loop. Repeated lines are rate-limited. No line contains row values or keys.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::failure::Explain;
use crate::pipeline::meters;
use crate::sink::lanes::{Change, FailedAlone, Settlement, Violation};

/// Most overloaded shards that one line names.
const NAMED_MAX: usize = 8;
/// Shortest time between two lines about the same lasting problem.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// When each kind of line was last logged, and what the next one must report.
#[derive(Debug, Default)]
pub(super) struct PublishLog {
    /// When retries were last logged; `None` once records are accepted.
    retries_logged: Option<Instant>,
    /// When an order violation was last logged.
    violation: Option<Instant>,
    /// When a record that fails on its own was last logged.
    alone: Option<Instant>,
    /// Shards that were limited since the last line.
    overloaded: BTreeSet<String>,
    /// Shards that are limited now.
    limited: usize,
    /// Number of events without an outcome when that was last logged.
    unaccounted: u64,
}

impl PublishLog {
    /// Sets the number of limited shards.
    pub(super) const fn shards_limited(&mut self, limited: usize) {
        self.limited = limited;
    }

    /// Logs the result of a request, if it is a problem or the end of one.
    pub(super) fn settled(&mut self, settlement: &Settlement, paused_lanes: usize, stream: &str) {
        if let Some(violation) = &settlement.violation {
            self.log_violation(violation);
        }
        if let Some(alone) = &settlement.failed_alone {
            self.log_failed_alone(alone);
            return;
        }
        let newly = settlement.cuts.iter().filter(|cut| cut.first).map(|cut| cut.shard.clone());
        self.overloaded.extend(newly.take(NAMED_MAX.saturating_sub(self.overloaded.len())));
        if settlement.throttled + settlement.failed + settlement.without_response > 0 {
            self.log_retries(settlement, stream);
            return;
        }
        let calm = settlement.accepted > 0 && paused_lanes == 0 && self.limited == 0;
        if calm && self.retries_logged.take().is_some() {
            tracing::info!(event = "stream_recovered", "stream accepts records again");
        }
    }

    /// Logs that one record fails in every request while others are accepted.
    fn log_failed_alone(&mut self, record: &FailedAlone) {
        let FailedAlone { frame, part, event_type, size, failures, rejected } = record;
        if *rejected || !is_due(&mut self.alone) {
            return;
        }
        tracing::warn!(
            event = "record_blocked", %frame, part, event_type = &**event_type, size, failures,
            "record fails every request; retrying it alone, only its key is blocked"
        );
    }

    /// Logs that Kinesis did not keep the order of a key.
    fn log_violation(&mut self, violation: &Violation) {
        if !is_due(&mut self.violation) {
            return;
        }
        let Violation { fall, frame, event_type, lane } = violation;
        tracing::error!(
        event = "order_violated",
                    shard = fall.shard, before = fall.before, after = fall.after, event_type = &**event_type, %frame, lane,
                    hint = "Compare what the consumers of these keys have with the table.",
                    "Kinesis broke the order of a key: a record has a lower sequence number than its predecessor"
                );
    }

    /// Logs that records are being retried.
    fn log_retries(&mut self, settlement: &Settlement, stream: &str) {
        if !is_due(&mut self.retries_logged) {
            return;
        }
        let overloaded = std::mem::take(&mut self.overloaded).into_iter().collect::<Vec<_>>().join(" ");
        let error = settlement.error.as_ref().map(ToString::to_string).or_else(|| settlement.reason.clone());
        tracing::warn!(
            event = "records_retried",
            throttled = settlement.throttled,
            failed = settlement.failed,
            unacknowledged = settlement.without_response,
            shards = (!overloaded.is_empty()).then_some(overloaded),
            stream,
            error,
            hint = settlement.error.as_ref().and_then(Explain::hint),
            "retrying rejected records"
        );
    }

    /// Logs that the watermark has passed events without an outcome, whenever their number has grown.
    pub(super) fn unaccounted(&mut self, types: &[(&str, u64)]) {
        let events = types.iter().map(|(_, events)| events).sum();
        meters::unaccounted(events);
        if events > std::mem::replace(&mut self.unaccounted, events) {
            let names = types.iter().take(NAMED_MAX).map(|(name, _)| *name).collect::<Vec<_>>().join(" ");
            tracing::error!(
                event = "events_unaccounted",
                events,
                types = names,
                hint = "Compare what the consumers of these types have with the table, and report this.",
                "event counts do not balance: events passed the watermark without being published or quarantined"
            );
        }
    }

    /// Logs which lanes were detached and which were reattached.
    pub(super) fn lanes_moved(changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Detached { lanes, behind, shard } => tracing::warn!(
                    event = "lanes_detached",
                    lanes = ranges(&lanes),
                    behind,
                    shard,
                    "lanes detached: lagging behind, now served by a catch-up reader"
                ),
                Change::Back { lanes } => {
                    tracing::info!(
                        event = "lanes_reattached",
                        lanes = ranges(&lanes),
                        "lanes reattached: they keep up again"
                    );
                }
            }
        }
    }
}

/// Whether a line may be logged again. If so, its time is noted.
fn is_due(last: &mut Option<Instant>) -> bool {
    let now = Instant::now();
    let due = last.is_none_or(|last| now.duration_since(last) >= WARN_EVERY);
    if due {
        *last = Some(now);
    }
    due
}

/// Lanes as ranges in a log line: `0-63, 200`.
pub(super) fn ranges(lanes: &[u8]) -> String {
    let runs = lanes.chunk_by(|one, next| one.checked_add(1) == Some(*next));
    let text = runs.filter_map(|run| match (run.first()?, run.last()?) {
        (first, last) if first == last => Some(first.to_string()),
        (first, last) => Some(format!("{first}-{last}")),
    });
    text.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_printed_as_ranges() {
        for (lanes, text) in
            [(vec![], ""), (vec![7], "7"), (vec![0, 1, 2, 9], "0-2, 9"), (vec![3, 254, 255], "3, 254-255")]
        {
            assert_eq!(ranges(&lanes), text);
        }
    }
}
