//! The progress beyond the watermark, for the next start.
//!
//! The progress of a lane is the last frame up to which all of its records are finished. It says nothing
//! about other lanes, and nothing about frames beyond the read head, unless a checkpoint covers them.

use super::finished::{Served, Start};
use super::reader::Reader;
use super::types::{Outcome, ReaderId};
use super::window::State;
use crate::buffer::checkpoint::{LanePart, Mark};
use crate::position::{FrameNo, Transaction};
use crate::sink::lane::PerLane;
use crate::sink::sections::{PerSection, Section, Sections};

/// Most single records in a checkpoint. Each takes about 20 bytes of its 2 MiB. The remaining records are
/// sent again.
const ANSWERED_MAX: usize = 40_000;

/// The progress that a checkpoint stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Everything up to this frame is finished.
    pub watermark: Mark,
    /// The last transaction at or before `watermark`; `None` if none was read since the start.
    pub watermark_transaction: Option<Transaction>,
    /// Lanes with progress beyond `watermark`.
    pub lanes: Vec<(u8, FrameNo)>,
    /// Parts of lanes with progress beyond that of their lane, in the order of the hash.
    pub parts: Vec<LanePart>,
    /// Records finished beyond the progress of their lane, in order; only with [`Detail::Records`].
    pub acknowledged: Vec<(FrameNo, u16)>,
    /// The highest transaction that any field above covers, or that of the start if none is higher.
    pub last_seen: Option<Transaction>,
}

/// How much [`Lanes::progress`](super::Lanes::progress) reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Whole frames per lane, for the checkpoint of every second.
    Lanes,
    /// Single records as well, for a clean stop, so that nothing is sent twice.
    Records,
}

/// What was known at the start about frames that may not have been read since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    /// The last frame that the start mentions.
    pub(super) named: FrameNo,
    pub(super) last_seen: Option<Transaction>,
}

impl Origin {
    pub(super) fn new(start: &Start) -> Self {
        let acknowledged = start.acknowledged.iter().map(|(frame, _)| *frame);
        Self { named: acknowledged.fold(start.covered(), FrameNo::max), last_seen: start.last_seen }
    }
}

/// The progress of each section in a reader that serves it: the frame up to which all its records are
/// finished.
pub(super) fn reached(reader: &Reader) -> PerSection<Served> {
    let mut unfinished = PerSection::all(reader.window.head());
    for entry in reader.window.iter().filter(|entry| !matches!(entry.state, State::Done(_))) {
        let frame = &mut unfinished[entry.section];
        *frame = FrameNo(entry.frame.0 - 1).min(*frame);
    }
    let mut reached = PerSection::default();
    for (section, at) in unfinished.iter() {
        reached[section] = match reader.finished.of(section) {
            Served::After(finished) => Served::After((*at).max(finished)),
            Served::Elsewhere => Served::Elsewhere,
        };
    }
    reached
}

/// The lowest progress of these sections.
pub(super) fn lowest(reached: &PerSection<Served>, of: impl Fn(Section) -> bool) -> Option<FrameNo> {
    reached.iter().filter(|(section, _)| of(*section)).filter_map(|(_, served)| served.after()).min()
}

/// Finished records of some sections beyond the progress of their section.
pub(super) fn beyond<'a>(
    reader: &'a Reader,
    reached: &'a PerSection<Served>,
    of: impl Fn(Section) -> bool + 'a,
) -> impl Iterator<Item = ((FrameNo, u16), Option<Outcome>)> + 'a {
    let done = reader.window.iter().filter_map(|entry| match entry.state {
        State::Done(outcome) => Some((entry, outcome)),
        _ => None,
    });
    done.filter(move |(entry, _)| of(entry.section) && !reached[entry.section].excludes(entry.frame))
        .map(|(entry, outcome)| ((entry.frame, entry.part), Some(outcome)))
}

/// The progress of all readers together. For each section, that of its owner counts.
pub(super) fn progress(
    readers: &[Reader],
    (sections, owner): (&Sections, &PerSection<ReaderId>),
    (watermark, watermark_transaction): (Mark, Option<Transaction>),
    origin: Origin,
    detail: Detail,
) -> Progress {
    let mut all = PerSection::all(watermark.frame);
    let mut acknowledged = Vec::new();
    for reader in readers {
        let owns = |section: Section| owner[section] == reader.id;
        let reached = reached(reader);
        for section in sections.iter().filter(|section| owns(*section)) {
            all[section] = reached[section].after().unwrap_or_default().max(watermark.frame);
        }
        if detail == Detail::Records {
            acknowledged.extend(beyond(reader, &reached, owns).map(|(id, _)| id));
            acknowledged.extend(reader.finished.acknowledged().keys());
        }
    }
    let (lanes, parts) = by_lane(sections, &all, watermark.frame);
    acknowledged.sort_unstable();
    acknowledged.dedup();
    acknowledged.retain(|(frame, _)| *frame > watermark.frame);
    acknowledged.truncate(ANSWERED_MAX);
    let frames = lanes.iter().map(|(_, frame)| *frame).chain(acknowledged.iter().map(|(frame, _)| *frame));
    let named = frames.chain(parts.iter().map(|part| part.frame)).max().unwrap_or(watermark.frame);
    let main = readers.first().filter(|main| origin.named <= main.window.head());
    let read = main.and_then(|main| main.window.transaction_at(named));
    let last_seen = read.or(origin.last_seen);
    Progress { watermark, watermark_transaction, lanes, parts, acknowledged, last_seen }
}

/// The progress of each lane as a whole, and of its parts that are further.
fn by_lane(
    sections: &Sections,
    reached: &PerSection<FrameNo>,
    watermark: FrameNo,
) -> (Vec<(u8, FrameNo)>, Vec<LanePart>) {
    let mut lanes = PerLane::all(FrameNo(u64::MAX));
    for section in sections.iter() {
        let lane = sections.lane(section);
        lanes[lane] = lanes[lane].min(reached[section]);
    }
    let parts = sections.iter().filter(|section| reached[*section] > lanes[sections.lane(*section)]);
    let parts = parts.map(|section| {
        let (first, last) = sections.range(section);
        LanePart { first, last, frame: reached[section] }
    });
    let parts = parts.collect();
    let lanes = lanes.iter().map(|(lane, frame)| (lane, *frame));
    (lanes.filter(|(_, frame)| *frame > watermark).collect(), parts)
}
