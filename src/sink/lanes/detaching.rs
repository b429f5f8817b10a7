//! Sections that are leaving a reader, as long as some of their records are in flight.

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

    /// A section was divided: both halves leave if it does.
    pub(super) fn divide(&mut self, section: Section, upper: Section) {
        if self.sections.contains(&section) {
            self.sections.push(upper);
        }
    }

    /// Whether a section is leaving.
    pub(super) fn moves(&self, section: Section) -> bool {
        self.sections.contains(&section)
    }

    /// Whether this reader takes part.
    pub(super) fn needs(&self, id: ReaderId) -> bool {
        self.reader == id || self.with == Some(id)
    }
}
