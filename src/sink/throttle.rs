//! When to send again: pauses of single lanes, and the gate of the whole service. Pure; time is passed in.
//!
//! Two kinds of trouble, two answers. A record that Kinesis refuses tells of one shard: its lane pauses, 100 ms to 5 s,
//! and the others go on ([`Pauses`]). A request without an answer tells of the service or of the way to it: the gate shuts
//! and lets one record through at a time until an answer comes ([`Gate`]). A probe is a single record because it may have
//! been stored although no answer came: that keeps an outage from multiplying repeats.
//!
//! Invariants: nothing here has a deadline or gives up; a pause never exceeds its cap; while the gate is shut there is at
//! most one probe out. Where the shard of a lane is known, its rate ([`super::rate`]) is the answer to a refusal, and a
//! pause only to a lane that is refused again and again.

use std::time::Duration;

use tokio::time::Instant;

/// Lanes there are: one for each first byte of the hash.
const LANES: usize = 256;

/// First pause of a lane: a shard's limits are counted per second, so much less would only be refused again.
const LANE_FIRST: Duration = Duration::from_millis(100);
/// Longest pause of a lane: a shard that was split or quietened is noticed within it.
const LANE_CAP: Duration = Duration::from_secs(5);
/// How many refusals in a row a lane bears whose shard has a rate in force: the rate is to mend it.
pub const PATIENCE: u32 = 3;
/// First pause of the gate: short, so that a blip of the network costs little.
const GATE_FIRST: Duration = Duration::from_millis(100);
/// Longest pause of the gate: an outage that ends is noticed within it.
const GATE_CAP: Duration = Duration::from_secs(30);

/// The least that may be in flight: what even a very slow line carries within the attempt timeout.
const BUDGET_MIN: usize = 64 << 10;
/// What an answered request adds to the budget.
const BUDGET_STEP: usize = 128 << 10;

/// A small generator (xorshift64*) of jitter; seeded by the caller, so that a test can repeat what it saw.
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// Any seed will do.
    pub const fn new(seed: u64) -> Self {
        // Xorshift stays at zero for ever.
        Self(if seed == 0 { 0x9E37_79B9_7F4A_7C15 } else { seed })
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// "Equal jitter": between half of `pause` and all of it. Full jitter can give next to no pause at all.
    fn spread(&mut self, pause: Duration) -> Duration {
        let half = pause / 2;
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_nanos(self.next() % nanos)
    }
}

/// The pause before attempt `step` (from 1): `first` doubled each time, up to `cap`, jittered.
pub(super) fn backoff(first: Duration, cap: Duration, step: u32, jitter: &mut Jitter) -> Duration {
    let doubled = first.saturating_mul(1u32.checked_shl(step.saturating_sub(1)).unwrap_or(u32::MAX));
    jitter.spread(doubled.min(cap))
}

/// What one request told of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneNews {
    /// Everything of it was accepted.
    Accepted,
    /// Some was accepted, some refused: the shard works at its limit.
    Partly,
    /// Nothing was accepted.
    Refused,
}

#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    until: Option<Instant>,
    refusals: u32,
}

/// Which lanes wait, and until when.
#[derive(Debug)]
pub struct Pauses {
    lanes: Box<[Lane]>,
    waiting: Vec<u8>,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { lanes: vec![Lane::default(); LANES].into(), waiting: Vec::new() }
    }
}

impl Pauses {
    /// Whether the lane waits: from a refusal until [`release`](Self::release) gives it back.
    pub fn is_paused(&self, lane: u8) -> bool {
        self.lanes.get(usize::from(lane)).is_some_and(|state| state.until.is_some())
    }

    /// Whether nothing of the lane's last request was accepted.
    pub fn is_refused(&self, lane: u8) -> bool {
        self.lanes.get(usize::from(lane)).is_some_and(|state| state.refusals > 1)
    }

    /// Takes note of what a request told. A lane that waits already is not set back by requests sent before. With a `patience`
    /// so many refusals in a row cost no pause.
    pub fn note(&mut self, lane: u8, (news, patience): (LaneNews, u32), now: Instant, jitter: &mut Jitter) {
        let Some(state) = self.lanes.get_mut(usize::from(lane)) else { return };
        if state.until.is_some() {
            return;
        }
        state.refusals = match news {
            LaneNews::Accepted => 0,
            LaneNews::Partly => 1,
            LaneNews::Refused => state.refusals.saturating_add(1),
        };
        if state.refusals > patience {
            state.until = Some(now + backoff(LANE_FIRST, LANE_CAP, state.refusals - patience, jitter));
            self.waiting.push(lane);
        }
    }

    /// Whether the lane was refused so often in a row that its shard's rate cannot be the cause.
    pub fn is_stubborn(&self, lane: u8) -> bool {
        self.lanes.get(usize::from(lane)).is_some_and(|state| state.refusals >= PATIENCE)
    }

    /// Ends one pause that is over, if there is one, and says whose.
    pub fn release(&mut self, now: Instant) -> Option<u8> {
        let over = |lane: &u8| {
            let state = self.lanes.get(usize::from(*lane));
            state.and_then(|state| state.until).is_none_or(|until| until <= now)
        };
        let index = self.waiting.iter().position(over)?;
        let lane = self.waiting.swap_remove(index);
        if let Some(state) = self.lanes.get_mut(usize::from(lane)) {
            state.until = None;
        }
        Some(lane)
    }

    /// When the next pause ends.
    pub fn next_release(&self) -> Option<Instant> {
        self.waiting.iter().filter_map(|lane| self.lanes.get(usize::from(*lane))?.until).min()
    }

    /// How many lanes wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// What the gate lets through now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Requests.
    Open,
    /// One record, to see whether the service is back.
    Probe,
    /// Nothing.
    Shut,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Open,
    Shut { until: Instant, failures: u32, probing: bool },
}

/// Lets requests through while the service answers, and one probe at a time while it does not.
///
/// It also holds the budget of bytes in flight: halved when it shuts, grown slowly by answers. A line that cannot carry
/// the full budget within the attempt timeout would otherwise never carry anything.
#[derive(Debug)]
pub struct Gate {
    state: State,
    budget: usize,
    budget_max: usize,
}

impl Gate {
    /// An open gate, for at most `budget_max` bytes in flight.
    pub fn new(budget_max: usize) -> Self {
        Self { state: State::Open, budget: budget_max, budget_max }
    }

    /// What may go now.
    pub fn pass(&self, now: Instant) -> Pass {
        match self.state {
            State::Open => Pass::Open,
            State::Shut { until, probing: false, .. } if until <= now => Pass::Probe,
            State::Shut { .. } => Pass::Shut,
        }
    }

    /// A probe has left.
    pub fn probe_sent(&mut self) {
        if let State::Shut { probing, .. } = &mut self.state {
            *probing = true;
        }
    }

    /// A request as a whole failed. Returns the pause if this shut the gate or prolonged it; requests that were out when
    /// it shut change nothing.
    pub fn failed(&mut self, probe: bool, now: Instant, jitter: &mut Jitter) -> Option<Duration> {
        let failures = match self.state {
            State::Open => {
                self.budget = (self.budget / 2).max(BUDGET_MIN).min(self.budget_max);
                1
            }
            State::Shut { failures, .. } if probe => failures.saturating_add(1),
            State::Shut { .. } => return None,
        };
        let pause = backoff(GATE_FIRST, GATE_CAP, failures, jitter);
        self.state = State::Shut { until: now + pause, failures, probing: false };
        Some(pause)
    }

    /// An answer has come, whatever it says of single records: the service is there.
    pub fn answered(&mut self) {
        self.state = State::Open;
        self.budget = (self.budget + BUDGET_STEP).min(self.budget_max);
    }

    /// Whether the service answers, as far as is known.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// When a probe may leave; `None` if open, or if a probe is out.
    pub fn next_probe(&self) -> Option<Instant> {
        match self.state {
            State::Shut { until, probing: false, .. } => Some(until),
            State::Shut { .. } | State::Open => None,
        }
    }

    /// How many bytes may be in flight.
    pub fn budget(&self) -> usize {
        self.budget
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_pause_doubles_up_to_its_cap_and_is_never_less_than_half() {
        let mut jitter = Jitter::new(7);
        for (step, full) in [(1, 100), (2, 200), (3, 400), (6, 3200), (7, 5000), (40, 5000), (u32::MAX, 5000)]
        {
            for _ in 0..100 {
                let pause = backoff(LANE_FIRST, LANE_CAP, step, &mut jitter);
                assert!(pause >= ms(full) / 2 && pause <= ms(full), "step {step}: {pause:?}");
            }
        }
    }

    #[test]
    fn jitter_really_spreads_and_repeats_under_its_seed() {
        let draw = |seed| {
            let mut jitter = Jitter::new(seed);
            (0..50).map(|_| jitter.spread(ms(100))).collect::<Vec<_>>()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
        let (low, high) = (draw(0).into_iter().min().unwrap(), draw(0).into_iter().max().unwrap());
        assert!(high > low + ms(30), "{low:?}..{high:?}");
    }

    #[test]
    fn a_lane_waits_longer_each_time_it_is_refused_and_starts_anew_after_an_acceptance() {
        let mut jitter = Jitter::new(1);
        let mut pauses = Pauses::default();
        let mut now = Instant::now();
        for (news, least, most) in [
            (LaneNews::Refused, 50, 100),
            (LaneNews::Refused, 100, 200),
            (LaneNews::Refused, 200, 400),
            (LaneNews::Partly, 50, 100),
            (LaneNews::Refused, 100, 200),
            (LaneNews::Accepted, 0, 0),
            (LaneNews::Refused, 50, 100),
        ] {
            pauses.note(9, (news, 0), now, &mut jitter);
            let pause = pauses.next_release().map_or(Duration::ZERO, |at| at - now);
            assert!(pause >= ms(least) && pause <= ms(most), "{news:?}: {pause:?}");
            assert_eq!(pauses.is_paused(9), most > 0);
            assert!(!pauses.is_paused(8));
            now += pause;
            assert_eq!(pauses.release(now), (most > 0).then_some(9));
            assert!(!pauses.is_paused(9) && pauses.is_empty());
        }
    }

    #[test]
    fn a_late_refusal_does_not_prolong_a_pause() {
        let mut jitter = Jitter::new(1);
        let mut pauses = Pauses::default();
        let now = Instant::now();
        pauses.note(1, (LaneNews::Refused, 0), now, &mut jitter);
        let until = pauses.next_release();
        pauses.note(1, (LaneNews::Refused, 0), now + ms(1), &mut jitter);
        pauses.note(1, (LaneNews::Accepted, 0), now + ms(1), &mut jitter);
        assert_eq!((pauses.next_release(), pauses.len()), (until, 1));
        assert_eq!(pauses.release(now + ms(1)), None);
    }

    #[test]
    fn a_shut_gate_lets_one_probe_through_at_a_time_and_opens_at_the_first_answer() {
        let mut jitter = Jitter::new(5);
        let mut gate = Gate::new(8 << 20);
        let mut now = Instant::now();
        assert_eq!(gate.pass(now), Pass::Open);
        let mut pause = gate.failed(false, now, &mut jitter).unwrap();
        assert_eq!(gate.failed(false, now, &mut jitter), None, "what was out already changes nothing");
        for _ in 0..12 {
            assert_eq!(gate.pass(now), Pass::Shut);
            assert_eq!(gate.next_probe(), Some(now + pause));
            now += pause;
            assert_eq!(gate.pass(now), Pass::Probe);
            gate.probe_sent();
            assert_eq!((gate.pass(now), gate.next_probe()), (Pass::Shut, None), "one at a time");
            let longer = gate.failed(true, now, &mut jitter).unwrap();
            assert!(longer >= pause.min(GATE_CAP / 2) && longer <= GATE_CAP, "{pause:?} then {longer:?}");
            pause = longer;
        }
        assert!(pause >= GATE_CAP / 2);
        gate.answered();
        assert_eq!(gate.pass(now), Pass::Open);
        assert!(gate.failed(false, now, &mut jitter).unwrap() <= GATE_FIRST, "starts anew");
    }

    #[test]
    fn an_outage_halves_the_budget_once_and_answers_restore_it() {
        let mut jitter = Jitter::new(5);
        let mut gate = Gate::new(8 << 20);
        let now = Instant::now();
        for _ in 0..5 {
            gate.failed(true, now, &mut jitter);
            assert_eq!(gate.budget(), 4 << 20);
        }
        for _ in 0..100 {
            gate.answered();
        }
        assert_eq!(gate.budget(), 8 << 20);
        for _ in 0..200 {
            gate.answered();
            gate.failed(false, now, &mut jitter);
            assert!(gate.budget() >= BUDGET_MIN);
        }
        assert!(gate.budget() <= 2 * BUDGET_STEP, "a line that fails after every answer gets small requests");
    }
}
