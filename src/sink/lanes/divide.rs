//! Divides lanes into [sections](crate::sink::sections), in every structure that has a value for each
//! section.
//!
//! A shard boundary need not be a 256th of the hash range. Hashes that the destination treats differently
//! must be in different sections. So a lane is divided around a rejected record: at the ends of the range
//! that its shard is known to serve, or of the unknown range between two shards ([`Shards::around`]). A
//! response that shows another boundary divides once more. A record never moves to the section of other
//! hashes, so what is known about its section stays true.
//!
//! Invariants: both halves keep the reader, the suspension, the progress and the pause of the whole, and are
//! detached together.

use super::detaching::Detaching;
use super::readers::Readers;
use crate::event::KeyHash;
use crate::sink::shards::Shards;
use crate::sink::throttle::Pauses;

/// Mutable borrows of everything that is kept for each section.
#[derive(Debug)]
pub(super) struct Divider<'a> {
    readers: &'a mut Readers,
    pauses: &'a mut Pauses,
    detaching: Option<&'a mut Detaching>,
}

impl<'a> Divider<'a> {
    pub(super) fn new(
        readers: &'a mut Readers,
        pauses: &'a mut Pauses,
        detaching: Option<&'a mut Detaching>,
    ) -> Self {
        Self { readers, pauses, detaching }
    }

    /// Divides the section of a rejected record, so that it contains only hashes known to share its shard.
    pub(super) fn divide_around_rejected(&mut self, hash: KeyHash, shards: &Shards) {
        let (first, last) = shards.around(hash);
        let (lowest, highest) = self.readers.sections.range(self.readers.sections.of(hash));
        if lowest < first {
            self.divide_at(first);
        }
        if let Some(beyond) = last.checked_add(1).filter(|_| last < highest) {
            self.divide_at(beyond);
        }
    }

    /// Divides sections so that none reaches from these hashes to others.
    pub(super) fn divide_around(&mut self, first: u64, last: u64) {
        self.divide_at(first);
        if let Some(beyond) = last.checked_add(1) {
            self.divide_at(beyond);
        }
    }

    /// Makes a key a section of its own, unless there are too many such sections.
    pub(super) fn divide_around_key(&mut self, key: KeyHash) {
        if self.readers.sections.have_room_for_keys() {
            self.divide_around(key.0, key.0);
        }
    }

    /// Begins another section at this hash, if there may be one more.
    fn divide_at(&mut self, from: u64) {
        let section = self.readers.sections.of(KeyHash(from));
        let Some(upper) = self.readers.divide(section, from) else { return };
        self.pauses.divide(section, upper);
        if let Some(detaching) = &mut self.detaching {
            detaching.divide(section, upper);
        }
    }
}
