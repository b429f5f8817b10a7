//! A catch-up reader that has caught up hands its sections over to the main reader.
//!
//! The hand-over frame is the head of the main reader at that moment. The catch-up reader finishes everything
//! up to it. Until then the main reader suspends these sections: it reads their records after that frame but
//! does not send them. A hand-over that takes too long, or fills the window of the main reader, is cancelled
//! and tried again later.

use std::time::Duration;

use tokio::time::Instant;

use super::Isolation;
use crate::position::FrameNo;
use crate::sink::lanes::counts::EventCounts;
use crate::sink::lanes::finished::Served;
use crate::sink::lanes::reader::Rules;
use crate::sink::lanes::readers::Readers;
use crate::sink::lanes::stuck::STUCK_AFTER;
use crate::sink::lanes::types::{Change, ReaderId};

/// A hand-over that takes longer is cancelled, because its records fill the window of the main reader.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(10);
/// Even if the window of the main reader is full, a hand-over is not cancelled before this time.
const HAND_OVER_AT_LEAST: Duration = Duration::from_secs(1);
/// First and longest pause before a cancelled hand-over is tried again.
const RETRY_FIRST: Duration = Duration::from_secs(5);
const RETRY_CAP: Duration = Duration::from_mins(1);

impl Isolation {
    /// Begins hand-overs that are likely to finish, and cancels those that do not.
    pub(super) fn watch_hand_overs(
        &mut self,
        readers: &mut Readers,
        counts: &mut EventCounts,
        rules: Rules<'_>,
        now: Instant,
    ) {
        let main = readers.main();
        let (main_watermark, head) = (main.watermark().frame, main.window.head());
        let main_stands = readers.is_full(main) && main.waiting.records == 0;
        let ids: Vec<ReaderId> = readers.catching_up().map(|reader| reader.id).collect();
        for id in ids {
            let detaching = self.detaching.as_ref().is_some_and(|detaching| detaching.needs(id));
            let Some(reader) = readers.get_mut(id) else { continue };
            if let Some(since) = reader.watch.handing_over {
                let took = now.duration_since(since);
                if took >= HAND_OVER_TIMEOUT || (main_stands && took >= HAND_OVER_AT_LEAST) {
                    cancel_hand_over(readers, counts, id, now);
                }
                continue;
            }
            let watermark = reader.watermark().frame;
            let keeps_up = match reader.watch.pace {
                Some((at, _)) if now.duration_since(at) < STUCK_AFTER => continue,
                pace => pace.is_some_and(|(_, head)| watermark >= head),
            };
            reader.watch.pace = Some((now, reader.window.head()));
            let near = reader.window.head() >= main_watermark;
            if near && keeps_up && !detaching && reader.watch.not_before.is_none_or(|at| at <= now) {
                reader.watch.handing_over = Some(now);
                reader.until = Some(head);
                suspend_beyond(readers, id, head);
            }
        }
        self.finish_hand_overs(readers, counts, rules);
    }

    /// Gives the main reader the sections of readers that have finished everything up to the hand-over frame.
    pub(super) fn finish_hand_overs(
        &mut self,
        readers: &mut Readers,
        counts: &mut EventCounts,
        rules: Rules<'_>,
    ) {
        let is_done = |readers: &Readers| {
            let mut all = readers.iter();
            all.find(|reader| reader.until == Some(reader.watermark().frame)).map(|reader| reader.id)
        };
        while let Some(id) = is_done(readers) {
            let sections = readers.sections_of(id);
            readers.remove(id);
            readers.set_owner(&sections, ReaderId::MAIN);
            counts.end_hand_over(|hash| sections.contains(&readers.sections.of(hash)), true);
            readers.main_mut().resume_sections(&sections, rules);
            self.changes.push(Change::Back { lanes: readers.sections.lanes(sections) });
        }
        readers.end_audit();
    }
}

/// Suspends the sections of a reader in the main reader, which will serve their records after `head`.
fn suspend_beyond(readers: &mut Readers, id: ReaderId, head: FrameNo) {
    let sections = readers.sections_of(id);
    let main = readers.main_mut();
    for section in &sections {
        main.finished.set(*section, Served::After(head));
    }
    main.suspend_sections(&sections);
}

fn cancel_hand_over(readers: &mut Readers, counts: &mut EventCounts, id: ReaderId, now: Instant) {
    let sections = readers.sections_of(id);
    readers.withdraw_sections(ReaderId::MAIN, &sections);
    counts.end_hand_over(|hash| sections.contains(&readers.sections.of(hash)), false);
    if let Some(reader) = readers.get_mut(id) {
        let pause = RETRY_FIRST.saturating_mul(1 << reader.watch.cancelled.min(8)).min(RETRY_CAP);
        reader.until = None;
        reader.watch.handing_over = None;
        reader.watch.cancelled += 1;
        reader.watch.not_before = Some(now + pause);
    }
}
