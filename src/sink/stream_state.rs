//! Decides when to describe the stream, and whether records may be sent in the meantime: the stream may have
//! been recreated. Does no I/O; the time is a parameter.
//!
//! A put only names the stream. A stream that was deleted and recreated under the same name would accept
//! records, and only a description shows the difference. The stream is described every minute, and also after
//!
//! - a put that does not find the stream: nothing is sent until it has been described and is the same one. A
//!   stream that is recreated during an outage never gets a record before it is detected;
//! - another request that failed as a whole, if the last description is older than `STALE`: the stream may
//!   have been recreated, so it is *unverified*. From then on, a description that began after the last
//!   failure precedes each attempt to send. If it finds another stream, publishing stops. If it gets no
//!   response, the attempt is allowed, because the data plane may work without the control plane. The first
//!   response to a put verifies the stream;
//! - such a failure with a newer description: the next description is earlier, because the largest record
//!   size may have changed.
//!
//! A description is as old as its request: one that was requested before a put failed verifies nothing.
//!
//! Invariants: one description at a time, with growing pauses after failures; a stream that was not found
//! gets no record before it has been described; a description that was requested before the failure does not
//! verify the stream.

use std::time::Duration;

use tokio::time::Instant;

use crate::sink::{PutError, StreamFacts};

/// How often the stream is described.
pub const EVERY: Duration = Duration::from_mins(1);
/// If the last description is older than this, a failed request makes the stream unverified. Deleting and
/// recreating a stream takes longer.
const STALE: Duration = Duration::from_secs(10);
/// How long an attempt to send waits for a description without a response.
const DESCRIBE_WAIT: Duration = Duration::from_secs(2);
/// How long a description without a response allows attempts.
const ALLOWED_FOR: Duration = Duration::from_secs(1);
/// First pause between descriptions that fail.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// Longest pause. An account may make twenty such requests a second in all.
const PAUSE_CAP: Duration = Duration::from_secs(10);

/// Why nothing is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unverified {
    /// It may have been recreated.
    Stale,
    /// It was not found, or accepts nothing.
    Gone,
}

/// The state of one stream.
#[derive(Clone, Debug)]
pub struct StreamState {
    /// When the last successful description was requested.
    described: Instant,
    /// When the last finished description was requested, whatever its result.
    finished: Instant,
    due: Instant,
    unverified: Option<Unverified>,
    /// When the last request failed that made the stream unverified.
    failed: Option<Instant>,
    /// Until when records may be sent to an unverified stream.
    allowed: Option<Instant>,
    failures: u32,
    /// When the current or last description was requested.
    requested: Instant,
    /// Whether another description must follow, because of an event after this one was requested.
    repeat: bool,
}

impl StreamState {
    /// Starts with a stream that was just described and is the expected one.
    pub fn new(now: Instant) -> Self {
        Self {
            described: now,
            finished: now,
            due: now + EVERY,
            unverified: None,
            failed: None,
            allowed: None,
            failures: 0,
            requested: now,
            repeat: false,
        }
    }

    /// Notes that a description was requested; [`described`](Self::described) notes its result.
    pub const fn note_request(&mut self, now: Instant) {
        (self.requested, self.repeat) = (now, false);
    }

    /// Whether records may be sent.
    pub fn may_send(&self, now: Instant) -> bool {
        match self.unverified {
            None => true,
            Some(Unverified::Stale) => {
                self.allowed.is_some_and(|until| now < until)
                    || self.silent_since().is_some_and(|at| at <= now)
            }
            Some(Unverified::Gone) => false,
        }
    }

    /// When records may be sent without any other event; `None` if they may be sent now, or only after an
    /// event.
    pub fn wait_until(&self, now: Instant) -> Option<Instant> {
        let silent = self.silent_since().filter(|_| self.unverified == Some(Unverified::Stale));
        silent.filter(|at| *at > now)
    }

    /// Until when an attempt waits for the current description, if that was requested after the last failure.
    fn silent_since(&self) -> Option<Instant> {
        (self.requested > self.finished && !self.repeat).then(|| self.requested + DESCRIBE_WAIT)
    }

    /// Whether the stream is unverified, or known to accept nothing.
    pub const fn is_unverified(&self) -> bool {
        self.unverified.is_some()
    }

    /// Notes that records are ready. If the stream is unverified, a description comes first.
    pub fn wants_to_send(&mut self, now: Instant) {
        if self.unverified == Some(Unverified::Stale)
            && self.requested <= self.finished
            && !self.may_send(now)
        {
            self.due = self.due.min(now);
        }
    }

    /// Notes the response to a request that was sent at `sent`.
    pub fn acknowledged(&mut self, sent: Instant) {
        if self.unverified == Some(Unverified::Stale) && self.failed.is_none_or(|failed| failed <= sent) {
            self.unverified = None;
        }
    }

    /// When the next description is due.
    pub const fn due(&self) -> Instant {
        self.due
    }

    /// Makes a description due now.
    pub fn request(&mut self, now: Instant) {
        self.due = self.due.min(now);
        self.repeat = true;
    }

    /// Handles a request that failed as a whole.
    pub fn failed(&mut self, error: &PutError, now: Instant) {
        let stale = now.duration_since(self.described) >= STALE;
        let unverified = match error {
            PutError::Missing(_) => Unverified::Gone,
            PutError::Throttled(_) => return,
            PutError::NoResponse(_) | PutError::Refused(_) | PutError::Invalid(_)
                if stale || self.unverified.is_some() =>
            {
                Unverified::Stale
            }
            PutError::NoResponse(_) | PutError::Refused(_) | PutError::Invalid(_) => {
                self.due = self.due.min(self.described + STALE);
                return;
            }
        };
        // Further failures of requests that were in flight together change nothing: a failed description
        // keeps its pause.
        if self.unverified.is_none() {
            self.due = self.due.min(now);
        }
        (self.repeat, self.failed, self.allowed) = (true, Some(now), None);
        if self.unverified.is_none() || unverified == Unverified::Gone {
            self.unverified = Some(unverified);
        }
    }

    /// Handles a description of the expected stream, or its failure.
    pub fn described(&mut self, result: &Result<StreamFacts, PutError>, now: Instant) {
        self.finished = self.requested;
        match result {
            Ok(StreamFacts { closed: None, .. }) => {
                let unverified = self.unverified.filter(|_| self.repeat);
                let failed = self.failed.filter(|_| self.repeat);
                let due = if self.repeat { now } else { self.requested + EVERY };
                *self = Self { due, unverified, failed, repeat: self.repeat, ..Self::new(self.requested) };
            }
            Ok(StreamFacts { closed: Some(_), .. }) | Err(PutError::Missing(_)) => {
                self.unverified = Some(Unverified::Gone);
                self.pause(now);
            }
            Err(PutError::NoResponse(_)) => {
                self.allowed = (!self.repeat).then(|| now + ALLOWED_FOR);
                self.pause(now);
            }
            Err(PutError::Refused(_) | PutError::Invalid(_) | PutError::Throttled(_))
                if self.unverified == Some(Unverified::Gone) =>
            {
                self.pause(now);
            }
            Err(PutError::Refused(_) | PutError::Invalid(_) | PutError::Throttled(_)) if self.repeat => {
                self.due = now;
            }
            // The service is available but rejects the description. The next outage tries again.
            Err(PutError::Refused(_) | PutError::Invalid(_) | PutError::Throttled(_)) => {
                self.unverified = None;
                self.failures = 0;
                self.due = now + EVERY;
            }
        }
    }

    fn pause(&mut self, now: Instant) {
        let doubled = PAUSE_FIRST.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1).min(16);
        self.due = now + doubled.min(PAUSE_CAP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(closed: Option<&'static str>) -> StreamFacts {
        StreamFacts {
            name: "arn".to_owned(),
            created: 1,
            max_record_size: 1 << 20,
            shards: 1,
            closed,
            mode: "PROVISIONED".to_owned(),
            ignores_keys: false,
        }
    }

    fn missing() -> PutError {
        PutError::Missing("x".into())
    }

    fn refused() -> PutError {
        PutError::Refused("x".into())
    }

    fn silent() -> PutError {
        PutError::NoResponse("x".into())
    }

    #[test]
    fn failed_request_makes_stream_unverified() {
        let now = Instant::now();
        let throttled = PutError::Throttled("x".into());
        for (error, after, may_send, due_in) in [
            (missing(), 0, false, 0),
            (missing(), 30, false, 0),
            (silent(), 1, true, 9),
            (refused(), 1, true, 9),
            (silent(), 10, false, 0),
            (refused(), 10, false, 0),
            (throttled, 30, true, 30),
        ] {
            let mut state = StreamState::new(now);
            let later = now + Duration::from_secs(after);
            state.failed(&error, later);
            assert_eq!(state.may_send(later), may_send, "{error} after {after} s");
            assert_eq!(state.due(), later + Duration::from_secs(due_in), "{error} after {after} s");
        }
    }

    #[test]
    fn description_or_denied_describe_verifies_stream() {
        let now = Instant::now() + Duration::from_secs(30);
        for (failed, described, may_send) in [
            (missing(), Ok(facts(None)), true),
            (missing(), Ok(facts(Some("CREATING"))), false),
            (missing(), Err(refused()), false),
            (missing(), Err(silent()), false),
            (missing(), Err(missing()), false),
            (silent(), Ok(facts(None)), true),
            (silent(), Ok(facts(Some("DELETING"))), false),
            (silent(), Err(refused()), true),
            (silent(), Err(PutError::Throttled("x".into())), true),
            (silent(), Err(silent()), true),
            (silent(), Err(missing()), false),
        ] {
            let mut state = StreamState::new(now - Duration::from_secs(30));
            state.failed(&failed, now);
            state.note_request(now);
            state.described(&described, now);
            assert_eq!(state.may_send(now), may_send, "{failed}, then {described:?}");
        }
    }

    #[test]
    fn failed_describes_back_off_despite_pending_requests() {
        let mut now = Instant::now();
        let mut state = StreamState::new(now);
        state.failed(&missing(), now);
        let mut last = Duration::ZERO;
        for _ in 0..40 {
            state.note_request(now);
            state.described(&Err(missing()), now);
            let pause = state.due() - now;
            state.failed(&missing(), now);
            state.failed(&silent(), now);
            assert!(state.due() - now == pause && pause >= last && pause <= PAUSE_CAP, "{pause:?}");
            assert!(!state.may_send(now));
            (now, last) = (state.due(), pause);
        }
        assert_eq!(last, PAUSE_CAP);
        state.note_request(now);
        state.described(&Ok(facts(None)), now);
        assert!(state.may_send(now) && state.due() == now + EVERY);
    }

    #[test]
    fn undescribable_stream_continues_while_requests_succeed() {
        let now = Instant::now() + EVERY;
        for (error, due_in) in [(refused(), EVERY), (silent(), PAUSE_FIRST)] {
            let mut state = StreamState::new(now - EVERY);
            state.note_request(now);
            state.described(&Err(error), now);
            assert!(state.may_send(now));
            assert_eq!(state.due() - now, due_in);
        }
    }

    #[test]
    fn describe_from_before_failure_verifies_nothing() {
        let start = Instant::now();
        let (requested, failed) = (start + EVERY, start + EVERY + Duration::from_secs(1));
        for error in [missing(), silent(), refused()] {
            for late in [Ok(facts(None)), Err(refused())] {
                let mut state = StreamState::new(start);
                state.note_request(requested);
                state.failed(&error, failed);
                let known = failed + Duration::from_secs(5);
                state.described(&late, known);
                assert!(!state.may_send(known), "{error}, then {late:?}");
                assert!(state.due() <= known + PAUSE_CAP);
                state.note_request(known);
                state.described(&Ok(facts(None)), known);
                assert!(state.may_send(known) && state.due() == known + EVERY, "{error}, then {late:?}");
            }
        }
        let mut state = StreamState::new(start);
        state.note_request(start);
        state.described(&Ok(facts(None)), start + STALE);
        state.failed(&silent(), start + STALE);
        assert!(!state.may_send(start + STALE), "a description is as old as its question");
        let mut state = StreamState::new(start);
        state.note_request(requested);
        state.request(failed);
        state.described(&Ok(facts(None)), failed);
        assert!(state.may_send(failed) && state.due() == failed, "what a person asks for is not lost");
    }

    /// One put fails while the control plane does not respond. Puts continue.
    #[test]
    fn control_plane_away_does_not_stop_puts() {
        let start = Instant::now();
        let now = start + EVERY;
        let mut state = StreamState::new(start);
        state.failed(&silent(), now);
        assert!(!state.may_send(now) && state.due() <= now);
        state.note_request(now);
        state.described(&Err(silent()), now);
        assert!(state.may_send(now), "nothing speaks against it");
        state.acknowledged(now);
        assert!(state.may_send(now + EVERY) && state.due() > now, "and puts work");
    }

    /// During an outage a description precedes each attempt, so that a recreated stream is detected before it
    /// gets a record.
    #[test]
    fn outage_looks_before_each_attempt() {
        let start = Instant::now();
        let mut now = start + EVERY;
        let mut state = StreamState::new(start);
        for _ in 0..50 {
            state.failed(&silent(), now);
            state.acknowledged(now.checked_sub(Duration::from_millis(1)).unwrap());
            now += Duration::from_secs(20);
            assert!(!state.may_send(now), "an answer to what left before the failure proves nothing");
            state.wants_to_send(now);
            assert!(state.due() <= now);
            state.note_request(now);
            assert!(!state.may_send(now));
            state.described(&Err(silent()), now);
            assert!(state.may_send(now) && !state.may_send(now + ALLOWED_FOR));
        }
        state.failed(&silent(), now);
        state.note_request(now);
        state.described(&Ok(facts(None)), now);
        assert!(state.may_send(now + EVERY));
    }

    /// A description without a response delays an attempt only briefly. A stream that was not found blocks it
    /// however long that takes.
    #[test]
    fn silent_look_holds_puts_briefly() {
        let start = Instant::now();
        let now = start + EVERY;
        let mut state = StreamState::new(start);
        state.failed(&silent(), now);
        state.note_request(now);
        assert_eq!((state.may_send(now), state.wait_until(now)), (false, Some(now + DESCRIBE_WAIT)));
        assert_eq!(
            (state.may_send(now + DESCRIBE_WAIT), state.wait_until(now + DESCRIBE_WAIT)),
            (true, None)
        );
        state.failed(&missing(), now + DESCRIBE_WAIT);
        assert!(!state.may_send(now + EVERY) && state.wait_until(now + DESCRIBE_WAIT).is_none());
    }
}
