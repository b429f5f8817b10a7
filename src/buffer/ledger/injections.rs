//! Injections in the ledger: records that are not changes, and are not appended yet.

use super::Ledger;
use crate::buffer::checkpoint::Injection;
use crate::position::FrameNo;

impl Ledger {
    /// Notes that an injection was appended as this frame. It stays in the checkpoint until the frame is
    /// settled.
    pub fn injected(&mut self, frame: FrameNo, injection: Injection) {
        self.injected.push((frame, injection));
    }

    /// Injections of the checkpoint that are not in the log yet.
    pub fn to_inject(&self) -> Vec<Injection> {
        self.written.injections.iter().filter(|injection| self.is_due(injection)).cloned().collect()
    }

    /// Whether [`to_inject`](Self::to_inject) is not empty. It is called at the end of every transaction, so
    /// it only compares two numbers: injections in the log are a subset of the unsettled ones.
    pub fn has_to_inject(&self) -> bool {
        let unsettled = self.written.injections.iter().filter(|injection| injection.settled().is_none());
        unsettled.count() > self.injected.len()
    }

    fn is_due(&self, injection: &Injection) -> bool {
        injection.settled().is_none() && !self.injected.iter().any(|(_, other)| other.is(injection))
    }
}
