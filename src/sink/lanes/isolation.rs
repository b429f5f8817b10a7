//! Lanes that cannot keep up are detached: a catch-up reader serves them until they keep up again.
//!
//! - **Detach**: a reader's window stands, and some lanes would gain if others left: the lanes that hold its oldest unfinished
//!   records leave, see [`stuck`]. First they are *held* until nothing of them is out,
//!   then a reader of their own (or one in the same trouble, see [`leave`](super::leave)) reads for them from where they stand, and
//!   the window gives their records back. A reader that was so made may be divided in the same way.
//! - **Hand-over**: a reader behind the main whose reader has come into the main's window, and that finishes within a second
//!   what it reads, hands over at the main's head H: it finishes everything up to H, while the main holds what comes after.
//!   Then the main serves the lanes again and the reader is gone. If that takes too long, or fills the main, it is called off
//!   and tried again later.
//!
//! Invariants: of each lane at most one reader sends at any time, and the other side of a change sends nothing before everything
//! before is finished; the main always serves a lane; there are at most [`READERS_MAX`] readers, and their windows together
//! stay within the limit.

use std::time::Duration;

use tokio::time::Instant;

use super::Lanes;
use super::audit::Audit;
use super::detaching::Detaching;
use super::finished::{Finished, Served, Start};
use super::progress::lowest;
use super::reader::Reader;
use super::stuck::{self, STUCK_AFTER};
use super::types::{Change, Lag, ReaderId};
use super::window::{State, Window};

use crate::buffer::checkpoint::Mark;
use crate::event::KeyHash;
use crate::position::FrameNo;
use crate::sink::sections::{PerSection, Section};

/// The main, and three that are behind: each costs a window, and three shards in different trouble at once are rare.
pub(super) const READERS_MAX: usize = 4;
/// A reader behind the main has this part of the memory: enough log for a second of a shard.
const CATCH_UP_PART: usize = 8;
/// How often readers are looked at.
const REBALANCE_EVERY: Duration = Duration::from_millis(250);
/// After so long without a look nothing could be sent meanwhile: what was seen before says nothing of any lane.
const SEEN_WITHIN: Duration = Duration::from_secs(5);
/// A hand-over that takes longer is called off: the main holds records meanwhile.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(10);
/// A hand-over that takes less is not called off because the main is full for a moment.
const HAND_OVER_AT_LEAST: Duration = Duration::from_secs(1);
/// First and longest pause before a hand-over that was called off is tried again.
const AGAIN_FIRST: Duration = Duration::from_secs(5);
const AGAIN_CAP: Duration = Duration::from_mins(1);
/// More keys whose records fail are no exception: then the service is the cause.
const IN_THE_WAY_MAX: usize = 8;
/// At the start, lanes that lie a window of frames of this many bytes behind the next better one are detached from the
/// beginning.
const START_FRAME: usize = 1024;

impl Lanes {
    /// Looks after the readers: who leaves, who comes back. To be called when [`fill`](Self::fill) has just given nothing, so that
    /// what is ready then could not be sent; it looks four times a second. Whether there is something to
    /// [tell](Self::take_changes), and then perhaps to read and to send.
    pub fn rebalance(&mut self, now: Instant) -> bool {
        self.leave(now);
        let due = self.rebalanced.is_none_or(|last| now.duration_since(last) >= REBALANCE_EVERY);
        if due {
            self.look(now);
        }
        !self.changes.is_empty()
    }

    fn look(&mut self, now: Instant) {
        let last = self.rebalanced.replace(now);
        let passed = last.map_or(Duration::ZERO, |last| now.duration_since(last));
        if last.is_some_and(|last| now.duration_since(last) >= SEEN_WITHIN) {
            for reader in &mut self.readers {
                (reader.watch.full, reader.watch.pace) = (None, None);
                reader.watch.handing = reader.watch.handing.map(|_| now);
            }
        }
        self.merge_sections();
        self.watch_hand_overs(now);
        let ids: Vec<ReaderId> = self.readers.iter().map(|reader| reader.id).collect();
        for id in ids {
            if self.detaching.is_some() {
                continue;
            }
            self.tell_slow_apart(id, now);
            if let Some(lanes) = self.stuck(id, now, passed) {
                self.reader_mut(id, |reader| reader.hold(&lanes));
                self.detaching = Some(Detaching::new(id, lanes));
            }
        }
        self.leave(now);
    }

    /// What has changed since this was last asked.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// The readers that read the log, the main first, and [`ReaderId::AUDIT`] last.
    pub fn readers(&self) -> Vec<ReaderId> {
        let readers = self.readers.iter().map(|reader| reader.id);
        readers.chain(self.audit.map(|_| ReaderId::AUDIT)).collect()
    }

    /// After which frame a reader reads on, and up to which, if it has room; `None` if it wants nothing now.
    pub fn wants(&self, id: ReaderId) -> Option<(FrameNo, FrameNo)> {
        if id == ReaderId::AUDIT {
            let after = self.audit?.watermark.frame;
            let watermark = self.readers.iter().map(|reader| reader.watermark().frame).min()?;
            return (watermark > after).then_some((after, watermark));
        }
        let reader = self.readers.iter().find(|reader| reader.id == id)?;
        let head = reader.window.head();
        let until = match reader.until {
            Some(until) => until,
            None if id == ReaderId::MAIN => FrameNo(u64::MAX),
            None => self.main().window.head(),
        };
        (!self.is_full(reader) && head < until).then_some((head, until))
    }

    fn is_full(&self, reader: &Reader) -> bool {
        self.is_used(reader, 1)
    }

    /// Whether this part of a reader's window is in use.
    pub(super) fn is_used(&self, reader: &Reader, part: usize) -> bool {
        let catch_up = self.limits.window_bytes / CATCH_UP_PART;
        let limit = match reader.id {
            ReaderId::MAIN => self.limits.window_bytes - catch_up * (self.readers.len() - 1),
            _ => catch_up,
        };
        reader.window.weight() >= (limit / part).max(1)
    }

    /// How far detached lanes are behind.
    pub fn behind(&self) -> Lag {
        let lanes = self.sections.lanes(self.behind_main()).len();
        let head = self.main().window.head().0;
        let catch_up = || self.readers.iter().skip(1);
        let frames = catch_up()
            .map(|reader| head.saturating_sub(reader.watermark().frame.0))
            .max()
            .unwrap_or_default();
        let oldest =
            catch_up().filter_map(|reader| reader.window.oldest_transaction()).map(|of| of.time).min();
        Lag { lanes, frames, oldest }
    }

    /// When the oldest unfinished change of all lanes was committed, microseconds since the Unix epoch; `None` if everything
    /// that was read is finished.
    pub fn oldest(&self) -> Option<i64> {
        let all = self.readers.iter();
        all.filter_map(|reader| reader.window.oldest_transaction()).map(|of| of.time).min()
    }

    /// Which lanes are behind, and the shards that took the last records of them, for a message.
    pub fn detached(&self) -> Option<(Vec<u8>, Option<String>)> {
        let behind: Vec<Section> = self.behind_main().collect();
        let shard = self.shard_of(&behind);
        (!behind.is_empty()).then(|| (self.sections.lanes(behind), shard))
    }

    fn behind_main(&self) -> impl Iterator<Item = Section> {
        self.sections.iter().filter(|section| self.owner[*section] != ReaderId::MAIN)
    }

    /// Whether nothing of the section is taken at all: neither from it, nor from its shard.
    pub(super) fn is_refused(&self, section: Section) -> bool {
        let range = self.sections.range(section);
        self.pauses.is_refused(section) || self.shards.refuses(range) || self.suspects.holds(range)
    }

    pub(super) fn shard_of(&self, sections: &[Section]) -> Option<String> {
        let name = |section: &Section| self.shards.name_of(self.sections.range(*section));
        sections.iter().filter_map(name).max().map(str::to_owned)
    }

    pub(super) fn lanes_of(&self, id: ReaderId) -> Vec<Section> {
        self.sections.iter().filter(|section| self.owner[*section] == id).collect()
    }

    pub(super) fn set_owner(&mut self, sections: &[Section], id: ReaderId) {
        for section in sections {
            self.owner[*section] = id;
        }
    }

    pub(super) fn reader_mut<T>(&mut self, id: ReaderId, act: impl FnOnce(&mut Reader) -> T) -> Option<T> {
        self.readers.iter_mut().find(|reader| reader.id == id).map(act)
    }

    /// The lanes that a reader should be rid of, if it stands because of them.
    fn stuck(&mut self, id: ReaderId, now: Instant, passed: Duration) -> Option<Vec<Section>> {
        let reader = self.readers.iter().find(|reader| reader.id == id && reader.until.is_none())?;
        let catch_up = id != ReaderId::MAIN;
        let in_the_way = self.keys_in_the_way(id);
        let (used, able) = (
            self.is_used(reader, stuck::USED),
            !in_the_way.is_empty() || (self.gate.is_open() && self.line_is_free(reader)),
        );
        // A request that fails as a whole says nothing of a lane: the clock stands while nothing can be sent. At the main it begins
        // anew: what waited there will pass first.
        let (standing, kept) = (used && able, used && (able || catch_up));
        let (watermark, head) = (reader.watermark().frame, reader.window.head());
        let moved = |before: FrameNo| (watermark.0 - before.0) * stuck::QUARTER > reader.window.frames();
        let full = match reader.watch.full {
            Some((since, watermark, head)) if kept && !moved(watermark) => {
                (if able { since } else { (since + passed).min(now) }, watermark, head)
            }
            _ => (now, watermark, head),
        };
        let owned = self.lanes_of(id);
        let stood = now.duration_since(full.0);
        let patience = stuck::patience(reader, &owned, &self.shards);
        let refused =
            |lane| self.is_refused(lane) || in_the_way.iter().any(|key| self.sections.of(*key) == lane);
        let known = (&self.sections, &self.shards);
        let leavers = || stuck::leavers(reader, (full.2, now), &owned, known, refused);
        let others = || stuck::refused_leavers(reader, full.2, &owned, refused);
        let look = standing && (stood >= patience || catch_up);
        let found = look.then(|| {
            let first = (catch_up || !in_the_way.is_empty())
                .then(others)
                .flatten()
                .map(|lanes| (lanes, stuck::AFTER_CATCH_UP.min(patience)));
            first.or_else(|| leavers().map(|lanes| (lanes, patience)))
        });
        let found = found.flatten();
        // While no lane would gain, none is kept waiting.
        let full = if look && found.is_none() { (now, watermark, head) } else { full };
        self.reader_mut(id, |reader| reader.watch.full = kept.then_some(full));
        found.filter(|(_, patience)| stood >= *patience).map(|(lanes, _)| lanes)
    }

    /// The keys of a full window of which nothing can leave but a few records that fail, while the service takes nothing. Each may
    /// be the cause, and what would show that is not read yet, because they hold the window. None if something else could leave.
    pub(super) fn keys_in_the_way(&self, id: ReaderId) -> Vec<KeyHash> {
        let Some(reader) = self.readers.iter().find(|reader| reader.id == id) else { return Vec::new() };
        let mut keys = Vec::new();
        if self.gate.is_open() || !self.is_used(reader, stuck::USED) || self.waiting().records > 0 {
            return keys;
        }
        for entry in reader.window.iter() {
            match entry.state {
                State::Suspect | State::Sent if keys.len() < IN_THE_WAY_MAX => keys.push(entry.hash),
                State::Behind | State::Done(_) => {}
                _ => return Vec::new(),
            }
        }
        keys
    }

    /// Whether what a reader may send leaves at once.
    fn line_is_free(&self, reader: &Reader) -> bool {
        self.flight.is_free(&self.limits, self.line.budget(), reader.waiting)
    }

    pub(super) fn add_reader(&mut self, watermark: Mark, finished: Finished) -> ReaderId {
        self.last_reader += 1;
        let id = ReaderId(self.last_reader);
        self.readers.push(Reader::new(id, Window::new(watermark, None), finished));
        id
    }

    pub(super) fn begin_audit(&mut self) {
        if self.audit.is_none() {
            let main = self.main();
            self.audit =
                Some(Audit { watermark: main.watermark(), transaction: main.window.watermark_transaction() });
        }
    }

    /// Begins hand-overs that will come to an end, and calls off those that do not.
    fn watch_hand_overs(&mut self, now: Instant) {
        let main = self.main();
        let (main_watermark, head) = (main.watermark().frame, main.window.head());
        let main_stands = self.is_full(main) && main.waiting.records == 0;
        let ids: Vec<ReaderId> = self.readers.iter().skip(1).map(|reader| reader.id).collect();
        for id in ids {
            let detaching = self.detaching.as_ref().is_some_and(|detaching| detaching.needs(id));
            let Some(reader) = self.readers.iter_mut().find(|reader| reader.id == id) else { continue };
            if let Some(since) = reader.watch.handing {
                let took = now.duration_since(since);
                if took >= HAND_OVER_WITHIN || (main_stands && took >= HAND_OVER_AT_LEAST) {
                    self.call_off(id, now);
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
                reader.watch.handing = Some(now);
                reader.until = Some(head);
                self.main_takes(id, head);
            }
        }
        self.finish_hand_overs();
    }

    /// The main holds what comes after `head` of a reader's lanes.
    fn main_takes(&mut self, id: ReaderId, head: FrameNo) {
        let lanes = self.lanes_of(id);
        self.reader_mut(ReaderId::MAIN, |main| {
            for lane in &lanes {
                main.finished.set(*lane, Served::After(head));
            }
            main.hold(&lanes);
        });
    }

    fn call_off(&mut self, id: ReaderId, now: Instant) {
        let lanes = self.lanes_of(id);
        if let Some(main) = self.readers.first_mut() {
            main.give_away(&lanes, &mut self.unacknowledged);
        }
        self.settle_handed(&lanes, false);
        self.reader_mut(id, |reader| {
            let pause = AGAIN_FIRST.saturating_mul(1 << reader.watch.called_off.min(8)).min(AGAIN_CAP);
            reader.until = None;
            reader.watch.handing = None;
            reader.watch.called_off += 1;
            reader.watch.not_before = Some(now + pause);
        });
    }

    /// The main serves the lanes of readers that have finished everything up to where they hand over.
    pub(super) fn finish_hand_overs(&mut self) {
        while let Some(reader) =
            self.readers.iter().find(|reader| reader.until == Some(reader.watermark().frame))
        {
            let id = reader.id;
            let lanes = self.lanes_of(id);
            self.readers.retain(|reader| reader.id != id);
            self.set_owner(&lanes, ReaderId::MAIN);
            self.settle_handed(&lanes, true);
            let rules = super::Rules::new(&self.limits, &self.pauses, &self.shards);
            if let Some(main) = self.readers.first_mut() {
                main.let_go(&lanes, rules);
            }
            self.changes.push(Change::Back { lanes: self.sections.lanes(lanes) });
        }
        let alone = self.readers.len() == 1;
        let main_watermark = self.main().watermark().frame;
        if let Some(audit) = self.audit.filter(|audit| alone && audit.watermark.frame == main_watermark) {
            self.reader_mut(ReaderId::MAIN, |main| {
                main.window.know_watermark(audit.watermark, audit.transaction);
            });
            self.audit = None;
        }
    }

    /// Divides the lanes of a start among readers: those far behind are detached from the beginning.
    pub(super) fn begin(&mut self, start: &Start) {
        let (sections, reached) = start.reached();
        self.sections = sections;
        let gap = (self.limits.window_bytes / START_FRAME).max(1) as u64;
        let reached: Vec<(FrameNo, Section)> =
            self.sections.iter().map(|section| (reached[section], section)).collect();
        let groups = groups(reached, gap);
        for (nth, group) in groups.iter().enumerate() {
            let mut own = PerSection::all(Served::Elsewhere);
            for (at, section) in group {
                own[*section] = Served::After(*at);
            }
            let frame = lowest(&own, |_| true).unwrap_or(start.watermark.frame);
            // One reader alone also counts: it begins where counting ended.
            let watermark = if groups.len() == 1 || frame == start.watermark.frame {
                start.watermark
            } else {
                Mark { frame, position: None }
            };
            let finished = Finished::new(own, start.acknowledged());
            if nth == 0 {
                self.readers.push(Reader::new(ReaderId::MAIN, Window::new(watermark, None), finished));
            } else {
                let id = self.add_reader(watermark, finished);
                let group: Vec<Section> = group.iter().map(|(_, section)| *section).collect();
                self.set_owner(&group, id);
            }
        }
        if groups.len() > 1 {
            self.audit = Some(Audit { watermark: start.watermark, transaction: None });
        }
    }
}

/// Sections that go together at a start, those that are furthest first. Divided where the distance is large; of more distances
/// than readers, at the largest.
fn groups(mut order: Vec<(FrameNo, Section)>, least: u64) -> Vec<Vec<(FrameNo, Section)>> {
    order.sort_unstable_by(|one, other| other.cmp(one));
    let gaps = order.windows(2).zip(1..).filter_map(|(pair, at)| match pair {
        [ahead, behind] => Some((ahead.0.0 - behind.0.0, at)),
        _ => None,
    });
    let mut gaps: Vec<(u64, usize)> = gaps.filter(|(gap, _)| *gap >= least).collect();
    gaps.sort_unstable_by(|one, other| other.cmp(one));
    gaps.truncate(READERS_MAX - 1);
    let mut cuts: Vec<usize> = gaps.into_iter().map(|(_, at)| at).collect();
    cuts.sort_unstable();
    let mut groups = vec![Vec::new()];
    for (index, reached) in order.into_iter().enumerate() {
        if cuts.contains(&index) {
            groups.push(Vec::new());
        }
        if let Some(group) = groups.last_mut() {
            group.push(reached);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distant_lanes_start_detached() {
        let start = |lanes: &[(u8, u64)]| {
            let at = |of: u8| lanes.iter().find(|(lane, _)| *lane == of).map_or(100_000, |(_, at)| *at);
            let reached = (0..=u8::MAX).map(|lane| (FrameNo(at(lane)), Section::lowest_of(lane)));
            let groups = groups(reached.collect(), 16_384).into_iter().skip(1);
            let lanes = |group: Vec<(FrameNo, Section)>| group.into_iter().map(|(_, section)| section);
            groups.map(|group| lanes(group).collect()).collect::<Vec<Vec<_>>>()
        };
        for (what, lanes, expected) in [
            ("all alike", vec![], vec![]),
            ("near", vec![(3, 90_000)], vec![]),
            ("one far behind", vec![(3, 50_000)], vec![vec![3]]),
            ("two together", vec![(3, 50_000), (4, 50_001)], vec![vec![4, 3]]),
            ("two apart", vec![(3, 50_000), (4, 10_000)], vec![vec![3], vec![4]]),
            (
                "more than there are readers: of equal distances those behind",
                vec![(1, 80_000), (2, 50_000), (3, 30_000), (4, 10_000)],
                vec![vec![2], vec![3], vec![4]],
            ),
        ] {
            let expected: Vec<Vec<_>> = expected
                .iter()
                .map(|group: &Vec<u8>| group.iter().copied().map(Section::lowest_of).collect())
                .collect();
            assert_eq!(start(&lanes), expected, "{what}");
        }
    }
}
