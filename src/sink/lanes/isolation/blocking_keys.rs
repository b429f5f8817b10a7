//! Keys whose failing records fill a window while the service accepts nothing.
//!
//! Either one of these records or the service is the cause. Only other records can show which, but they are
//! beyond the window and are not read while it is full. So the keys leave the window, each as a section of
//! its own. In an outage of the service, that costs a catch-up reader but neither order nor completeness.

use std::time::Duration;

use crate::event::KeyHash;
use crate::position::FrameNo;
use crate::sink::lanes::dispatch::Dispatch;
use crate::sink::lanes::divide::Divider;
use crate::sink::lanes::reader::Reader;
use crate::sink::lanes::readers::Readers;
use crate::sink::lanes::stuck;
use crate::sink::lanes::types::ReaderId;
use crate::sink::lanes::window::State;
use crate::sink::sections::Section;
use crate::sink::throttle::Pauses;

/// Most keys that leave a window at once, the oldest first. If there are more, the service is probably the
/// cause.
const KEYS_MAX: usize = 8;

/// The keys that fill a window.
#[derive(Debug)]
pub(super) struct BlockingKeys {
    keys: Vec<KeyHash>,
    /// Whether there are few keys, and the service has reported that the content is at fault.
    content_at_fault: bool,
}

impl BlockingKeys {
    /// Finds the keys; `None` if another record can be sent, or if the window is not full.
    pub(super) fn of(readers: &Readers, dispatch: &Dispatch, reader: &Reader) -> Option<Self> {
        if dispatch.is_gate_open()
            || !readers.is_used(reader, stuck::USED)
            || dispatch.waiting(readers).records > 0
        {
            return None;
        }
        let (mut keys, mut more) = (Vec::new(), false);
        for entry in reader.window.iter() {
            match entry.state {
                // Records for the dead-letter file are not sent, and wait if that file is full.
                State::Suspect | State::Sent | State::Dead | State::Quarantining => {
                    if keys.len() < KEYS_MAX {
                        keys.push(entry.hash);
                    } else {
                        more = true;
                    }
                }
                State::Queued | State::Packed | State::Done(_) => {}
                State::Ready => return None,
            }
        }
        let content_at_fault = !more && dispatch.suspects.is_content_at_fault();
        (!keys.is_empty()).then_some(Self { keys, content_at_fault })
    }

    /// How long the window must not have moved. `usual` is the time for other causes.
    pub(super) fn patience(&self, usual: Duration) -> Duration {
        if self.content_at_fault { usual } else { usual.max(stuck::STUCK_AFTER_UNKNOWN) }
    }

    /// Makes each key a section. Returns the sections that should leave the reader, if any other section
    /// would gain. `then` is the head of the window when it was last seen to move.
    pub(super) fn sections_to_detach(
        &self,
        readers: &mut Readers,
        pauses: &mut Pauses,
        (id, then): (ReaderId, FrameNo),
    ) -> Option<Vec<Section>> {
        for key in &self.keys {
            Divider::new(readers, pauses, None).divide_around_key(*key);
        }
        let sections = &readers.sections;
        let leaves = |section| self.keys.iter().any(|key| sections.of(*key) == section);
        stuck::rejected_sections_to_detach(readers.get(id)?, then, &readers.sections_of(id), (leaves, leaves))
    }
}
