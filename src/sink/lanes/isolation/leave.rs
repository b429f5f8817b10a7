//! Moves sections out of a reader, and decides which reader serves them next:
//!
//! - a catch-up reader that has not read beyond their progress;
//! - a catch-up reader with the same problem, at most a window ahead, which *begins again* at their progress.
//!   The sections of one shard fail one after the other, and would otherwise use up all readers;
//! - otherwise a new reader;
//! - if there are already as many readers as allowed, one that begins again, preferably one without progress.
//!   Then some sections wait behind others that accept nothing, but the sections that waited until now do
//!   not.
//!
//! Invariants: a reader begins again only when none of its records is in flight, and never below the lowest
//! of all readers; what its sections have finished stays finished.

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

/// The reader for sections that leave another one.
#[derive(Clone, Copy, Debug)]
enum NewReader {
    /// This reader, as it is.
    Ready(ReaderId),
    /// This reader, after it has begun again.
    BeginsAgain(ReaderId),
}

impl Isolation {
    /// Moves the leaving sections to another reader, once none of their records is in flight.
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
        let reader_for_them = match with {
            Some(with) => {
                begin_again(readers, counts, with, base, id != ReaderId::MAIN).map(NewReader::Ready)
            }
            None => reader_for(readers, dispatch, (id, &sections), base),
        };
        match reader_for_them {
            None => {
                self.detaching = None;
                stay(readers, dispatch.rules(), id, &sections, now);
            }
            Some(NewReader::BeginsAgain(with)) => {
                let others = readers.sections_of(with);
                if let Some(reader) = readers.get_mut(with) {
                    reader.suspend_sections(&others);
                }
                self.detaching = Some(Detaching { reader: id, sections, with: Some(with) });
                self.leave(readers, dispatch, counts, now);
            }
            Some(NewReader::Ready(to)) => {
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

/// Keeps the sections where they are, because no reader can serve them.
fn stay(readers: &mut Readers, rules: Rules<'_>, id: ReaderId, sections: &[Section], now: Instant) {
    if let Some(reader) = readers.get_mut(id) {
        reader.resume_sections(sections, rules);
        reader.watch.full = Some((now, reader.watermark().frame, reader.window.head()));
    }
}

/// Moves sections to another reader, which serves them from `base` on. Returns how many frames the main
/// reader is ahead of that.
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
    readers.withdraw_sections(from, sections);
    if let Some(reader) = readers.get_mut(to) {
        for section in sections {
            reader.finished.set(*section, all[*section]);
        }
        reader.finished.add(acknowledged);
    }
    readers.set_owner(sections, to);
    Some(readers.main().window.head().0.saturating_sub(base.0))
}

/// Chooses a reader for sections that leave the reader `from`. Their progress is `base`.
fn reader_for(
    readers: &mut Readers,
    dispatch: &Dispatch,
    (from, sections): (ReaderId, &[Section]),
    base: FrameNo,
) -> Option<NewReader> {
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
        return Some(NewReader::Ready(reader.id));
    }
    let around = |reader: &Reader| reader.watermark().frame <= base;
    // Sections move from the main reader or a mixed reader into one of rejected sections, but not back.
    // Between other readers they move only if some section certainly gains. Otherwise they could move in
    // circles.
    let source = readers.get(from)?;
    let sure = from == ReaderId::MAIN || has_progress(source, sections);
    let may_wait = |reader: &Reader| {
        crowded && (sure || alike(reader) && (!source.watch.refused || !has_progress(reader, &[])))
    };
    let again = others().filter(|reader| around(reader) || may_wait(reader)).max_by_key(|reader| {
        let far = reader.watermark().frame.0.abs_diff(base.0);
        (reader.watch.refused == refused, !has_progress(reader, &[]), around(reader), Reverse(far))
    });
    if let Some(reader) = again {
        return Some(NewReader::BeginsAgain(reader.id));
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
    Some(NewReader::Ready(id))
}

/// Makes a reader without records in flight begin again, at `base` or at the progress of its own sections if
/// that is lower. `pushed`: for sections of another catch-up reader. Returns its new id.
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
    let (watch, control) = (old.watch.again(pushed), old.last_published.take());
    readers.empty(old, counts);
    let frame = lowest(&own, of).map_or(base, |own| own.min(base));
    let again = readers.add(Mark { frame, position: None }, Finished::new(own, acknowledged));
    if let Some(reader) = readers.get_mut(again) {
        (reader.watch, reader.last_published) = (watch, control);
    }
    readers.set_owner(&sections, again);
    Some(again)
}

/// Whether a section of this reader, not among `except`, has finished a record that the watermark has not
/// passed.
fn has_progress(reader: &Reader, except: &[Section]) -> bool {
    reader.window.iter().any(|entry| {
        let section = entry.section;
        let done = matches!(entry.state, State::Done(_));
        done && !reader.finished.of(section).excludes(entry.frame) && !except.contains(&section)
    })
}
