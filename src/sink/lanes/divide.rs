//! Where lanes are divided into [sections](crate::sink::sections), and when sections become one again.
//!
//! A boundary of shards need not fall on a 256th of the hash. What must be told apart is what is refused: so a lane is divided
//! around a record that was refused, at the ends of what its shard is known to take, or of what lies unknown between two
//! shards ([`Shards::around`](crate::sink::shards::Shards)). Before lanes are detached because of a slow shard, those at both of its ends are
//! divided too. An answer that names another boundary divides once more: nothing is ever moved from one section to another,
//! so that what is known of a record's section stays true.
//!
//! A key of which a record fails alone is a section of its own, too: it delays nobody else, whatever becomes of the record.
//!
//! Both halves belong to the reader of the whole, are held if it was, have reached what it had reached, and pause as long. Neighbours become
//! one when all of that is alike and no rate is in force for either.

use tokio::time::Instant;

use super::types::ReaderId;
use super::window::{Entry, State};
use super::{Lanes, stuck};
use crate::event::KeyHash;
use crate::sink::sections::Section;
use crate::sink::shards::Place;

impl Lanes {
    /// A record was refused: the section that it is in gets no larger than what is known to share its fate.
    pub(super) fn tell_apart(&mut self, hash: KeyHash) {
        let (first, last) = self.shards.around(hash);
        let (lowest, highest) = self.sections.range(self.sections.of(hash));
        if lowest < first {
            self.divide_at(first);
        }
        if let Some(beyond) = last.checked_add(1).filter(|_| last < highest) {
            self.divide_at(beyond);
        }
    }

    /// The same for everything of the shards that a reader waits for, if it may have to be rid of them.
    pub(super) fn tell_slow_apart(&mut self, id: ReaderId, now: Instant) {
        let Some(reader) = self.readers.iter().find(|reader| reader.id == id) else { return };
        if !self.is_used(reader, stuck::USED) {
            return;
        }
        let waits = |place: &Place| {
            reader.paced.is_waiting(*place) || self.shards.has_refused(*place, stuck::LATELY, now)
        };
        let slow: Vec<Place> = self.shards.all_limited().into_iter().filter(waits).collect();
        for (first, last) in slow.into_iter().filter_map(|place| self.shards.range(place)).collect::<Vec<_>>()
        {
            self.divide_around(first, last);
        }
        self.tell_refused_apart(id);
        self.tell_keys_apart(id);
    }

    /// A key whose record fails alone is a section of its own.
    fn tell_keys_apart(&mut self, id: ReaderId) {
        let of_reader = |key: &KeyHash| self.owner[self.sections.of(*key)] == id;
        let keys: Vec<KeyHash> =
            self.suspects.accused_keys().filter(of_reader).chain(self.keys_in_the_way(id)).collect();
        for key in keys {
            self.divide_around(key.0, key.0);
        }
    }

    /// Where a section lies beside what a shard is known to take, and is refused, it gets no larger than from the first to the last
    /// hash that was refused. What is beside them may be of the other shard, and is tried.
    fn tell_refused_apart(&mut self, id: ReaderId) {
        let between = |section: &Section| self.is_refused(*section) && self.is_between_shards(*section);
        let sections: Vec<Section> = self.lanes_of(id).into_iter().filter(between).collect();
        for section in sections {
            let Some((first, last)) = self.refused_within(id, section) else { continue };
            let (lowest, highest) = self.sections.range(section);
            self.divide_around(first, last);
            for hash in [lowest, highest] {
                let beside = self.sections.of(KeyHash(hash));
                if beside != self.sections.of(KeyHash(first)) {
                    self.pauses.forgive(beside);
                }
            }
        }
    }

    /// Whether the section lies between what two shards are known to take, and reaches into a lane of one of them or the next one.
    fn is_between_shards(&self, section: Section) -> bool {
        let range = self.sections.range(section);
        if self.shards.is_known(range) {
            return false;
        }
        let (first, last) = self.shards.around(KeyHash(range.0));
        let lane = self.sections.lane(section);
        let near = |hash: u64| KeyHash(hash).lane().abs_diff(lane) <= 1;
        (first > 0 && near(first - 1)) || last.checked_add(1).is_some_and(near)
    }

    /// The first and the last hash of a section of which a record waits that was refused.
    fn refused_within(&self, id: ReaderId, section: Section) -> Option<(u64, u64)> {
        let reader = self.readers.iter().find(|reader| reader.id == id)?;
        let refused = |entry: &&Entry| {
            entry.section == section && entry.refused && !matches!(entry.state, State::Done(_))
        };
        let hashes = || reader.window.iter().filter(refused).map(|entry| entry.hash.0);
        Some((hashes().min()?, hashes().max()?))
    }

    /// These hashes are in sections of their own.
    fn divide_around(&mut self, first: u64, last: u64) {
        self.divide_at(first);
        if let Some(beyond) = last.checked_add(1) {
            self.divide_at(beyond);
        }
    }

    /// From here on another section begins, if there may be one more.
    fn divide_at(&mut self, from: u64) {
        let section = self.sections.of(KeyHash(from));
        let Some(upper) = self.sections.divide(section, from) else { return };
        self.owner[upper] = self.owner[section];
        self.pauses.divide(section, upper);
        self.readers.iter_mut().for_each(|reader| reader.divide(section, (upper, from)));
        if let Some(detaching) = &mut self.detaching {
            detaching.divide(section, upper);
        }
    }

    /// Makes one section of neighbours that nothing tells apart any more.
    pub(super) fn merge_sections(&mut self) {
        // Those above a merged one are looked at before it.
        for (lower, upper) in self.sections.neighbours().into_iter().rev() {
            if self.may_merge(lower, upper) {
                self.readers.iter_mut().for_each(|reader| reader.merge(lower, upper));
                self.pauses.merge(lower, upper);
                self.owner[upper] = ReaderId::MAIN;
                self.sections.merge(lower, upper);
            }
        }
    }

    fn may_merge(&self, lower: Section, upper: Section) -> bool {
        let calm = |section: Section| {
            let place = self.shards.of_range(self.sections.range(section));
            let leaves = self.detaching.as_ref().is_some_and(|detaching| detaching.moves(section));
            !leaves
                && self.pauses.is_clear(section)
                && !place.is_some_and(|place| self.shards.is_limited(place))
                && !self.suspects.holds(self.sections.range(section))
        };
        self.owner[lower] == self.owner[upper]
            && calm(lower)
            && calm(upper)
            && self.readers.iter().all(|reader| reader.may_merge(lower, upper))
    }
}
