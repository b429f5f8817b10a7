//! What was finished before a reader reads it: by the checkpoint, or by another reader.

use std::collections::HashMap;

use super::types::Outcome;
use crate::buffer::checkpoint::{LanePart, Mark};
use crate::event::KeyHash;
use crate::position::{FrameNo, Transaction};
use crate::sink::lane::PerLane;
use crate::sink::sections::{PerSection, Section, Sections};

/// Which records of a lane a reader serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Served {
    /// The records after this frame. Those up to it are finished.
    After(FrameNo),
    /// None, because another reader serves the lane.
    #[default]
    Elsewhere,
}

impl Served {
    /// Whether a record of this frame is finished, or belongs to another reader.
    pub(super) fn excludes(self, frame: FrameNo) -> bool {
        match self {
            Self::After(at) => frame <= at,
            Self::Elsewhere => true,
        }
    }

    /// The frame up to which the lane's records are finished; `None` if another reader serves it.
    pub(super) const fn after(self) -> Option<FrameNo> {
        match self {
            Self::After(at) => Some(at),
            Self::Elsewhere => None,
        }
    }
}

/// Where to begin: the progress of the checkpoint, limited to the log.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Everything up to this frame is published.
    pub watermark: Mark,
    /// The last seen transaction of the checkpoint: not lower than that of any lane below.
    pub last_seen: Option<Transaction>,
    /// Progress of lanes beyond `watermark`.
    pub lanes: Vec<(u8, FrameNo)>,
    /// Progress of parts of lanes beyond their lane's progress.
    pub parts: Vec<LanePart>,
    /// Single records published beyond their lanes' progress.
    pub acknowledged: Vec<(FrameNo, u16)>,
}

impl Start {
    /// The sections that the lanes are divided into, and the progress of each.
    pub(super) fn reached(&self) -> (Sections, PerSection<FrameNo>) {
        let mut sections = Sections::default();
        for part in &self.parts {
            sections.divide(sections.of(KeyHash(part.first)), part.first);
            if let Some(beyond) = part.last.checked_add(1) {
                sections.divide(sections.of(KeyHash(beyond)), beyond);
            }
        }
        let mut lanes = PerLane::all(self.watermark.frame);
        for (lane, frame) in &self.lanes {
            lanes[*lane] = (*frame).max(lanes[*lane]);
        }
        let mut reached = PerSection::all(self.watermark.frame);
        for section in sections.iter() {
            let (first, last) = sections.range(section);
            let parts = self.parts.iter().filter(|part| part.first <= first && last <= part.last);
            let parts = parts.map(|part| part.frame);
            reached[section] = parts.fold(lanes[sections.lane(section)], FrameNo::max);
        }
        (sections, reached)
    }

    /// The last frame that the progress of any lane covers.
    pub(super) fn covered(&self) -> FrameNo {
        let lanes = self.lanes.iter().map(|(_, frame)| *frame);
        let lanes = lanes.chain(self.parts.iter().map(|part| part.frame));
        lanes.fold(self.watermark.frame, FrameNo::max)
    }

    /// The single records that are finished.
    pub(super) fn acknowledged(&self) -> SingleRecords {
        let beyond = self.acknowledged.iter().filter(|(frame, _)| *frame > self.watermark.frame);
        beyond.map(|id| (*id, None)).collect()
    }
}

/// Single finished records, and their outcome if this process knows it.
pub(super) type SingleRecords = HashMap<(FrameNo, u16), Option<Outcome>>;

/// What is known about a record before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordStatus {
    /// It must be sent.
    Unfinished,
    /// It is finished, and the progress of its lane has not passed it.
    Acknowledged(Option<Outcome>),
    /// The progress of its lane has passed it, or another reader serves it.
    Passed,
}

/// Everything that is finished before a reader reads it, and the lanes that other readers serve.
#[derive(Debug)]
pub(super) struct Finished {
    sections: PerSection<Served>,
    acknowledged: SingleRecords,
}

impl Finished {
    /// For this progress of each section, and these single records.
    pub(super) fn new(sections: PerSection<Served>, acknowledged: SingleRecords) -> Self {
        Self { sections, acknowledged }
    }

    /// The status of a record. Call it once for each record, because a single record is removed from the set.
    pub(super) fn take_status(&mut self, section: Section, frame: FrameNo, part: u16) -> RecordStatus {
        let single =
            if self.acknowledged.is_empty() { None } else { self.acknowledged.remove(&(frame, part)) };
        match single {
            _ if self.of(section).excludes(frame) => RecordStatus::Passed,
            Some(outcome) => RecordStatus::Acknowledged(outcome),
            None => RecordStatus::Unfinished,
        }
    }

    pub(super) fn of(&self, section: Section) -> Served {
        self.sections[section]
    }

    pub(super) fn set(&mut self, section: Section, served: Served) {
        self.sections[section] = served;
    }

    /// The single finished records of frames that were not read yet.
    pub(super) const fn acknowledged(&self) -> &SingleRecords {
        &self.acknowledged
    }

    pub(super) fn add(&mut self, acknowledged: SingleRecords) {
        self.acknowledged.extend(acknowledged);
    }
}
