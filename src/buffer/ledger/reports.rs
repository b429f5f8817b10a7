//! Decides which report of the publish loop a checkpoint may contain, and which event counts belong to it.
//!
//! A start takes the event counts of the checkpoint, and counts everything again that its progress does not
//! cover. So a checkpoint has the counts of exactly its own progress. A start also drops progress beyond
//! `max(watermark, durable)`. So a report is written
//!
//! - whole, once the log is durable as far as the progress of its lanes;
//! - without its lanes, if every record that left the windows is below the watermark. This is the usual case,
//!   in which the log is never fsynced;
//! - otherwise only when one of these conditions becomes true. Until then, the log is fsynced once a second.

use std::collections::BTreeMap;

use super::progress::{Published, Reached};
use crate::buffer::checkpoint::{Checkpoint, Totals};
use crate::position::FrameNo;

/// Most event types with counts of their own: they must fit into the checkpoint. All others share one entry.
pub const EVENT_TYPES_MAX: usize = 4_096;

/// Name of the shared entry.
pub const OTHER_TYPES: &str = "(other types)";

pub(super) type Counts = BTreeMap<String, Totals>;

/// Progress, and the event counts of exactly that progress.
#[derive(Clone, Debug)]
pub(super) struct ProgressCounts {
    pub(super) progress: Published,
    pub(super) event_counts: Counts,
}

impl ProgressCounts {
    /// Whether a start keeps all of this progress if the log is durable up to this frame.
    fn is_kept_by(&self, durable: FrameNo) -> bool {
        self.progress.ahead().is_none_or(|ahead| ahead <= durable)
    }
}

/// The reports since the process started.
#[derive(Debug)]
pub(super) struct Reports {
    latest: Published,
    /// Counts of records that have left the windows, up to the latest report.
    passed: Counts,
    /// What the next checkpoint may contain.
    eligible: ProgressCounts,
    /// A report that waits until the log is durable far enough.
    pending: Option<ProgressCounts>,
    /// Whether the counts are those of the progress. If not, they are those of the watermark, as an earlier
    /// version has written them.
    counted_by_lane: bool,
}

impl Reports {
    pub(super) fn new(written: &Checkpoint) -> Self {
        let progress = Published {
            watermark: Reached { mark: written.watermark, transaction: None },
            lanes: written.lanes.clone(),
            lane_parts: written.lane_parts.clone(),
            acknowledged: written.acknowledged.clone(),
            ..Published::default()
        };
        let mut passed = written.event_counts.clone();
        if !written.counted_by_lane {
            for totals in passed.values_mut() {
                totals.received = totals.published + totals.quarantined;
            }
        }
        Self {
            counted_by_lane: written.counted_by_lane
                || (written.lanes.is_empty() && written.lane_parts.is_empty()),
            eligible: ProgressCounts { progress: progress.clone(), event_counts: passed.clone() },
            latest: progress,
            passed,
            pending: None,
        }
    }

    pub(super) const fn latest(&self) -> &Published {
        &self.latest
    }

    pub(super) const fn eligible(&self) -> &ProgressCounts {
        &self.eligible
    }

    pub(super) const fn counted_by_lane(&self) -> bool {
        self.counted_by_lane
    }

    /// The counts of the latest report.
    pub(super) fn event_counts(&self) -> Counts {
        let mut all = self.passed.clone();
        self.latest.counts_ahead.iter().for_each(|(name, totals)| add(&mut all, name, *totals));
        all
    }

    /// Per event type, events that the watermark has passed without an outcome; `None` while the counts
    /// include events beyond the watermark.
    pub(super) fn unaccounted(&self) -> Option<Vec<(&str, u64)>> {
        let missing = |totals: &Totals| totals.received.saturating_sub(totals.published + totals.quarantined);
        let types = self.passed.iter().map(|(name, totals)| (name.as_str(), missing(totals)));
        (!self.latest.counted_beyond_watermark).then(|| types.filter(|(_, missing)| *missing > 0).collect())
    }

    /// Handles a report. `lanes_ahead`: its lanes stay beyond the watermark. `durable`: the log is fsynced up
    /// to this frame.
    pub(super) fn publish(&mut self, mut report: Published, lanes_ahead: bool, durable: FrameNo) {
        for (name, totals) in std::mem::take(&mut report.event_counts) {
            add(&mut self.passed, &name, totals);
        }
        self.latest = report;
        let whole = self.whole();
        if whole.is_kept_by(durable) {
            self.accept(whole);
        } else if !lanes_ahead && !self.latest.counted_beyond_watermark {
            let progress = Published { watermark: self.latest.watermark, ..Published::default() };
            self.accept(ProgressCounts { progress, event_counts: self.passed.clone() });
        } else if self.pending.is_none() {
            self.pending = Some(whole);
        }
    }

    /// Notes that the log is fsynced up to this frame.
    pub(super) fn synced(&mut self, durable: FrameNo) {
        let whole = self.whole();
        if whole.is_kept_by(durable) {
            self.accept(whole);
        } else if let Some(pending) = self.pending.take_if(|pending| pending.is_kept_by(durable)) {
            self.eligible = pending;
        }
    }

    /// The latest progress, from which a new attempt continues. What it covers is not read again.
    pub(super) fn resume(&mut self) -> &Published {
        for (name, totals) in std::mem::take(&mut self.latest.counts_ahead) {
            add(&mut self.passed, &name, totals);
            self.latest.counted_beyond_watermark = true;
        }
        &self.latest
    }

    /// Adds what lanes had published beyond the watermark when an earlier version wrote the checkpoint.
    pub(super) fn count_by_lane(&mut self, ahead: Vec<(String, Totals)>) {
        for (name, totals) in ahead {
            add(&mut self.passed, &name, totals);
        }
        self.counted_by_lane = true;
        self.eligible.event_counts.clone_from(&self.passed);
    }

    /// Removes a retried dead letter from the counts. The outcome of its retry is counted like that of any
    /// record.
    pub(super) fn uncount(&mut self, event_type: &str) {
        uncount(&mut self.passed, event_type);
        uncount(&mut self.eligible.event_counts, event_type);
        if let Some(pending) = &mut self.pending {
            uncount(&mut pending.event_counts, event_type);
        }
    }

    fn whole(&self) -> ProgressCounts {
        ProgressCounts { progress: self.latest.clone(), event_counts: self.event_counts() }
    }

    fn accept(&mut self, account: ProgressCounts) {
        (self.eligible, self.pending) = (account, None);
    }
}

fn add(counts: &mut Counts, event_type: &str, totals: Totals) {
    let known = counts.len() < EVENT_TYPES_MAX || counts.contains_key(event_type);
    counts.entry(if known { event_type } else { OTHER_TYPES }.to_owned()).or_default().add(totals);
}

/// Removes a dead letter of this type from `counts`.
pub(super) fn uncount(counts: &mut Counts, event_type: &str) {
    let name = if counts.contains_key(event_type) { event_type } else { OTHER_TYPES };
    if let Some(totals) = counts.get_mut(name) {
        totals.quarantined = totals.quarantined.saturating_sub(1);
        totals.received = totals.received.saturating_sub(1);
    }
}
