//! Counts what lanes had published beyond the watermark when an earlier version wrote the checkpoint. That
//! version counted only what the watermark had passed.
//!
//! The outcome of these records is an assumption, as it was in that version: a record that is too large now
//! counts as quarantined.

use std::collections::BTreeMap;

use super::finished::Start;
use super::types::Admission;
use crate::buffer::checkpoint::Totals;
use crate::event::RecordKind;
use crate::position::FrameNo;
use crate::sink::sections::{PerSection, Sections};

/// Counts for a checkpoint of an earlier version.
#[derive(Debug)]
pub struct FormerCounts {
    sections: Sections,
    reached: PerSection<FrameNo>,
    max_record_size: usize,
    counts: BTreeMap<String, Totals>,
}

impl FormerCounts {
    /// Prepares to count what this start covers beyond its watermark.
    pub fn new(start: &Start, max_record_size: usize) -> Self {
        let (sections, reached) = start.reached();
        Self { sections, reached, max_record_size, counts: BTreeMap::new() }
    }

    /// The last frame to count.
    pub fn last(&self) -> FrameNo {
        self.reached.iter().map(|(_, frame)| *frame).max().unwrap_or_default()
    }

    /// Counts the records of a frame beyond the watermark.
    pub fn count<'a>(&mut self, frame: FrameNo, records: impl IntoIterator<Item = Admission<'a>>) {
        for record in records {
            if self.reached[self.sections.of(record.hash)] < frame {
                continue;
            }
            let size = record.key.len() + record.line.len();
            if !self.counts.contains_key(record.event_type) {
                self.counts.insert(record.event_type.to_owned(), Totals::default());
            }
            let Some(totals) = self.counts.get_mut(record.event_type) else { continue };
            if record.kind == RecordKind::DeadLetter || size > self.max_record_size {
                totals.quarantined += 1;
            } else {
                totals.published += 1;
            }
        }
    }

    /// The counts per event type.
    pub fn into_counts(self) -> Vec<(String, Totals)> {
        self.counts.into_iter().collect()
    }
}
