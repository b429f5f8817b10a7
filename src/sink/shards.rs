//! Which shard takes which keys, learned from answers, and what each of them bears ([`Rate`]). Pure; time is passed in.
//!
//! Every accepted record names its shard; the map of the stream is not asked for. A lane lies in one shard, or over the
//! boundary of two: then the hash where the second one begins is learned as well, each wrong guess moving it. Resharding is
//! no special case: answers name the new shards, and one that is closed is forgotten together with its rate. Of a
//! lane that has not been answered nothing is known, and nothing is limited.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::rate::{Amount, Rate, Told};
use super::throttle::Jitter;
use crate::event::KeyHash;

const LANES: usize = 256;

/// A shard that has taken nothing for so long, and whose keys another one takes, is closed.
const SILENT: Duration = Duration::from_secs(1);

/// A shard's place; used again when it is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u16);

impl Place {
    /// As an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What is known of a lane: the shard below `edge`, and the one from it on.
#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    below: Option<Place>,
    above: Option<Place>,
    edge: u64,
    /// The hash of the last answer.
    last: u64,
}

impl Lane {
    const fn at(&self, hash: u64) -> Option<Place> {
        if hash < self.edge { self.below } else { self.above }
    }

    /// What is known now that `place` has taken `hash`, which was expected elsewhere.
    fn learn(self, hash: u64, place: Place) -> Self {
        let told = Some(place);
        let Self { below, above, edge, last } = self;
        if above.is_none() && below.is_none() {
            Self { below: told, above: told, edge: 0, last: hash }
        } else if hash < edge {
            if above == told { Self { edge: hash, ..self } } else { Self { below: told, ..self } }
        } else if below == told && edge > 0 {
            Self { edge: hash.saturating_add(1), ..self }
        } else if above == below || edge == 0 {
            // The first sign of a second shard: it is on the side where this hash is, seen from the last one.
            if hash > last {
                Self { below: above, above: told, edge: hash, last }
            } else {
                Self { below: told, above, edge: hash.saturating_add(1), last }
            }
        } else {
            Self { above: told, ..self }
        }
    }
}

#[derive(Debug, Default)]
struct Shard {
    id: Box<str>,
    /// Sides of lanes that name it.
    named: u32,
    rate: Rate,
    /// When it last took something.
    alive: Option<Instant>,
    told: Told,
    is_told: bool,
}

/// A cut of a shard's rate, for the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    /// The shard's id.
    pub shard: String,
    /// Records and bytes a second from now on.
    pub rate: Amount,
    /// Whether it was unlimited before.
    pub first: bool,
}

/// What is known of the stream's shards.
#[derive(Debug)]
pub struct Shards {
    lanes: Box<[Lane]>,
    all: Vec<Shard>,
    places: HashMap<Box<str>, Place>,
    free: Vec<Place>,
    told: Vec<Place>,
    /// How many have a rate in force.
    limited: usize,
}

impl Default for Shards {
    fn default() -> Self {
        Self {
            lanes: vec![Lane::default(); LANES].into(),
            all: Vec::new(),
            places: HashMap::new(),
            free: Vec::new(),
            told: Vec::new(),
            limited: 0,
        }
    }
}

impl Shards {
    /// The shard that is expected to take a record.
    pub fn of(&self, hash: KeyHash) -> Option<Place> {
        self.lanes.get(usize::from(hash.lane()))?.at(hash.0)
    }

    /// The same, if a rate is in force there.
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

    /// A shard's rate, to look at.
    pub fn rate_of(&self, place: Place) -> Option<&Rate> {
        self.all.get(place.index()).map(|shard| &shard.rate)
    }

    /// Counts a shard's tokens up to now; whether a rate is in force then.
    pub fn advance(&mut self, place: Place, now: Instant) -> bool {
        let Some(shard) = self.all.get_mut(place.index()) else { return false };
        let before = shard.rate.is_limited();
        shard.rate.advance(now);
        let limited = shard.rate.is_limited();
        self.limited -= usize::from(before && !limited);
        limited
    }

    /// A record leaves for a shard, if it has tokens.
    pub fn take(&mut self, place: Place, size: usize, now: Instant) -> bool {
        self.all.get_mut(place.index()).is_some_and(|shard| shard.rate.take(float(size), now))
    }

    /// A record that was taken has become so many bytes larger.
    pub fn spend(&mut self, place: Place, bytes: usize) {
        if let Some(shard) = self.all.get_mut(place.index()) {
            shard.rate.spend(float(bytes));
        }
    }

    /// The shard that took a lane's records last, for a message.
    pub fn of_lane(&self, lane: u8) -> Option<&str> {
        let Lane { below, above, .. } = self.lanes.get(usize::from(lane))?;
        self.all.get(above.or(*below)?.index()).map(|shard| &*shard.id)
    }

    /// Whether any shard has taken anything.
    pub fn is_any_known(&self) -> bool {
        !self.places.is_empty()
    }

    /// The shard of each lane; where nothing is known, that of the nearest lane below, because a shard is a run of lanes.
    pub fn places(&self) -> Vec<Option<Place>> {
        let known = |lane: &Lane| lane.above.or(lane.below);
        let first = self.lanes.iter().find_map(known);
        let carry = |last: &mut Option<Place>, lane: &Lane| {
            *last = known(lane).or(*last);
            Some(*last)
        };
        self.lanes.iter().scan(first, carry).collect()
    }

    /// Whether a shard of the lane takes nothing at all.
    pub fn refuses(&self, lane: u8) -> bool {
        let Some(Lane { below, above, .. }) = self.lanes.get(usize::from(lane)) else { return false };
        let mut shards = [*below, *above].into_iter().flatten();
        shards.any(|place| self.rate_of(place).is_some_and(Rate::is_stuck))
    }

    /// Whether a shard has refused something for its rate within this time.
    pub fn has_refused(&self, place: Place, within: Duration, now: Instant) -> bool {
        let refused = self.rate_of(place).and_then(Rate::refused);
        refused.is_some_and(|at| now.saturating_duration_since(at) < within)
    }

    /// A shard has taken a record.
    pub fn accepted(&mut self, hash: KeyHash, id: &str, size: usize, now: Instant) {
        let expected = self.of(hash);
        let right = |place: &Place| self.all.get(place.index()).is_some_and(|shard| *shard.id == *id);
        let place = match expected.filter(right) {
            Some(place) => place,
            None => self.learn(hash, id, now),
        };
        if let Some(shard) = self.all.get_mut(place.index()) {
            shard.alive = Some(now);
        }
        self.note(place, |told| {
            let [records, bytes] = told.accepted;
            told.accepted = [records + 1.0, bytes + float(size)];
        });
    }

    /// A record was refused for throughput; whether its shard is known.
    pub fn refused(&mut self, hash: KeyHash, stubborn: bool) -> bool {
        let Some(place) = self.of(hash) else { return false };
        self.note(place, |told| if stubborn { told.stubborn += 1 } else { told.refused += 1 });
        true
    }

    fn note(&mut self, place: Place, add: impl FnOnce(&mut Told)) {
        if let Some(shard) = self.all.get_mut(place.index()) {
            add(&mut shard.told);
            if !std::mem::replace(&mut shard.is_told, true) {
                self.told.push(place);
            }
        }
    }

    /// The answer to a request that left at `sent` is complete: rates follow what it told.
    pub fn answered(&mut self, sent: Instant, now: Instant, jitter: &mut Jitter) -> Vec<Cut> {
        let mut cuts = Vec::new();
        for place in std::mem::take(&mut self.told) {
            let Some(shard) = self.all.get_mut(place.index()) else { continue };
            let told = std::mem::take(&mut shard.told);
            shard.is_told = false;
            let first = !shard.rate.is_limited();
            let cut = shard.rate.tell(told, sent, now, jitter);
            self.limited += usize::from(shard.rate.is_limited());
            self.limited -= usize::from(!first);
            if let Some(rate) = cut {
                cuts.push(Cut { shard: shard.id.to_string(), rate, first });
            }
        }
        cuts
    }

    fn learn(&mut self, hash: KeyHash, id: &str, now: Instant) -> Place {
        let unheard = !self.places.contains_key(id);
        if let Some(expected) = self.of(hash)
            && (unheard && self.is_older(expected, id) || self.is_silent(expected, now))
        {
            // A child answers in its parent's place, and the parent will never again.
            self.forget(expected);
        }
        let place = self.place(id);
        let Some(lane) = self.lanes.get_mut(usize::from(hash.lane())) else { return place };
        let before = *lane;
        *lane = lane.learn(hash.0, place);
        lane.last = hash.0;
        let after = *lane;
        for named in [after.below, after.above].into_iter().flatten() {
            self.name(named, 1);
        }
        for named in [before.below, before.above].into_iter().flatten() {
            self.name(named, -1);
        }
        place
    }

    /// Kinesis numbers shards in the order of their making.
    fn is_older(&self, place: Place, id: &str) -> bool {
        self.all.get(place.index()).is_some_and(|shard| *shard.id < *id)
    }

    fn is_silent(&self, place: Place, now: Instant) -> bool {
        let alive = self.all.get(place.index()).and_then(|shard| shard.alive);
        alive.is_none_or(|alive| now.saturating_duration_since(alive) >= SILENT)
    }

    /// Takes a shard's name out of all lanes, and with it its rate.
    fn forget(&mut self, place: Place) {
        let mut sides = 0;
        for side in self.lanes.iter_mut().flat_map(|lane| [&mut lane.below, &mut lane.above]) {
            sides += i32::from(side.take_if(|side| *side == place).is_some());
        }
        self.name(place, -sides);
    }

    fn place(&mut self, id: &str) -> Place {
        if let Some(place) = self.places.get(id) {
            return *place;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.all.push(Shard::default());
            // Each of 256 lanes names two at most.
            Place(u16::try_from(self.all.len() - 1).unwrap_or(u16::MAX))
        });
        if let Some(shard) = self.all.get_mut(place.index()) {
            shard.id = id.into();
        }
        self.places.insert(id.into(), place);
        place
    }

    fn name(&mut self, place: Place, by: i32) {
        let Some(shard) = self.all.get_mut(place.index()) else { return };
        shard.named = shard.named.saturating_add_signed(by);
        if shard.named == 0 {
            self.limited -= usize::from(shard.rate.is_limited());
            self.places.remove(&shard.id);
            let told = shard.is_told;
            *shard = Shard { is_told: told, ..Shard::default() };
            self.free.push(place);
        }
    }

    /// How many have a rate in force, and the lowest of these rates.
    pub fn summary(&mut self, now: Instant) -> Summary {
        let mut summary = Summary::default();
        // Nobody else looks at a shard that has nothing to send any more.
        for place in self.places.values().copied().collect::<Vec<_>>() {
            self.advance(place, now);
        }
        let limited = self.all.iter().filter(|shard| shard.named > 0);
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

/// All rates in short, without names: shards come and go, so a metric of each would never end.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// Shards with a rate in force.
    pub limited: usize,
    /// Those of them that refuse everything.
    pub stuck: usize,
    /// The lowest rate in force, records and bytes each for itself.
    pub lowest: Option<Amount>,
}

#[expect(clippy::cast_precision_loss, reason = "a record is far smaller than 2^52 bytes")]
fn float(size: usize) -> f64 {
    size as f64
}

#[cfg(test)]
mod tests;
