//! Sections that are leaving a reader, while some of their records are still in flight.

use super::types::ReaderId;
use crate::sink::sections::Section;

/// Sections that are leaving a reader.
#[derive(Clone, Debug)]
pub(super) struct Detaching {
    pub(super) reader: ReaderId,
    pub(super) sections: Vec<Section>,
    /// The reader that will begin again for them.
    pub(super) with: Option<ReaderId>,
}

impl Detaching {
    pub(super) const fn new(reader: ReaderId, sections: Vec<Section>) -> Self {
        Self { reader, sections, with: None }
    }

    /// Notes that a section was divided: if it leaves, both halves leave.
    pub(super) fn divide(&mut self, section: Section, upper: Section) {
        if self.sections.contains(&section) {
            self.sections.push(upper);
        }
    }

    /// Whether a section is leaving.
    pub(super) fn moves(&self, section: Section) -> bool {
        self.sections.contains(&section)
    }

    /// Whether this reader takes part in the move.
    pub(super) fn needs(&self, id: ReaderId) -> bool {
        self.reader == id || self.with == Some(id)
    }
}
