//! Send rate of one shard. It is reduced when the shard throttles, and grows while it does not. Does no I/O;
//! the time is a parameter.
//!
//! A shard has limits in records and in bytes a second. They depend on the stream's mode, on reshards and on
//! other producers. So none is assumed: a shard is unlimited until it throttles. Then:
//!
//! - **a cut**: the rate is reduced to 95 % of what the shard accepted in its best recent second, within 0.7
//!   to 0.9 of the last rate (or half of it if much was rejected, because that second may have been a burst).
//!   At most one cut a second, because the service counts by the second, and none for a request that was sent
//!   before the last rejection was known;
//! - **growth**: by 5 % of the rate after the cut each second, doubled after every 5 s without a rejection,
//!   so that a raised limit is found. Only the dimension that delays records grows: an unused one gives no
//!   evidence;
//! - **a hold** of 50 to 100 ms after a rejection, because records sent at once would be rejected too. While
//!   a shard rejects everything, each hold is longer, up to 5 s, and after it the shard gets a single record
//!   as a probe;
//! - after 30 s without a rejection the shard is **unlimited** again.
//!
//! A cut that would go below the floor of the rate halves the floor: other producers may use nearly all of
//! the shard.
//!
//! Invariants: a rate is never below its floor; tokens never exceed half a second of the rate; while a shard
//! rejects everything, at most one record is sent after each hold.

use std::time::Duration;

use tokio::time::Instant;

use super::throttle::{Jitter, backoff};

/// Records and bytes.
pub type Amount = [f64; 2];

/// First floor of the rate: a tenth of a shard's limit in 2026. If rejections continue there, it is halved.
const FLOOR: Amount = [100.0, 102_400.0];
/// Lowest floor. Below it, only holds limit the rate.
const FLOOR_LEAST: Amount = [1.0, 1024.0];
/// Shortest time between two cuts.
const CUT_EVERY: Duration = Duration::from_secs(1);
/// A cut sets the rate to this share of the best second since the last cut, within the bounds below.
const CUT_GOODPUT: f64 = 0.95;
/// After a cut, the rate is at most this share of the last one.
const CUT_LEAST: f64 = 0.9;
/// After a cut, the rate is at least this share of the last one …
const CUT_MOST: f64 = 0.7;
/// … or this share, if [`HIGH_REFUSED_SHARE`] was rejected since the last cut.
const CUT_DEEP: f64 = 0.5;
/// Share of rejected records above which the rate was far too high.
const HIGH_REFUSED_SHARE: f64 = 0.2;
/// A dimension that was used less than this share did not cause the rejection.
const IDLE: f64 = 0.7;
/// Growth per second, as a share of the rate after the last cut.
const GROWTH: f64 = 0.05;
/// Below the first floor, growth is reduced in proportion, down to this share.
const GROWTH_LEAST: f64 = 0.2;
/// Growth doubles each time this has passed without a rejection.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most doublings.
const DOUBLINGS_MAX: u32 = 4;
/// No growth for this time after a rejection, because its cause may persist.
const REST: Duration = Duration::from_millis(500);
/// One step of growth covers at most this time.
const GROWTH_STEP: Duration = Duration::from_millis(250);
/// A shard without a rejection for this time is unlimited.
const FORGET: Duration = Duration::from_secs(30);
/// Most multiples of that time, if the floor was halved.
const SCARCITY_MAX: u32 = 20;
/// Most tokens that are saved, in seconds of the rate: enough for a hold, a round trip or a busy machine.
const DEPTH: f64 = 0.5;
/// Tokens that a request waits for, in seconds of the rate. It allows at most 50 requests a second, each with
/// several records.
const CHUNK: f64 = 0.02;
/// A shard that has rejected everything for this time has another problem than overload, and its rate is
/// meaningless.
const STUCK: Duration = Duration::from_secs(5);
/// First hold.
const HOLD_FIRST: Duration = Duration::from_millis(100);
/// Longest hold. If the shard accepts records again, that is noticed within this time.
const HOLD_CAP: Duration = Duration::from_secs(5);
/// Number of responses in a row without an accepted record after which single records are sent as probes.
const REFUSED_BEFORE_PROBE: u32 = 2;

/// One dimension: a token bucket whose rate adapts.
#[derive(Clone, Copy, Debug)]
struct TokenBucket {
    rate: f64,
    /// The rate after the last cut. Growth is relative to it.
    base: f64,
    /// Available tokens. They are negative after a record that was larger than the tokens.
    tokens: f64,
    /// Whether it delayed records since tokens were last added.
    short: bool,
}

impl TokenBucket {
    const fn new(rate: f64) -> Self {
        Self { rate, base: rate, tokens: 0.0, short: false }
    }

    /// Tokens that are needed before some of `queued` may be sent.
    fn needs(&self, queued: f64) -> f64 {
        queued.min((self.rate * CHUNK).max(1.0))
    }

    fn grow(&mut self, growth: f64) {
        if std::mem::take(&mut self.short) {
            self.rate += self.base * growth;
        }
    }

    fn fill(&mut self, passed: Duration) {
        let full = (self.rate * DEPTH).max(1.0);
        self.tokens = (self.tokens + self.rate * passed.as_secs_f64()).min(full);
    }

    /// The rate after a cut, without regard to the floor.
    fn cut_to(&self, goodput: f64, most: f64) -> f64 {
        (goodput * CUT_GOODPUT).clamp(self.rate * most, self.rate * CUT_LEAST)
    }

    fn cut(&mut self, goodput: f64, most: f64, floor: f64) {
        self.rate = self.cut_to(goodput, most).max(floor);
        self.base = self.rate;
    }
}

/// Records and bytes accepted during the last second.
#[derive(Clone, Debug, Default)]
struct Meter {
    bins: [Amount; Meter::BINS],
    /// Start of the newest bin, which is the first one.
    newest: Option<Instant>,
    used: u32,
}

impl Meter {
    /// One more than a second has, because the newest bin is not full.
    const BINS: usize = 9;
    const BIN: Duration = Duration::from_millis(125);
    /// Shortest time of a measurement in seconds. A shorter one may have been a burst.
    const SPAN_MIN: f64 = 1.0;

    fn roll(&mut self, now: Instant) {
        let newest = *self.newest.get_or_insert(now);
        let passed = now.saturating_duration_since(newest).as_nanos() / Self::BIN.as_nanos();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        if passed as usize >= Self::BINS {
            *self = Self { newest: Some(now), used: 1, ..Self::default() };
        } else if passed > 0 || self.used == 0 {
            self.bins.rotate_right(passed as usize);
            self.bins.iter_mut().take(passed as usize).for_each(|bin| *bin = Amount::default());
            self.used = (self.used + passed).clamp(1, 9);
            self.newest = Some(newest + Self::BIN * passed);
        }
    }

    fn add(&mut self, amount: Amount, now: Instant) {
        self.roll(now);
        for (sum, more) in self.bins.iter_mut().take(1).flatten().zip(amount) {
            *sum += more;
        }
    }

    fn per_second(&mut self, now: Instant) -> Amount {
        self.roll(now);
        let partly = self.newest.map_or(Duration::ZERO, |newest| now.saturating_duration_since(newest));
        let span = (Self::BIN * self.used.saturating_sub(1) + partly).as_secs_f64().max(Self::SPAN_MIN);
        self.bins.iter().fold(Amount::default(), |[records, bytes], [more_records, more_bytes]| {
            [records + more_records / span, bytes + more_bytes / span]
        })
    }
}

/// Results of one response for one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ShardResults {
    /// Accepted records and bytes.
    pub accepted: Amount,
    /// Number of throttled records.
    pub refused: u32,
    /// Number of records in lanes that are rejected repeatedly. They count only if the whole shard rejects
    /// everything.
    pub repeatedly_refused: u32,
}

/// The rate of one shard.
#[derive(Clone, Debug, Default)]
pub struct Rate {
    meter: Meter,
    limit: Option<Limit>,
}

#[derive(Clone, Debug)]
struct Limit {
    buckets: [TokenBucket; 2],
    created: Instant,
    filled: Instant,
    /// When it last accepted a record.
    last_accepted: Instant,
    cut: Instant,
    /// When the last rejection was known.
    refused: Instant,
    /// Most that was accepted in any second since the last cut. A shard that counts by the second may accept
    /// all of it at once.
    best: Amount,
    /// The current floor.
    floor: Amount,
    accepted_since_cut: f64,
    refused_since_cut: f64,
    /// Rejections in a row without any acceptance.
    refused_in_a_row: u32,
    hold: Instant,
    pause: Duration,
}

impl Rate {
    /// Whether a rate is in force.
    pub const fn is_limited(&self) -> bool {
        self.limit.is_some()
    }

    /// The rate in force.
    pub fn per_second(&self) -> Option<Amount> {
        self.limit.as_ref().map(|limit| limit.buckets.map(|bucket| bucket.rate))
    }

    /// When the last rejection was known, if the shard is limited.
    pub fn refused(&self) -> Option<Instant> {
        self.limit.as_ref().map(|limit| limit.refused)
    }

    /// Whether the shard has rejected everything for some time.
    pub fn is_stuck(&self) -> bool {
        self.limit.as_ref().is_some_and(|limit| limit.refused_in_a_row >= REFUSED_BEFORE_PROBE)
    }

    /// Notes the response to a request that was sent at `sent`. Returns the new rate if it was cut.
    pub fn note_results(
        &mut self,
        results: ShardResults,
        sent: Instant,
        now: Instant,
        jitter: &mut Jitter,
    ) -> Option<Amount> {
        let [records, _] = results.accepted;
        self.meter.add(results.accepted, now);
        if records > 0.0 && self.limit.take_if(|limit| limit.has_recovered_from_stuck(now)).is_some() {
            return None;
        }
        if let Some(limit) = &mut self.limit {
            limit.accepted_since_cut += records;
            limit.refused_since_cut += f64::from(results.refused);
            if records > 0.0 {
                (limit.refused_in_a_row, limit.last_accepted) = (0, now);
            }
            let goodput = self.meter.per_second(now);
            limit.best = largest(limit.best, goodput);
            if now.saturating_duration_since(limit.created) < CUT_EVERY {
                limit.raise(goodput);
            }
        }
        if results.refused == 0 && !(self.is_stuck() && results.repeatedly_refused > 0) {
            return None;
        }
        let Some(limit) = &mut self.limit else {
            let limit = self.limit.insert(Limit::new(self.meter.per_second(now), now));
            limit.hold(records > 0.0, now, jitter);
            return Some(limit.buckets.map(|bucket| bucket.rate));
        };
        if sent <= limit.refused {
            return None;
        }
        limit.hold(records > 0.0, now, jitter);
        let due = limit.refused_in_a_row < REFUSED_BEFORE_PROBE
            && now.saturating_duration_since(limit.cut) >= CUT_EVERY;
        due.then(|| limit.cut(now))
    }

    /// Adds tokens and growth up to now, and removes the limit when it is no longer needed.
    pub fn advance(&mut self, now: Instant) {
        let Some(limit) = &mut self.limit else { return };
        let quiet = now.saturating_duration_since(limit.refused);
        if quiet >= FORGET.saturating_mul(limit.scarcity()) {
            self.limit = None;
            return;
        }
        let passed = now.saturating_duration_since(limit.filled);
        let doublings = u32::try_from(quiet.as_secs() / PATIENCE.as_secs()).unwrap_or(DOUBLINGS_MAX);
        let growth = GROWTH * f64::from(1_u32 << doublings.min(DOUBLINGS_MAX));
        let growth = if quiet < REST { 0.0 } else { growth * passed.min(GROWTH_STEP).as_secs_f64() };
        for (bucket, floor) in limit.buckets.iter_mut().zip(FLOOR) {
            // At a low rate, each rejection is a large share of the records, so growth is slower.
            bucket.grow(growth * (bucket.base / floor).clamp(GROWTH_LEAST, 1.0));
            bucket.fill(passed);
        }
        limit.filled = now;
    }

    /// Whether queued records may be sent now. Call [`advance`](Self::advance) before.
    pub fn may_start(&mut self, queued: Amount, now: Instant) -> bool {
        let Some(limit) = &mut self.limit else { return true };
        let mut may = true;
        for (bucket, queued) in limit.buckets.iter_mut().zip(queued) {
            let short = bucket.tokens < bucket.needs(queued);
            bucket.short |= short;
            may &= !short;
        }
        may && limit.hold <= now
    }

    /// Takes the tokens of one record, if there are any. Call [`may_start`](Self::may_start) before.
    pub fn take(&mut self, size: f64, now: Instant) -> bool {
        let Some(limit) = &mut self.limit else { return true };
        if limit.hold > now || limit.buckets.iter().any(|bucket| bucket.tokens < 1.0) {
            return false;
        }
        for (bucket, cost) in limit.buckets.iter_mut().zip([1.0, size]) {
            bucket.tokens -= cost;
        }
        if limit.refused_in_a_row >= REFUSED_BEFORE_PROBE {
            // This record is the probe. If its response never arrives, another one may be sent after the same
            // time.
            limit.hold = now + limit.pause;
        }
        true
    }

    /// Takes tokens for bytes that were added to a record after [`take`](Self::take), because later events
    /// were packed into it.
    pub fn spend(&mut self, bytes: f64) {
        if let Some(limit) = &mut self.limit
            && let [_, bucket] = &mut limit.buckets
        {
            bucket.tokens -= bytes;
        }
    }

    /// How many queued records and bytes may be sent now.
    pub fn room(&self, queued: Amount) -> Amount {
        let Some(limit) = &self.limit else { return queued };
        let [records, bytes] = limit.buckets.map(|bucket| bucket.tokens.max(1.0));
        let [queued_records, queued_bytes] = queued;
        let records = if limit.refused_in_a_row >= REFUSED_BEFORE_PROBE { 1.0 } else { records };
        [records.min(queued_records), bytes.min(queued_bytes)]
    }

    /// When queued records may be sent, if nothing else happens.
    pub fn next_start(&self, queued: Amount, now: Instant) -> Instant {
        let Some(limit) = &self.limit else { return now };
        let wait =
            |(bucket, queued): (&TokenBucket, f64)| (bucket.needs(queued) - bucket.tokens) / bucket.rate;
        let seconds = limit.buckets.iter().zip(queued).map(wait).fold(0.0, f64::max);
        // One microsecond more, so that rounding does not cause a useless wake-up.
        let wait = Duration::try_from_secs_f64(seconds).unwrap_or(HOLD_CAP) + Duration::from_micros(1);
        let filled = if seconds > 0.0 { limit.filled + wait } else { limit.filled };
        limit.hold.max(filled)
    }
}

impl Limit {
    fn new(goodput: Amount, now: Instant) -> Self {
        let [records, bytes] = FLOOR;
        let [good_records, good_bytes] = goodput.map(|rate| rate * CUT_GOODPUT);
        Self {
            buckets: [TokenBucket::new(good_records.max(records)), TokenBucket::new(good_bytes.max(bytes))],
            created: now,
            filled: now,
            last_accepted: now,
            cut: now,
            refused: now,
            best: goodput,
            floor: FLOOR,
            accepted_since_cut: 0.0,
            refused_since_cut: 0.0,
            refused_in_a_row: 0,
            hold: now,
            pause: HOLD_FIRST,
        }
    }

    /// How many times lower than the first floor the rate is, because of other producers. Each time the limit
    /// is removed, as many rejections follow.
    fn scarcity(&self) -> u32 {
        let times = self.floor.iter().zip(FLOOR).map(|(floor, first)| first / floor).fold(1.0, f64::max);
        (1..=SCARCITY_MAX).find(|n| f64::from(*n) >= times).unwrap_or(SCARCITY_MAX)
    }

    fn hold(&mut self, accepted: bool, now: Instant, jitter: &mut Jitter) {
        self.refused = now;
        self.refused_in_a_row = if accepted { 0 } else { self.refused_in_a_row.saturating_add(1) };
        self.pause = backoff(HOLD_FIRST, HOLD_CAP, self.refused_in_a_row.max(1), jitter);
        self.hold = now + self.pause;
        self.filled = now;
        for bucket in &mut self.buckets {
            bucket.tokens = bucket.tokens.min(0.0);
        }
    }

    fn has_recovered_from_stuck(&self, now: Instant) -> bool {
        self.refused_in_a_row >= REFUSED_BEFORE_PROBE
            && now.saturating_duration_since(self.last_accepted) >= STUCK
    }

    /// Raises the measured throughput by records that were accepted before the rejection was known, but
    /// acknowledged later.
    fn raise(&mut self, goodput: Amount) {
        for (bucket, goodput) in self.buckets.iter_mut().zip(goodput) {
            bucket.rate = bucket.rate.max(goodput * CUT_GOODPUT);
            bucket.base = bucket.rate;
        }
    }

    fn cut(&mut self, now: Instant) -> Amount {
        let goodput = std::mem::take(&mut self.best);
        let share = self.refused_since_cut / (self.refused_since_cut + self.accepted_since_cut).max(1.0);
        let most = if share > HIGH_REFUSED_SHARE { CUT_DEEP } else { CUT_MOST };
        let near = |(bucket, goodput): (&TokenBucket, f64)| goodput >= IDLE * bucket.rate;
        let none = !self.buckets.iter().zip(goodput).any(near);
        let floors = self.floor.iter_mut().zip(FLOOR_LEAST);
        for ((bucket, goodput), (floor, least)) in self.buckets.iter_mut().zip(goodput).zip(floors) {
            if none || near((bucket, goodput)) {
                if bucket.cut_to(goodput, most) < *floor {
                    *floor = (*floor / 2.0).max(least);
                }
                bucket.cut(goodput, most, *floor);
            }
        }
        (self.cut, self.accepted_since_cut, self.refused_since_cut) = (now, 0.0, 0.0);
        self.buckets.map(|bucket| bucket.rate)
    }
}

fn largest([records, bytes]: Amount, [more_records, more_bytes]: Amount) -> Amount {
    [records.max(more_records), bytes.max(more_bytes)]
}

/// A summary of all rates, without names: shards come and go, so metrics per shard would have an unlimited
/// number of series.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// Shards with a rate in force.
    pub limited: usize,
    /// The shards among them that reject everything.
    pub stuck: usize,
    /// The lowest rates in force, of records and of bytes separately.
    pub lowest: Option<Amount>,
}

#[cfg(test)]
mod tests;
