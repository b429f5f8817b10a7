//! Counts events that are received and neither published nor quarantined, from the log and the progress of a
//! checkpoint. It does not use the event counts, which must give the same result.

use std::collections::{BTreeMap, HashSet};

use super::finished::Start;
use crate::buffer::ledger::{EVENT_TYPES_MAX, OTHER_TYPES};
use crate::event::KeyHash;
use crate::position::FrameNo;
use crate::sink::sections::{PerSection, Sections};

/// Events of one type beyond the watermark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BeyondCounts {
    /// All events received.
    pub received: u64,
    /// Events that are neither published nor quarantined.
    pub in_flight: u64,
    /// When the oldest of their changes was committed, microseconds since the Unix epoch.
    pub oldest: Option<i64>,
}

/// The counts of all types.
#[derive(Debug)]
pub struct UnpublishedCounts {
    sections: Sections,
    reached: PerSection<FrameNo>,
    acknowledged: HashSet<(FrameNo, u16)>,
    counts: BTreeMap<String, BeyondCounts>,
}

impl UnpublishedCounts {
    /// Prepares to count what this progress does not cover.
    pub fn new(start: &Start) -> Self {
        let (sections, reached) = start.reached();
        let acknowledged = start.acknowledged.iter().copied().collect();
        Self { sections, reached, acknowledged, counts: BTreeMap::new() }
    }

    /// Counts the records of a frame beyond the watermark: the hash of the key and the event type of each.
    /// `committed` is the commit time of its change.
    pub fn count<'a>(
        &mut self,
        frame: FrameNo,
        committed: Option<i64>,
        records: impl IntoIterator<Item = (KeyHash, &'a str)>,
    ) {
        for (part, (hash, event_type)) in (0_u16..=u16::MAX).zip(records) {
            let finished = self.reached[self.sections.of(hash)] >= frame
                || (!self.acknowledged.is_empty() && self.acknowledged.contains(&(frame, part)));
            let counts = self.of(event_type);
            counts.received += 1;
            if !finished {
                counts.in_flight += 1;
                counts.oldest = counts.oldest.into_iter().chain(committed).min();
            }
        }
    }

    /// The counts per event type.
    pub fn into_counts(self) -> BTreeMap<String, BeyondCounts> {
        self.counts
    }

    fn of(&mut self, event_type: &str) -> &mut BeyondCounts {
        let known = self.counts.contains_key(event_type);
        let name = if known || self.counts.len() < EVENT_TYPES_MAX { event_type } else { OTHER_TYPES };
        self.counts.entry(name.to_owned()).or_default()
    }
}
