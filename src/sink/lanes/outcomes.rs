//! What becomes of records, counted per event type when the progress of their lanes passes them.
//!
//! A reader counts what its lanes finish. A reader that takes over a lane counts from the lane's progress at that moment.

use std::sync::Arc;

use super::Lanes;
use super::counts::Handed;
use super::progress::reached;
use super::window::{CountedBy, State};
use crate::buffer::checkpoint::Totals;
use crate::sink::sections::Section;

impl Lanes {
    /// Moves each reader's watermark over what is finished, and counts it.
    pub(super) fn advance(&mut self) {
        let (counts, owner, handed) = (&mut self.counts, &self.owner, &mut self.handed);
        let unacknowledged = &mut self.unacknowledged;
        let audited = self.audit.is_some();
        for reader in &mut self.readers {
            let id = reader.id;
            reader.advance(|entry, outcome| {
                let (event_type, frame) = (entry.event_type, entry.frame);
                entry.leave_unacknowledged(unacknowledged);
                if !audited {
                    counts.receive(event_type);
                }
                if entry.counted == CountedBy::This && owner[entry.section] != id {
                    handed.push(Handed { hash: entry.hash, event_type, outcome, frame });
                    return;
                }
                if entry.counted == CountedBy::This {
                    counts.settle(event_type, outcome, frame);
                }
                counts.leave(event_type);
            });
        }
        self.finish_hand_overs();
    }

    /// Counts per event type since this was last called, of records that have left the windows. Together with
    /// [`counts_ahead`](Self::counts_ahead) they are those of [`progress`](Self::progress), if it is called at the same time.
    pub fn take_counts(&mut self) -> Vec<(Arc<str>, Totals)> {
        self.counts.take()
    }

    /// Counts per event type of records in the windows that progress covers: all of them, each time. Walks through the window.
    pub fn counts_ahead(&mut self) -> Vec<(Arc<str>, Totals)> {
        self.counts.begin_ahead();
        for reader in &self.readers {
            let reached = reached(reader);
            let own = reader.window.iter().filter(|entry| entry.counted == CountedBy::This);
            for entry in own.filter(|entry| self.owner[entry.section] == reader.id) {
                if let State::Done(outcome) = entry.state
                    && reached[entry.section].excludes(entry.frame)
                {
                    self.counts.count_ahead(entry.event_type, outcome);
                }
            }
        }
        self.counts.ahead()
    }

    /// Whether the counts that were [taken](Self::take_counts) include records beyond `watermark`. If not, they are those of
    /// `watermark`.
    pub fn is_counted_beyond_watermark(&self) -> bool {
        self.counts.last_frame() > self.watermark().frame
    }

    /// The lanes have been handed over to the main, or not.
    pub(super) fn settle_handed(&mut self, lanes: &[Section], done: bool) {
        let (counts, sections) = (&mut self.counts, &self.sections);
        for one in self.handed.extract_if(.., |one| lanes.contains(&sections.of(one.hash))) {
            if done {
                counts.settle(one.event_type, one.outcome, one.frame);
            }
            counts.leave(one.event_type);
        }
    }
}
