//! Sections on their way out of a reader, and who reads for them from then on.
//!
//! A reader that has not read beyond where they stand just reads for them too. One that has, in the same
//! trouble and only by its window, *begins again* where they stand: the sections of one shard come into
//! trouble one by one, and would otherwise take all readers there may be. Where there cannot be another
//! reader, any one begins again, preferably one that makes no progress: some sections must wait behind those
//! of which nothing is accepted, but not the ones that have waited for them so far.
//!
//! Invariants: a reader begins again only when nothing of it is in flight, and never below the lowest of all
//! readers; what its sections have finished stays finished.

use std::cmp::Reverse;

use tokio::time::Instant;

use super::Isolation;
use crate::buffer::checkpoint::Mark;
use crate::position::FrameNo;
use crate::sink::lanes::counts::EventCounts;
use crate::sink::lanes::detaching::Detaching;
use crate::sink::lanes::dispatch::Dispatch;
use crate::sink::lanes::finished::{Finished, Served};
use crate::sink::lanes::progress::{beyond, lowest, reached};
use crate::sink::lanes::reader::{Reader, Rules};
use crate::sink::lanes::readers::{READERS_MAX, Readers};
use crate::sink::lanes::types::{Change, ReaderId};
use crate::sink::lanes::window::State;
use crate::sink::sections::{PerSection, Section};

/// Where sections find room.
#[derive(Clone, Copy, Debug)]
enum Room {
    In(ReaderId),
    /// In a reader that has to begin again.
    Again(ReaderId),
}

impl Isolation {
    /// Moves sections on their way out, once nothing of them is in flight.
    pub(in crate::sink::lanes) fn leave(
        &mut self,
        readers: &mut Readers,
        dispatch: &Dispatch,
        counts: &mut EventCounts,
        now: Instant,
    ) {
        let Some(Detaching { reader: id, sections, with }) = self.detaching.clone() else { return };
        let Some(reader) = readers.get(id) else {
            self.detaching = None;
            return;
        };
        let with_is_idle = || {
            let with = with?;
            Some(readers.get(with)?.is_idle(&readers.sections_of(with)))
        };
        if !reader.is_idle(&sections) || with_is_idle() == Some(false) {
            return;
        }
        let base = lowest(&reached(reader), |section| sections.contains(&section))
            .expect("a reader serves the sections that leave it");
        let room = match with {
            Some(with) => begin_again(readers, counts, with, base, id != ReaderId::MAIN).map(Room::In),
            None => room_for(readers, dispatch, (id, &sections), base),
        };
        match room {
            None => {
                self.detaching = None;
                stay(readers, dispatch.rules(), id, &sections, now);
            }
            Some(Room::Again(with)) => {
                let others = readers.sections_of(with);
                if let Some(reader) = readers.get_mut(with) {
                    reader.hold(&others);
                }
                self.detaching = Some(Detaching { reader: id, sections, with: Some(with) });
                self.leave(readers, dispatch, counts, now);
            }
            Some(Room::In(to)) => {
                self.detaching = None;
                let Some(behind) = hand_to(readers, counts, (id, to), &sections, base) else { return };
                let shard = dispatch.shard_of(&readers.sections, &sections);
                let lanes = readers.sections.lanes(sections);
                self.changes.push(Change::Detached { lanes, behind, shard });
                self.advance(readers, counts, dispatch.rules());
            }
        }
    }
}

/// There is no room for these sections anywhere.
fn stay(readers: &mut Readers, rules: Rules<'_>, id: ReaderId, sections: &[Section], now: Instant) {
    if let Some(reader) = readers.get_mut(id) {
        reader.let_go(sections, rules);
        reader.watch.full = Some((now, reader.watermark().frame, reader.window.head()));
    }
}

/// Another reader serves these sections of a reader from now on, from `base`. How many frames the main has
/// read beyond that.
fn hand_to(
    readers: &mut Readers,
    counts: &mut EventCounts,
    (from, to): (ReaderId, ReaderId),
    sections: &[Section],
    base: FrameNo,
) -> Option<u64> {
    let reader = readers.get_mut(from)?;
    let all = reached(reader);
    let of = |section: Section| sections.contains(&section);
    let mut acknowledged = reader.finished.acknowledged().clone();
    acknowledged.extend(beyond(reader, &all, of));
    reader.settle_counts(counts, &all, of);
    reader.watch.full = None;
    readers.give_away(from, sections);
    if let Some(reader) = readers.get_mut(to) {
        for section in sections {
            reader.finished.set(*section, all[*section]);
        }
        reader.finished.add(acknowledged);
    }
    readers.set_owner(sections, to);
    Some(readers.main().window.head().0.saturating_sub(base.0))
}

/// A reader for these sections of another one, which stand at `base`.
fn room_for(
    readers: &mut Readers,
    dispatch: &Dispatch,
    (from, sections): (ReaderId, &[Section]),
    base: FrameNo,
) -> Option<Room> {
    let refused = sections.iter().all(|section| dispatch.is_refused(&readers.sections, *section));
    let crowded = readers.len() >= READERS_MAX;
    let alike = |reader: &Reader| refused && reader.watch.refused;
    let may = |reader: &&Reader| {
        let catch_up = reader.id != ReaderId::MAIN && reader.id != from && reader.until.is_none();
        catch_up && (crowded || alike(reader))
    };
    let others = || readers.iter().filter(may);
    let behind =
        others().filter(|reader| reader.window.head() <= base).max_by_key(|reader| reader.window.head());
    if let Some(reader) = behind {
        return Some(Room::In(reader.id));
    }
    let around = |reader: &Reader| reader.watermark().frame <= base;
    // From the main or a mixed reader into one of refused sections, and not back. Between others only where
    // somebody gains for sure: those in trouble would only push each other about.
    let source = readers.get(from)?;
    let sure = from == ReaderId::MAIN || works(source, sections);
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
    readers.begin_audit();
    let id = readers.add(
        Mark { frame: base, position: None },
        Finished::new(PerSection::all(Served::Elsewhere), [].into()),
    );
    if let Some(reader) = readers.get_mut(id) {
        reader.watch.refused = refused;
    }
    Some(Room::In(id))
}

/// A reader of which nothing is in flight reads once more, from `base` or where its own sections stand;
/// perhaps for sections that were pushed out of another catch-up reader. Returns its new id.
fn begin_again(
    readers: &mut Readers,
    counts: &mut EventCounts,
    id: ReaderId,
    base: FrameNo,
    pushed: bool,
) -> Option<ReaderId> {
    let sections = readers.sections_of(id);
    let mut old = readers.remove(id)?;
    let of = |section: Section| sections.contains(&section);
    let all = reached(&old);
    let mut own = PerSection::all(Served::Elsewhere);
    for section in &sections {
        own[*section] = all[*section];
    }
    let mut acknowledged = old.finished.acknowledged().clone();
    acknowledged.extend(beyond(&old, &all, of));
    old.settle_counts(counts, &all, of);
    let watch = old.watch.again(pushed);
    readers.empty(old, counts);
    let frame = lowest(&own, of).map_or(base, |own| own.min(base));
    let again = readers.add(Mark { frame, position: None }, Finished::new(own, acknowledged));
    if let Some(reader) = readers.get_mut(again) {
        reader.watch = watch;
    }
    readers.set_owner(&sections, again);
    Some(again)
}

/// Whether a section of this reader, other than these, has finished something that the watermark has not
/// passed.
fn works(reader: &Reader, except: &[Section]) -> bool {
    reader.window.iter().any(|entry| {
        let section = entry.section;
        let done = matches!(entry.state, State::Done(_));
        done && !reader.finished.of(section).excludes(entry.frame) && !except.contains(&section)
    })
}
