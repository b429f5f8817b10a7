//! The hash space in sections: the unit of pauses, of isolation and of progress beyond the watermark.
//!
//! At first each lane is one section. Shard boundaries need not fall on lanes, so a lane is *divided* where a
//! throttling shard begins or ends, and its sections are *merged* again when they no longer differ. A key has
//! one hash, so it is in one section at any time, and its order does not depend on where a lane is divided.
//! When a section is divided, both halves keep its state.
//!
//! Invariants: sections cover all hashes, each once; none reaches into two lanes; the lowest section of a
//! lane has the lane's number; there are at most [`DIVISIONS_MAX`] more sections than lanes, however many
//! shards there are.

use std::ops::{Index, IndexMut};

use super::lane::PerLane;
use crate::event::KeyHash;

/// Most sections in addition to one for each lane. A throttling shard divides two lanes, and a key whose
/// record fails makes two divisions. At most half of them are for keys, so there can be 256 of each at once.
/// Beyond that a lane is not divided. Each section costs about 200 bytes.
const DIVISIONS_MAX: usize = 1024;
const LANES: usize = 1 << u8::BITS;
const SECTIONS: usize = LANES + DIVISIONS_MAX;

/// Identifies a section as long as it exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Section(u16);

impl Section {
    /// The lowest section of a lane.
    pub(super) const fn lowest_of(lane: u8) -> Self {
        Self(lane as u16)
    }

    fn nth(index: usize) -> Self {
        Self(u16::try_from(index).expect("there are fewer sections than 2^16"))
    }
}

/// A value for each possible section.
#[derive(Clone, Debug)]
pub(super) struct PerSection<T>(Box<[T]>);

impl<T: Default> Default for PerSection<T> {
    fn default() -> Self {
        Self((0..SECTIONS).map(|_| T::default()).collect())
    }
}

impl<T: Copy> PerSection<T> {
    /// The same value for all sections.
    pub(super) fn all(value: T) -> Self {
        Self(vec![value; SECTIONS].into_boxed_slice())
    }
}

impl<T> PerSection<T> {
    /// All values, including those of sections that do not exist.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Section, &T)> {
        self.0.iter().enumerate().map(|(index, value)| (Section::nth(index), value))
    }
}

#[expect(clippy::indexing_slicing, reason = "there is a value for every section that is made")]
impl<T> Index<Section> for PerSection<T> {
    type Output = T;

    fn index(&self, section: Section) -> &T {
        &self.0[usize::from(section.0)]
    }
}

#[expect(clippy::indexing_slicing, reason = "there is a value for every section that is made")]
impl<T> IndexMut<Section> for PerSection<T> {
    fn index_mut(&mut self, section: Section) -> &mut T {
        &mut self.0[usize::from(section.0)]
    }
}

/// The division of the hash range into sections.
#[derive(Debug)]
pub(super) struct Sections {
    /// The first hash of each section, in order.
    order: Vec<(u64, Section)>,
    /// Index in `order` of the first section of each lane.
    lanes: PerLane<u16>,
    /// First and last hash of each section.
    ranges: PerSection<(u64, u64)>,
    free: Vec<Section>,
}

impl Default for Sections {
    fn default() -> Self {
        let mut sections = Self {
            order: (0..=u8::MAX).map(|lane| (first_of(lane), Section::lowest_of(lane))).collect(),
            lanes: PerLane::default(),
            ranges: PerSection::default(),
            free: (LANES..SECTIONS).rev().map(Section::nth).collect(),
        };
        for lane in 0..=u8::MAX {
            sections.ranges[Section::lowest_of(lane)] = (first_of(lane), last_of(lane));
        }
        sections.index();
        sections
    }
}

impl Sections {
    /// The section of a key.
    pub(super) fn of(&self, hash: KeyHash) -> Section {
        let lowest = Section::lowest_of(hash.lane());
        let (_, last) = self.ranges[lowest];
        if hash.0 <= last {
            return lowest;
        }
        let from = usize::from(self.lanes[hash.lane()]);
        let above = self.order.get(from..).unwrap_or_default();
        let at = above.partition_point(|(first, _)| *first <= hash.0);
        above.get(at.saturating_sub(1)).map_or(lowest, |(_, section)| *section)
    }

    /// The first and the last hash of a section.
    pub(super) fn range(&self, section: Section) -> (u64, u64) {
        self.ranges[section]
    }

    /// The lane that the section belongs to.
    pub(super) fn lane(&self, section: Section) -> u8 {
        KeyHash(self.ranges[section].0).lane()
    }

    /// All sections, in the order of the hash.
    pub(super) fn iter(&self) -> impl Iterator<Item = Section> {
        self.order.iter().map(|(_, section)| *section)
    }

    /// Whether any lane is divided.
    pub(super) fn are_divided(&self) -> bool {
        self.order.len() > LANES
    }

    /// The lanes of these sections, in order, each once.
    pub(super) fn lanes(&self, sections: impl IntoIterator<Item = Section>) -> Vec<u8> {
        let mut lanes: Vec<u8> = sections.into_iter().map(|section| self.lane(section)).collect();
        lanes.sort_unstable();
        lanes.dedup();
        lanes
    }

    /// Makes a section of the hashes from `at` on. `None` if the section begins there or ends before, or if
    /// there is no section number left.
    pub(super) fn divide(&mut self, section: Section, at: u64) -> Option<Section> {
        let (first, last) = self.ranges[section];
        if at <= first || at > last {
            return None;
        }
        let upper = self.free.pop()?;
        self.ranges[section] = (first, at - 1);
        self.ranges[upper] = (at, last);
        let place = self.order.partition_point(|(first, _)| *first < at);
        self.order.insert(place, (at, upper));
        self.index();
        Some(upper)
    }

    /// Whether a key may become a section of its own. The second half of the section numbers is for shards.
    pub(super) fn have_room_for_keys(&self) -> bool {
        self.free.len() > DIVISIONS_MAX / 2
    }

    /// Neighbouring sections within a lane, the lower one first.
    pub(super) fn neighbours(&self) -> Vec<(Section, Section)> {
        if !self.are_divided() {
            return Vec::new();
        }
        let pairs = self.order.windows(2).filter_map(|pair| match pair {
            [(_, lower), (_, upper)] => Some((*lower, *upper)),
            _ => None,
        });
        pairs.filter(|(lower, upper)| self.lane(*lower) == self.lane(*upper)).collect()
    }

    /// Merges two neighbours into the lower one.
    pub(super) fn merge(&mut self, lower: Section, upper: Section) {
        self.ranges[lower].1 = self.ranges[upper].1;
        self.ranges[upper] = (0, 0);
        self.order.retain(|(_, section)| *section != upper);
        self.free.push(upper);
        self.index();
    }

    fn index(&mut self) {
        for (index, (first, _)) in (0u16..).zip(&self.order) {
            if first.trailing_zeros() >= 56 {
                self.lanes[KeyHash(*first).lane()] = index;
            }
        }
    }
}

/// The first hash of a lane.
const fn first_of(lane: u8) -> u64 {
    (lane as u64) << 56
}

/// The last hash of a lane.
const fn last_of(lane: u8) -> u64 {
    first_of(lane) | (u64::MAX >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(random: &mut u64) -> u64 {
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random.rotate_left(32)
    }

    #[test]
    fn sections_cover_each_hash_once() {
        let mut random = 7;
        let mut sections = Sections::default();
        for _ in 0..20_000 {
            // Hashes of few lanes, so that each lane is divided often.
            let hash = KeyHash(draw(&mut random) & 0x03FF_FFFF_FFFF_FFFF);
            let section = sections.of(hash);
            let (first, last) = sections.range(section);
            assert!(first <= hash.0 && hash.0 <= last && sections.lane(section) == hash.lane());
            if draw(&mut random).is_multiple_of(2) {
                let upper = sections.divide(section, hash.0);
                assert_eq!(upper.is_none(), hash.0 == first || sections.iter().count() == SECTIONS);
            } else if let Some((lower, upper)) = sections.neighbours().pop() {
                sections.merge(lower, upper);
            }
        }
        while let Some((lower, upper)) = sections.neighbours().pop() {
            sections.merge(lower, upper);
        }
        assert!(!sections.are_divided() && sections.free.len() == DIVISIONS_MAX);
        assert!((0..=u8::MAX).all(|lane| sections.of(KeyHash(last_of(lane))) == Section::lowest_of(lane)));
    }

    #[test]
    fn divisions_are_bounded() {
        let mut sections = Sections::default();
        let divided = (1..5_000).filter(|n| {
            let hash = KeyHash(n << 50);
            sections.divide(sections.of(hash), hash.0).is_some()
        });
        assert_eq!(divided.count(), DIVISIONS_MAX);
    }
}
