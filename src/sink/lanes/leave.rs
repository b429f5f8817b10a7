//! Lanes on their way out of a reader, and who reads for them from then on.
//!
//! One that has not read beyond where they stand just reads for them too. One that has, in the same trouble and only by its
//! window, *begins again* where they stand: the lanes of one shard come into sight one by one, and would else take all readers
//! there may be. Where there cannot be another reader, any one begins again, preferably one that makes no progress: some lanes
//! must wait behind those of which nothing is taken, but not the ones that have waited for them so far.
//!
//! Invariants: a reader begins again only when nothing of it is out, and never below the lowest of all readers; what its lanes have
//! finished stays finished.

use std::cmp::Reverse;

use tokio::time::Instant;

use super::Lanes;
use super::detaching::Detaching;
use super::finished::{Finished, Served};
use super::isolation::READERS_MAX;
use super::progress::{beyond, lowest, reached};
use super::reader::{Reader, Rules};
use super::types::{Change, ReaderId};
use super::window::State;
use crate::buffer::checkpoint::Mark;
use crate::position::FrameNo;
use crate::sink::sections::{PerSection, Section};

/// Where lanes find room.
#[derive(Clone, Copy, Debug)]
enum Room {
    In(ReaderId),
    /// In one that has to begin again.
    Again(ReaderId),
}

impl Lanes {
    /// Moves lanes on their way out, once nothing of them is out.
    pub(super) fn leave(&mut self, now: Instant) {
        let Some(Detaching { reader: id, lanes, with }) = self.detaching.clone() else { return };
        let Some(reader) = self.reader(id) else {
            self.detaching = None;
            return;
        };
        let others = with.map(|with| (with, self.lanes_of(with)));
        let with_is_idle = || {
            let (with, others) = others.as_ref()?;
            Some(self.reader(*with)?.is_idle(others))
        };
        if !reader.is_idle(&lanes) || with_is_idle() == Some(false) {
            return;
        }
        let base = lowest(&reached(reader), |lane| lanes.contains(&lane))
            .expect("a reader serves the lanes that leave it");
        let room = match with {
            Some(with) => self.begin_again(with, base, id != ReaderId::MAIN).map(Room::In),
            None => self.room_for((id, &lanes), base),
        };
        match room {
            None => {
                self.detaching = None;
                self.stay(id, &lanes, now);
            }
            Some(Room::Again(with)) => {
                let others = self.lanes_of(with);
                self.reader_mut(with, |reader| reader.hold(&others));
                self.detaching = Some(Detaching { reader: id, lanes, with: Some(with) });
                self.leave(now);
            }
            Some(Room::In(to)) => {
                self.detaching = None;
                self.hand_to(id, to, lanes, base);
            }
        }
    }

    fn reader(&self, id: ReaderId) -> Option<&Reader> {
        self.readers.iter().find(|reader| reader.id == id)
    }

    /// There is no room for them anywhere.
    fn stay(&mut self, id: ReaderId, lanes: &[Section], now: Instant) {
        let rules = Rules::new(&self.limits, &self.pauses, &self.shards);
        if let Some(reader) = self.readers.iter_mut().find(|reader| reader.id == id) {
            reader.let_go(lanes, rules);
            reader.watch.full = Some((now, reader.watermark().frame, reader.window.head()));
        }
    }

    fn hand_to(&mut self, id: ReaderId, to: ReaderId, lanes: Vec<Section>, base: FrameNo) {
        let Some(reader) = self.reader(id) else { return };
        let all = reached(reader);
        let of = |lane: Section| lanes.contains(&lane);
        let mut acknowledged = reader.finished.acknowledged().clone();
        acknowledged.extend(beyond(reader, &all, of));
        if let Some(reader) = self.readers.iter_mut().find(|reader| reader.id == id) {
            reader.settle_counts(&mut self.counts, &all, of);
            reader.give_away(&lanes, &mut self.unacknowledged);
            reader.watch.full = None;
        }
        self.reader_mut(to, |reader| {
            for lane in &lanes {
                reader.finished.set(*lane, all[*lane]);
            }
            reader.finished.add(acknowledged);
        });
        self.set_owner(&lanes, to);
        let behind = self.main().window.head().0.saturating_sub(base.0);
        let shard = self.shard_of(&lanes);
        let lanes = self.sections.lanes(lanes);
        self.changes.push(Change::Detached { lanes, behind, shard });
        self.advance();
    }

    /// A reader for these lanes of another one, which stand at `base`.
    fn room_for(&mut self, (from, lanes): (ReaderId, &[Section]), base: FrameNo) -> Option<Room> {
        let refused = lanes.iter().all(|lane| self.is_refused(*lane));
        let crowded = self.readers.len() >= READERS_MAX;
        let alike = |reader: &Reader| refused && reader.watch.refused;
        let may = |reader: &&Reader| {
            let catch_up = reader.id != ReaderId::MAIN && reader.id != from && reader.until.is_none();
            catch_up && (crowded || alike(reader))
        };
        let others = || self.readers.iter().filter(may);
        let behind =
            others().filter(|reader| reader.window.head() <= base).max_by_key(|reader| reader.window.head());
        if let Some(reader) = behind {
            return Some(Room::In(reader.id));
        }
        let around = |reader: &Reader| reader.watermark().frame <= base;
        // From the main or a mixed reader into one of refused lanes, and not back. Between others only where somebody gains for sure:
        // those in trouble would only push each other about.
        let source = self.reader(from)?;
        let sure = from == ReaderId::MAIN || works(source, lanes);
        let may_wait = |reader: &Reader| {
            crowded && (sure || alike(reader) && (!source.watch.refused || !works(reader, &[])))
        };
        let again = others().filter(|reader| around(reader) || may_wait(reader)).max_by_key(|reader| {
            let far = reader.watermark().frame.0.abs_diff(base.0);
            (reader.watch.refused == refused, !works(reader, &[]), around(reader), Reverse(far))
        });
        if let Some(reader) = again {
            return Some(Room::Again(reader.id));
        }
        if crowded {
            return None;
        }
        self.begin_audit();
        let id = self.add_reader(
            Mark { frame: base, position: None },
            Finished::new(PerSection::all(Served::Elsewhere), [].into()),
        );
        self.reader_mut(id, |reader| reader.watch.refused = refused);
        Some(Room::In(id))
    }

    /// A reader of which nothing is out reads once more, from `base` or where its own lanes stand; perhaps for lanes that were pushed
    /// out of another one behind the main. Gives its new name.
    fn begin_again(&mut self, id: ReaderId, base: FrameNo, pushed: bool) -> Option<ReaderId> {
        let lanes = self.lanes_of(id);
        let at = self.readers.iter().position(|reader| reader.id == id)?;
        let mut old = self.readers.remove(at);
        let of = |lane: Section| lanes.contains(&lane);
        let all = reached(&old);
        let mut own = PerSection::all(Served::Elsewhere);
        for lane in &lanes {
            own[*lane] = all[*lane];
        }
        let mut acknowledged = old.finished.acknowledged().clone();
        acknowledged.extend(beyond(&old, &all, of));
        old.settle_counts(&mut self.counts, &all, of);
        for entry in old.window.iter_mut() {
            self.counts.leave(entry.event_type);
            entry.leave_unacknowledged(&mut self.unacknowledged);
        }
        let frame = lowest(&own, of).map_or(base, |own| own.min(base));
        let again = self.add_reader(Mark { frame, position: None }, Finished::new(own, acknowledged));
        self.reader_mut(again, |reader| reader.watch = old.watch.again(pushed));
        self.set_owner(&lanes, again);
        Some(again)
    }
}

/// Whether a lane of this reader, other than these, has finished something that `watermark` has not passed.
fn works(reader: &Reader, except: &[Section]) -> bool {
    reader.window.iter().any(|entry| {
        let lane = entry.section;
        let done = matches!(entry.state, State::Done(_));
        done && !reader.finished.of(lane).excludes(entry.frame) && !except.contains(&lane)
    })
}
