//! Decides when to retry: pauses of single lanes, and a circuit breaker for the whole service: the
//! *gate*, which is open while requests may be sent. Does no I/O; the time is a parameter.
//!
//! Two kinds of failure are handled differently. A rejected record concerns one shard: its lane pauses for
//! 100 ms to 5 s, and others continue ([`Pauses`]). A request without a response concerns the service or the
//! network: the gate closes and admits one record at a time, a *probe*, until a response arrives ([`Gate`]).
//! A probe is a single record, because it may be stored although no response arrives: this limits the repeats
//! of an outage.
//!
//! Invariants: retries have no deadline and no limit; a pause never exceeds its maximum; while the gate is
//! closed, at most one probe is in flight. If the shard of a lane is known, a rejection changes the shard's
//! rate ([`super::rate`]), and only a lane that is rejected repeatedly pauses.

use std::time::Duration;

use tokio::time::Instant;

use super::sections::{PerSection, Section};
pub use crate::backoff::Jitter;
pub(super) use crate::backoff::pause as backoff;

/// First pause of a lane. A shard's limits are counted per second, so after a much shorter pause records
/// would be rejected again.
const LANE_FIRST: Duration = Duration::from_millis(100);
/// Longest pause of a lane. If its shard accepts records again, that is noticed within this time.
const LANE_CAP: Duration = Duration::from_secs(5);
/// Number of rejections in a row that cause no pause of a lane whose shard has a rate: the rate is expected
/// to end them.
pub const PATIENCE: u32 = 3;
/// First pause of the gate. It is short, so that a brief network failure costs little.
const GATE_FIRST: Duration = Duration::from_millis(100);
/// Longest pause of the gate. The end of an outage is noticed within this time.
const GATE_CAP: Duration = Duration::from_secs(30);

/// Results of one request for one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneResult {
    /// All its records were accepted.
    Accepted,
    /// Some records were accepted, some rejected: the shard works at its limit.
    Partly,
    /// No record was accepted.
    Refused,
}

#[derive(Clone, Copy, Debug, Default)]
struct SectionPause {
    until: Option<Instant>,
    refusals: u32,
}

/// Which sections of the hash range pause, and until when.
#[derive(Debug, Default)]
pub struct Pauses {
    sections: PerSection<SectionPause>,
    waiting: Vec<Section>,
}

impl Pauses {
    /// Whether the section pauses: from a rejection until [`release`](Self::release) returns it.
    pub fn is_paused(&self, section: Section) -> bool {
        self.sections[section].until.is_some()
    }

    /// Whether no record of the section's last request was accepted.
    pub fn is_refused(&self, section: Section) -> bool {
        self.sections[section].refusals > 1
    }

    /// Notes the result of a request. A section that pauses already is not delayed further by requests sent
    /// before. The first `patience` rejections in a row cause no pause.
    pub fn note(
        &mut self,
        section: Section,
        (result, patience): (LaneResult, u32),
        now: Instant,
        jitter: &mut Jitter,
    ) {
        let state = &mut self.sections[section];
        if state.until.is_some() {
            return;
        }
        state.refusals = match result {
            LaneResult::Accepted => 0,
            LaneResult::Partly => 1,
            LaneResult::Refused => state.refusals.saturating_add(1),
        };
        if state.refusals > patience {
            state.until = Some(now + backoff(LANE_FIRST, LANE_CAP, state.refusals - patience, jitter));
            self.waiting.push(section);
        }
    }

    /// Whether the section was rejected so often in a row that its shard's rate cannot be the cause.
    pub fn is_repeatedly_refused(&self, section: Section) -> bool {
        self.sections[section].refusals >= PATIENCE
    }

    /// Ends one pause that is over, and returns its section; `None` if no pause is over.
    pub fn release(&mut self, now: Instant) -> Option<Section> {
        let over = |section: &Section| self.sections[*section].until.is_none_or(|until| until <= now);
        let index = self.waiting.iter().position(over)?;
        let section = self.waiting.swap_remove(index);
        self.sections[section].until = None;
        Some(section)
    }

    /// Divides a section. Both halves keep its state.
    pub(super) fn divide(&mut self, section: Section, upper: Section) {
        self.sections[upper] = self.sections[section];
        if self.is_paused(upper) {
            self.waiting.push(upper);
        }
    }

    /// Whether a section has no pause or rejections, so that it may be merged with another.
    pub(super) fn is_clear(&self, section: Section) -> bool {
        !self.is_paused(section) && !self.is_refused(section)
    }

    /// Clears the rejections of a section, because the rejected records are in another one.
    pub(super) fn forgive(&mut self, section: Section) {
        self.sections[section].refusals = 0;
    }

    /// Merges two sections that are [clear](Self::is_clear) into the lower one.
    pub(super) fn merge(&mut self, lower: Section, upper: Section) {
        let refusals = std::mem::take(&mut self.sections[upper]).refusals;
        let lower = &mut self.sections[lower];
        lower.refusals = lower.refusals.max(refusals);
    }

    /// When the next pause ends.
    pub fn next_release(&self) -> Option<Instant> {
        self.waiting.iter().filter_map(|section| self.sections[*section].until).min()
    }

    /// Number of paused sections.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no section is paused.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// What the gate admits now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Requests.
    Open,
    /// One record, to test whether the service is available again.
    Probe,
    /// Nothing.
    Shut,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Open,
    Shut { until: Instant, failures: u32, probing: bool },
}

/// Admits requests while the service responds, and one probe at a time while it does not.
#[derive(Debug)]
pub struct Gate {
    state: State,
}

impl Default for Gate {
    fn default() -> Self {
        Self { state: State::Open }
    }
}

impl Gate {
    /// What may be sent now.
    pub fn pass(&self, now: Instant) -> Pass {
        match self.state {
            State::Open => Pass::Open,
            State::Shut { until, probing: false, .. } if until <= now => Pass::Probe,
            State::Shut { .. } => Pass::Shut,
        }
    }

    /// Notes that a probe was sent.
    pub fn probe_sent(&mut self) {
        if let State::Shut { probing, .. } = &mut self.state {
            *probing = true;
        }
    }

    /// Notes that the probe failed because of its own record: another one may be sent.
    pub fn probe_is_void(&mut self) {
        if let State::Shut { probing, .. } = &mut self.state {
            *probing = false;
        }
    }

    /// Notes that a request failed as a whole. Returns the pause if this shut the gate or prolonged it.
    /// Requests that were in flight when it shut change nothing.
    pub fn failed(&mut self, probe: bool, now: Instant, jitter: &mut Jitter) -> Option<Duration> {
        let failures = match self.state {
            State::Open => 1,
            State::Shut { failures, .. } if probe => failures.saturating_add(1),
            State::Shut { .. } => return None,
        };
        let pause = backoff(GATE_FIRST, GATE_CAP, failures, jitter);
        self.state = State::Shut { until: now + pause, failures, probing: false };
        Some(pause)
    }

    /// Notes a response. Whatever the results of single records are, the service is available.
    pub fn acknowledged(&mut self) {
        self.state = State::Open;
    }

    /// Whether the service responds, as far as is known.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// When a probe may be sent; `None` if the gate is open, or a probe is in flight.
    pub fn next_probe(&self) -> Option<Instant> {
        match self.state {
            State::Shut { until, probing: false, .. } => Some(until),
            State::Shut { .. } | State::Open => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NINTH: Section = Section::lowest_of(9);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn pause_doubles_to_its_cap_and_jitter_keeps_half() {
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
    fn jitter_spreads_and_repeats_with_its_seed() {
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
    fn lane_pause_grows_per_refusal_and_resets_on_acceptance() {
        let mut jitter = Jitter::new(1);
        let mut pauses = Pauses::default();
        let mut now = Instant::now();
        for (news, least, most) in [
            (LaneResult::Refused, 50, 100),
            (LaneResult::Refused, 100, 200),
            (LaneResult::Refused, 200, 400),
            (LaneResult::Partly, 50, 100),
            (LaneResult::Refused, 100, 200),
            (LaneResult::Accepted, 0, 0),
            (LaneResult::Refused, 50, 100),
        ] {
            pauses.note(NINTH, (news, 0), now, &mut jitter);
            let pause = pauses.next_release().map_or(Duration::ZERO, |at| at - now);
            assert!(pause >= ms(least) && pause <= ms(most), "{news:?}: {pause:?}");
            assert_eq!(pauses.is_paused(NINTH), most > 0);
            assert!(!pauses.is_paused(Section::lowest_of(8)));
            now += pause;
            assert_eq!(pauses.release(now), (most > 0).then_some(NINTH));
            assert!(!pauses.is_paused(NINTH) && pauses.is_empty());
        }
    }

    #[test]
    fn late_refusal_does_not_prolong_pause() {
        let mut jitter = Jitter::new(1);
        let mut pauses = Pauses::default();
        let now = Instant::now();
        pauses.note(NINTH, (LaneResult::Refused, 0), now, &mut jitter);
        let until = pauses.next_release();
        pauses.note(NINTH, (LaneResult::Refused, 0), now + ms(1), &mut jitter);
        pauses.note(NINTH, (LaneResult::Accepted, 0), now + ms(1), &mut jitter);
        assert_eq!((pauses.next_release(), pauses.len()), (until, 1));
        assert_eq!(pauses.release(now + ms(1)), None);
    }

    #[test]
    fn closed_gate_allows_one_probe_and_opens_on_first_response() {
        let mut jitter = Jitter::new(5);
        let mut gate = Gate::default();
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
        gate.acknowledged();
        assert_eq!(gate.pass(now), Pass::Open);
        assert!(gate.failed(false, now, &mut jitter).unwrap() <= GATE_FIRST, "starts anew");
    }
}
