//! What the publish loop says in the log: never more often than a person can read, never a row, never a key.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::sink::lanes::{Change, Settlement, Violation};

/// Most overloaded shards that a line of the log names.
const NAMED_MAX: usize = 8;
/// How often a trouble that lasts is mentioned at most.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// What was said, and what is to be said yet.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    /// When it was last said that records are sent again; `None` once they are taken.
    complaint: Option<Instant>,
    /// When a violation of the order was last told.
    violation: Option<Instant>,
    /// Shards that have got a rate since the last complaint.
    overloaded: BTreeSet<String>,
    /// Shards with a rate in force.
    limited: usize,
}

impl Remarks {
    /// So many shards have a rate in force.
    pub(super) const fn shards_limited(&mut self, limited: usize) {
        self.limited = limited;
    }

    /// A request was settled.
    pub(super) fn settled(&mut self, settlement: &Settlement, paused_lanes: usize, stream: &str) {
        if let Some(violation) = &settlement.violation {
            self.accuse(violation);
        }
        let newly = settlement.cuts.iter().filter(|cut| cut.first).map(|cut| cut.shard.clone());
        self.overloaded.extend(newly.take(NAMED_MAX.saturating_sub(self.overloaded.len())));
        if settlement.throttled + settlement.failed + settlement.unanswered > 0 {
            self.complain(settlement, stream);
            return;
        }
        let calm = settlement.accepted > 0 && paused_lanes == 0 && self.limited == 0;
        if calm && self.complaint.take().is_some() {
            tracing::info!("the stream takes everything again");
        }
    }

    /// Says that the service has not kept the order of a key.
    fn accuse(&mut self, violation: &Violation) {
        if !is_due(&mut self.violation) {
            return;
        }
        let Violation { fall, frame, event_type, lane } = violation;
        tracing::error!(
            shard = fall.shard, before = fall.before, after = fall.after, event_type = &**event_type, %frame, lane,
            "Kinesis gave a record a sequence number that is not above that of the record before it of the same key: readers of \
             the shard get the two in the wrong order. A person must compare what they have with the table"
        );
    }

    /// Says that something is being retried.
    fn complain(&mut self, settlement: &Settlement, stream: &str) {
        if !is_due(&mut self.complaint) {
            return;
        }
        let overloaded = std::mem::take(&mut self.overloaded).into_iter().collect::<Vec<_>>().join(" ");
        let error = settlement.error.as_ref().map(ToString::to_string).or_else(|| settlement.reason.clone());
        tracing::warn!(
            throttled = settlement.throttled,
            failed = settlement.failed,
            unanswered = settlement.unanswered,
            shards = (!overloaded.is_empty()).then_some(overloaded),
            stream,
            error,
            "records are sent again until the stream takes them"
        );
    }

    /// Says which lanes have left the others, and which are back.
    pub(super) fn lanes_moved(changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Detached { lanes, behind, shard } => tracing::warn!(
                    lanes = ranges(&lanes),
                    behind,
                    shard,
                    "lanes cannot keep up and are fed apart, so that the others go on; behind is in frames of the log"
                ),
                Change::Back { lanes } => {
                    tracing::info!(lanes = ranges(&lanes), "lanes are with the others again");
                }
            }
        }
    }
}

/// Whether something may be said again; if so, it counts as said now.
fn is_due(said: &mut Option<Instant>) -> bool {
    let now = Instant::now();
    let due = said.is_none_or(|last| now.duration_since(last) >= WARN_EVERY);
    if due {
        *said = Some(now);
    }
    due
}

/// Lanes as a person reads them: `0-63, 200`.
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
    fn lanes_are_named_by_their_ranges() {
        for (lanes, text) in
            [(vec![], ""), (vec![7], "7"), (vec![0, 1, 2, 9], "0-2, 9"), (vec![3, 254, 255], "3, 254-255")]
        {
            assert_eq!(ranges(&lanes), text);
        }
    }
}
