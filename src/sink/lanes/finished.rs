//! What is finished before a reader reads it: what the checkpoint says, or what another reader has finished.

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
    /// Those beyond this frame: up to it they are finished.
    After(FrameNo),
    /// None: another reader serves the lane.
    #[default]
    Elsewhere,
}

impl Served {
    /// Whether a record of this frame is finished, or another reader's.
    pub(super) fn excludes(self, frame: FrameNo) -> bool {
        match self {
            Self::After(at) => frame <= at,
            Self::Elsewhere => true,
        }
    }

    /// Up to where the lane's records are finished, if it is served here.
    pub(super) const fn after(self) -> Option<FrameNo> {
        match self {
            Self::After(at) => Some(at),
            Self::Elsewhere => None,
        }
    }
}

/// Where to begin: what the checkpoint says, cut to the log.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Everything up to this frame is published.
    pub watermark: Mark,
    /// The checkpoint's tip: at least the transaction that the lanes below name.
    pub last_seen: Option<Transaction>,
    /// Lanes published beyond `watermark`.
    pub lanes: Vec<(u8, FrameNo)>,
    /// Parts of lanes published beyond their lane's progress.
    pub parts: Vec<LanePart>,
    /// Single records published beyond their lanes' progress.
    pub acknowledged: Vec<(FrameNo, u16)>,
}

impl Start {
    /// The sections that lanes were divided into, and what each has reached.
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

    /// Single records that are finished.
    pub(super) fn acknowledged(&self) -> SingleRecords {
        let beyond = self.acknowledged.iter().filter(|(frame, _)| *frame > self.watermark.frame);
        beyond.map(|id| (*id, None)).collect()
    }
}

/// Single records that are finished, and how, if this process knows that.
pub(super) type SingleRecords = HashMap<(FrameNo, u16), Option<Outcome>>;

/// What is known of a record before a reader has read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordStatus {
    /// It is to be sent.
    Unfinished,
    /// It is finished, and its lane's progress has not passed it.
    Acknowledged(Option<Outcome>),
    /// Its lane's progress has passed it, or it is another reader's.
    Passed,
}

/// What was finished before a reader read it, and which lanes other readers serve.
#[derive(Debug)]
pub(super) struct Finished {
    sections: PerSection<Served>,
    acknowledged: SingleRecords,
}

impl Finished {
    /// Each section up to a frame, and single records.
    pub(super) fn new(sections: PerSection<Served>, acknowledged: SingleRecords) -> Self {
        Self { sections, acknowledged }
    }

    /// What is known of this record. To be asked once of each.
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

    /// Single records of frames that were not read yet.
    pub(super) const fn acknowledged(&self) -> &SingleRecords {
        &self.acknowledged
    }

    pub(super) fn add(&mut self, acknowledged: SingleRecords) {
        self.acknowledged.extend(acknowledged);
    }
}
