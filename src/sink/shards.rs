//! Learns from responses which shard serves which keys, and the rate that each shard accepts ([`Rate`]). Does
//! no I/O; the time is a parameter.
//!
//! The response names the shard of each accepted record. A shard serves one contiguous range of hashes, so
//! all hashes between two accepted ones belong to it. The boundary of two shards is between the last known
//! hash of one and the first of the next (`ShardRanges`). A reshard is no special case: the range of a shard
//! never changes, so if a response names another shard than before, the older one is closed, and is dropped
//! together with its rate. A hash outside of all known ranges is not limited.

mod ranges;

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

pub use self::ranges::Place;
use self::ranges::{KnownShard, ShardRanges};
use crate::event::KeyHash;
use crate::sink::HashRange;
use crate::sink::lane::PerLane;
use crate::sink::rate::{Amount, Rate, ShardResults, Summary};
use crate::sink::throttle::Jitter;

/// A shard that has accepted nothing for this time, and whose keys another one accepts, is closed.
const SILENT: Duration = Duration::from_secs(1);
/// Most known shards, at about 500 bytes each. Further ones are not tracked: their lanes pause instead of
/// having a rate.
pub(super) const SHARDS_MAX: usize = 4096;
/// A shard that has rejected a record within this time may have a problem.
const SUSPICIOUS: Duration = Duration::from_secs(5);
/// If there are too many shards, one that has accepted nothing for this time is forgotten.
const FORGOTTEN: Duration = Duration::from_mins(1);

#[derive(Debug, Default)]
struct Shard {
    id: Box<str>,
    /// First and last hash that it is known to serve; `None` if its place is free.
    core: Option<(u64, u64)>,
    rate: Rate,
    /// When it last accepted a record.
    alive: Option<Instant>,
    results: ShardResults,
    has_results: bool,
    /// Records and bytes that it has accepted, and records that it has throttled.
    sums: [u64; 3],
}

/// A reduced rate, for the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    /// The shard's id.
    pub shard: String,
    /// The new rate in records and bytes per second.
    pub rate: Amount,
    /// Whether it was unlimited before.
    pub first: bool,
}

/// What a shard has accepted since it became known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardLoad {
    /// The shard's id.
    pub shard: String,
    /// The part of the hash range that it is known to serve, in thousandths.
    pub range: u16,
    /// Records that it has accepted.
    pub records: u64,
    /// Bytes of these records.
    pub bytes: u64,
    /// Records that it has throttled.
    pub throttled: u64,
    /// Whether a rate is in force.
    pub limited: bool,
    /// Whether it accepts nothing.
    pub refusing: bool,
}

/// The known shards of the stream.
#[derive(Debug, Default)]
pub struct Shards {
    ranges: ShardRanges,
    /// Lanes with an accepted record since their shard became known.
    acknowledged: PerLane<bool>,
    all: Vec<Shard>,
    places: HashMap<Box<str>, Place>,
    free: Vec<Place>,
    with_results: Vec<Place>,
    /// Number of shards with a rate in force.
    limited: usize,
    /// Shards that have given up claims.
    retracted: Vec<Place>,
    /// When a free place was last searched for.
    crowded: Option<Instant>,
    /// Whether a response named a shard whose whole range is not known.
    unlisted: bool,
}

impl Shards {
    /// The shard that serves a record; `None` if unknown.
    pub fn of(&self, hash: KeyHash) -> Option<Place> {
        self.ranges.at(hash.0).filter(|_| self.acknowledged[hash.lane()]).map(|known| known.place)
    }

    /// First and last hash around a record that are treated alike: the range of its shard, or the unknown
    /// range between two shards.
    pub(super) fn around(&self, hash: KeyHash) -> (u64, u64) {
        self.ranges.around(hash.0)
    }

    /// First and last hash that a shard is known or assumed to serve.
    pub(super) fn range(&self, place: Place) -> Option<(u64, u64)> {
        let (first, _) = self.core(place)?;
        self.ranges.at(first).map(|known| known.claim)
    }

    fn core(&self, place: Place) -> Option<(u64, u64)> {
        self.all.get(place.index())?.core
    }

    /// Whether a shard is known to serve any of these hashes.
    pub(super) fn is_known(&self, range: (u64, u64)) -> bool {
        self.ranges.is_core(range)
    }

    /// The shard that serves a record, if a rate is in force there.
    pub fn limited(&self, hash: KeyHash) -> Option<Place> {
        if self.limited == 0 {
            return None;
        }
        self.of(hash).filter(|place| self.is_limited(*place))
    }

    /// Whether a rate is in force.
    pub fn is_limited(&self, place: Place) -> bool {
        self.all.get(place.index()).is_some_and(|shard| shard.rate.is_limited())
    }

    /// A shard's rate.
    pub fn rate(&mut self, place: Place) -> Option<&mut Rate> {
        self.all.get_mut(place.index()).map(|shard| &mut shard.rate)
    }

    /// The rate of a shard.
    pub fn rate_of(&self, place: Place) -> Option<&Rate> {
        self.all.get(place.index()).map(|shard| &shard.rate)
    }

    /// Adds a shard's tokens up to now. Returns whether a rate is still in force.
    pub fn advance(&mut self, place: Place, now: Instant) -> bool {
        let Some(shard) = self.all.get_mut(place.index()) else { return false };
        let before = shard.rate.is_limited();
        shard.rate.advance(now);
        let limited = shard.rate.is_limited();
        self.limited -= usize::from(before && !limited);
        limited
    }

    /// Takes tokens for a record to a shard, if it has enough.
    pub fn take(&mut self, place: Place, size: usize, now: Instant) -> bool {
        self.all.get_mut(place.index()).is_some_and(|shard| shard.rate.take(float(size), now))
    }

    /// Takes tokens for bytes that were added to a record after [`take`](Self::take).
    pub fn spend(&mut self, place: Place, bytes: usize) {
        if let Some(shard) = self.all.get_mut(place.index()) {
            shard.rate.spend(float(bytes));
        }
    }

    /// The shard of a hash range, for messages.
    pub fn name_of(&self, range: (u64, u64)) -> Option<&str> {
        let known = self.ranges.overlapping(range).next()?;
        self.all.get(known.place.index()).map(|shard| &*shard.id)
    }

    /// Whether any shard has accepted a record.
    pub fn is_any_known(&self) -> bool {
        !self.places.is_empty()
    }

    /// The shard of a hash range. Of several, one with a rate in force is preferred. In an unknown range, it
    /// is the nearest shard below, because a shard is a contiguous range.
    pub(super) fn of_range(&self, range: (u64, u64)) -> Option<Place> {
        let places = || self.ranges.overlapping(range).map(|known| known.place);
        let limited = places().find(|place| self.is_limited(*place));
        limited.or_else(|| places().next()).or_else(|| self.ranges.nearest(range.0))
    }

    /// Shards with a rate in force.
    pub(super) fn all_limited(&self) -> Vec<Place> {
        if self.limited == 0 {
            return Vec::new();
        }
        self.places.values().copied().filter(|place| self.is_limited(*place)).collect()
    }

    /// Whether a shard of this hash range rejects everything.
    pub fn refuses(&self, range: (u64, u64)) -> bool {
        self.ranges.overlapping(range).any(|known| self.rate_of(known.place).is_some_and(Rate::is_stuck))
    }

    /// Whether a shard has throttled within this time.
    pub fn has_refused(&self, place: Place, within: Duration, now: Instant) -> bool {
        let refused = self.rate_of(place).and_then(Rate::refused);
        refused.is_some_and(|at| now.saturating_duration_since(at) < within)
    }

    /// Notes that a shard has accepted a record.
    pub fn accepted(&mut self, hash: KeyHash, id: &str, size: usize, now: Instant) {
        let expected = self.of(hash);
        let right = |place: &Place| self.all.get(place.index()).is_some_and(|shard| *shard.id == *id);
        let place = match expected.filter(right) {
            Some(place) => place,
            None => match self.learn(hash, id, now) {
                Some(place) => place,
                None => return,
            },
        };
        if self.rate_of(place).is_some_and(Rate::is_stuck)
            && let Some(core) = self.core(place)
        {
            // Hashes that a neighbour claims while both shards accept nothing may belong to this one.
            let retracted = self.ranges.retract(core, 1);
            self.retracted.extend(retracted);
        }
        if let Some(shard) = self.all.get_mut(place.index()) {
            shard.alive = Some(now);
            let [records, bytes, _] = &mut shard.sums;
            (*records, *bytes) = (*records + 1, *bytes + size as u64);
        }
        self.acknowledged[hash.lane()] = true;
        self.note(place, |results| {
            let [records, bytes] = results.accepted;
            results.accepted = [records + 1.0, bytes + float(size)];
        });
    }

    /// The load of each known shard, in the order of their ranges.
    pub fn loads(&self) -> Vec<ShardLoad> {
        let load = |shard: &Shard| {
            let (first, last) = shard.core?;
            let [records, bytes, throttled] = shard.sums;
            let load = ShardLoad {
                shard: shard.id.to_string(),
                range: u16::try_from((u128::from(last - first) * 1_000) >> 64).unwrap_or(1_000),
                records,
                bytes,
                throttled,
                limited: shard.rate.is_limited(),
                refusing: shard.rate.is_stuck(),
            };
            Some((first, load))
        };
        let mut loads: Vec<_> = self.all.iter().filter_map(load).collect();
        loads.sort_unstable_by_key(|(first, _)| *first);
        loads.into_iter().map(|(_, load)| load).collect()
    }

    /// Notes a throttled record. Returns whether its shard is known.
    pub fn refused(&mut self, hash: KeyHash, repeatedly_refused: bool) -> bool {
        let Some(place) = self.of(hash) else { return false };
        if let Some(Shard { sums: [.., throttled], .. }) = self.all.get_mut(place.index()) {
            *throttled += 1;
        }
        self.note(place, |results| {
            if repeatedly_refused { results.repeatedly_refused += 1 } else { results.refused += 1 }
        });
        true
    }

    fn note(&mut self, place: Place, add: impl FnOnce(&mut ShardResults)) {
        if let Some(shard) = self.all.get_mut(place.index()) {
            add(&mut shard.results);
            if !std::mem::replace(&mut shard.has_results, true) {
                self.with_results.push(place);
            }
        }
    }

    /// Ends the handling of a response to a request that was sent at `sent`: updates the rates.
    pub fn acknowledged(&mut self, sent: Instant, now: Instant, jitter: &mut Jitter) -> Vec<Cut> {
        let mut cuts = Vec::new();
        for place in std::mem::take(&mut self.with_results) {
            let Some(shard) = self.all.get_mut(place.index()) else { continue };
            let results = std::mem::take(&mut shard.results);
            shard.has_results = false;
            let first = !shard.rate.is_limited();
            let cut = shard.rate.note_results(results, sent, now, jitter);
            self.limited += usize::from(shard.rate.is_limited());
            self.limited -= usize::from(!first);
            if let Some(rate) = cut {
                cuts.push(Cut { shard: shard.id.to_string(), rate, first });
            }
        }
        cuts
    }

    /// Handles a hash that a shard has accepted outside of its known range.
    fn learn(&mut self, hash: KeyHash, id: &str, now: Instant) -> Option<Place> {
        let known = self.places.get(id).copied();
        let (mut first, mut last) = (hash.0, hash.0);
        if let Some((from, to)) = known.and_then(|place| self.core(place)) {
            (first, last) = (first.min(from), last.max(to));
        }
        let (closed, open): (Vec<Place>, Vec<Place>) = self
            .others((first, last), known)
            .partition(|other| self.is_older(*other, id) || self.is_silent(*other, now));
        // A child shard has replaced its parent, which accepts nothing any more.
        for place in closed {
            self.forget(place);
        }
        if !open.is_empty() {
            // A late response that names the parent shard.
            return known;
        }
        let place = known.or_else(|| self.make(id, now))?;
        self.set_range(place, (first, last));
        self.unlisted = true;
        Some(place)
    }

    /// Whether the shards should be listed: a response named one that no list had.
    pub(super) const fn wants_ranges(&self) -> bool {
        self.unlisted
    }

    /// Applies a list of open shards. It may be older than responses that named their children.
    pub(super) fn list(&mut self, ranges: &[HashRange], now: Instant) {
        self.unlisted = false;
        for HashRange { id, first, last } in ranges {
            let known = self.places.get(&**id).copied();
            let others: Vec<Place> = self.others((*first, *last), known).collect();
            if !others.iter().all(|other| self.is_older(*other, id)) {
                continue;
            }
            for place in others {
                self.forget(place);
            }
            let Some(place) = known.or_else(|| self.make(id, now)) else { return };
            self.set_range(place, (*first, *last));
            for lane in KeyHash(*first).lane()..=KeyHash(*last).lane() {
                self.acknowledged[lane] = true;
            }
        }
    }

    /// Other shards than `known` that are known to serve any of these hashes.
    fn others(&self, (first, last): (u64, u64), known: Option<Place>) -> impl Iterator<Item = Place> {
        let takes = |other: &&KnownShard| other.core.0 <= last && first <= other.core.1;
        let others: Vec<Place> =
            self.ranges.overlapping((first, last)).filter(takes).map(|other| other.place).collect();
        others.into_iter().filter(move |other| Some(*other) != known)
    }

    /// Assigns these hashes to a shard, whatever others claim.
    fn set_range(&mut self, place: Place, core: (u64, u64)) {
        let Some(shard) = self.all.get_mut(place.index()) else { return };
        let before = shard.core.replace(core).and_then(|(first, _)| self.ranges.remove(first));
        let retracted = self.ranges.retract(core, 0);
        self.retracted.extend(retracted);
        let (first, last) = before.map_or(core, |before| before.claim);
        self.ranges.add(KnownShard { claim: (first.min(core.0), last.max(core.1)), core, place });
    }

    /// Handles a rejected record whose shard is unknown; `again`: it was rejected before. The neighbouring
    /// shard with a problem claims the hash, if the other neighbour has none, or if both accept nothing at
    /// all. A first rejection may also be the first of the other shard. So it counts only if the other shard
    /// is not seen in the lane.
    pub(super) fn suspect(&mut self, hash: KeyHash, again: bool, now: Instant) {
        if self.limited == 0 || self.ranges.at(hash.0).is_some() {
            return;
        }
        let is_stuck = |place: &Place| self.rate_of(*place).is_some_and(Rate::is_stuck);
        let is_in_trouble = |place: &Place| is_stuck(place) || self.has_refused(*place, SUSPICIOUS, now);
        let beside = self.ranges.beside(hash.0).into_iter().flatten();
        let suspects: Vec<Place> = beside.filter(is_in_trouble).collect();
        if let Some(place) = suspects.first()
            && (suspects.len() == 1 || suspects.iter().all(is_stuck))
            && let Some((first, last)) = self.core(*place)
            && (again || is_stuck(place) && self.is_alone_in(hash.lane(), (first, last)))
        {
            self.ranges.claim(first, hash.0);
        }
    }

    /// Whether the shard with this core is the only one seen in a lane.
    fn is_alone_in(&self, lane: u8, (first, last): (u64, u64)) -> bool {
        let whole = (u64::from(lane) << 56, u64::from(lane) << 56 | u64::MAX >> 8);
        let mut others = self.ranges.overlapping(whole).filter(|known| known.core != (first, last));
        KeyHash(first).lane() <= lane && lane <= KeyHash(last).lane() && others.next().is_none()
    }

    /// Shards that have given up claims since the last call: records that wait for them may belong to another
    /// shard.
    pub(super) fn take_retracted(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.retracted)
    }

    /// Whether a shard is older than the one named `id`. Ids increase in the order in which the destination
    /// creates shards.
    fn is_older(&self, place: Place, id: &str) -> bool {
        self.all.get(place.index()).is_some_and(|shard| *shard.id < *id)
    }

    fn is_silent(&self, place: Place, now: Instant) -> bool {
        let alive = self.all.get(place.index()).and_then(|shard| shard.alive);
        alive.is_none_or(|alive| now.saturating_duration_since(alive) >= SILENT)
    }

    /// Forgets a shard and its rate.
    fn forget(&mut self, place: Place) {
        let Some(shard) = self.all.get_mut(place.index()) else { return };
        let Some((first, last)) = shard.core else { return };
        self.ranges.remove(first);
        for lane in KeyHash(first).lane()..=KeyHash(last).lane() {
            self.acknowledged[lane] = false;
        }
        self.limited -= usize::from(shard.rate.is_limited());
        self.places.remove(&shard.id);
        *shard = Shard { has_results: shard.has_results, ..Shard::default() };
        self.free.push(place);
    }

    /// Assigns a place to a new shard; `None` if there are too many.
    fn make(&mut self, id: &str, now: Instant) -> Option<Place> {
        if self.places.len() >= SHARDS_MAX {
            self.make_room(now);
        }
        if self.places.len() >= SHARDS_MAX {
            return None;
        }
        let place = if let Some(place) = self.free.pop() {
            place
        } else {
            self.all.push(Shard::default());
            Place::nth(self.all.len() - 1)?
        };
        if let Some(shard) = self.all.get_mut(place.index()) {
            shard.id = id.into();
        }
        self.places.insert(id.into(), place);
        Some(place)
    }

    /// Forgets shards that have been silent for long. Searches for them only from time to time.
    fn make_room(&mut self, now: Instant) {
        if self.crowded.is_some_and(|at| now.saturating_duration_since(at) < SILENT) {
            return;
        }
        self.crowded = Some(now);
        let is_old = |place: &Place| {
            let alive = self.all.get(place.index()).and_then(|shard| shard.alive);
            alive.is_none_or(|alive| now.saturating_duration_since(alive) >= FORGOTTEN)
        };
        let old: Vec<Place> = self.places.values().copied().filter(is_old).collect();
        for place in old {
            self.forget(place);
        }
    }

    /// The number of shards with a rate in force, and the lowest of these rates.
    pub fn summary(&mut self, now: Instant) -> Summary {
        let mut summary = Summary::default();
        // The rate of a shard without records to send is advanced only here.
        for place in self.places.values().copied().collect::<Vec<_>>() {
            self.advance(place, now);
        }
        let limited = self.all.iter().filter(|shard| shard.core.is_some());
        for (rate, stuck) in
            limited.filter_map(|shard| Some((shard.rate.per_second()?, shard.rate.is_stuck())))
        {
            summary.limited += 1;
            summary.stuck += usize::from(stuck);
            let lowest = summary.lowest.get_or_insert(rate);
            for (lowest, rate) in lowest.iter_mut().zip(rate) {
                *lowest = lowest.min(rate);
            }
        }
        summary
    }
}

#[expect(clippy::cast_precision_loss, reason = "a record is far smaller than 2^52 bytes")]
fn float(size: usize) -> f64 {
    size as f64
}

#[cfg(test)]
mod tests;
