//! Is this still the stream that we have published to? When to ask, and whether anything may be sent meanwhile. Pure; time
//! is passed in.
//!
//! A put names a stream, not the stream: one that was deleted and made again under its name would take records as if
//! nothing had happened. Only its description tells. It is read every minute, and besides:
//!
//! - a put that does not find the stream: nothing is sent until it has been described and is the same one. A stream that is
//!   recreated during an outage never gets a record before it is noticed;
//! - any other request that failed as a whole, after `STALE` without a look: as well, because an outage is long enough for
//!   anything. Here a refusal to describe is no hindrance (the right to describe may be missing while the right to put is not);
//! - such a request earlier than that: the next look comes sooner, because the largest record may have changed.
//!
//! A description tells of the moment when it was asked for: one that was on its way before a request failed ends no doubt, and
//! is as old as its question.
//!
//! Invariants: one look at a time, with growing pauses, whatever fails; a doubt never ends by time alone, nor by what was
//! asked before it arose.

use std::time::Duration;

use tokio::time::Instant;

use super::{PutError, StreamFacts};

/// How often the stream is described.
pub const EVERY: Duration = Duration::from_mins(1);
/// After a description this old a failed request means doubt. To delete a stream and make it again takes longer.
const STALE: Duration = Duration::from_secs(10);
/// First pause between looks that fail.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// Longest pause: the account may describe twenty streams a second in all.
const PAUSE_CAP: Duration = Duration::from_secs(10);

/// Why nothing is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// It may be another one by now.
    Stale,
    /// It was not found, or takes nothing.
    Gone,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Standing {
    /// When it was asked for the description known last.
    described: Instant,
    due: Instant,
    doubt: Option<Doubt>,
    failures: u32,
    /// When the look began that is under way, or the last one.
    asked: Instant,
    /// Whether another one is wanted that begins later: there is a reason that it could not know.
    again: bool,
}

impl Standing {
    /// The stream has just been described, and is ours.
    pub fn new(now: Instant) -> Self {
        Self { described: now, due: now + EVERY, doubt: None, failures: 0, asked: now, again: false }
    }

    /// A look begins; [`described`](Self::described) will tell what came of it.
    pub const fn asks(&mut self, now: Instant) {
        (self.asked, self.again) = (now, false);
    }

    /// Whether records may be sent.
    pub const fn may_send(&self) -> bool {
        self.doubt.is_none()
    }

    /// When the stream is to be described.
    pub const fn due(&self) -> Instant {
        self.due
    }

    /// It is to be described now.
    pub fn ask(&mut self, now: Instant) {
        self.due = self.due.min(now);
        self.again = true;
    }

    /// A request failed as a whole.
    pub fn failed(&mut self, error: &PutError, now: Instant) {
        let stale = now.duration_since(self.described) >= STALE;
        let doubt = match error {
            PutError::Missing(_) => Doubt::Gone,
            PutError::Throttled(_) => return,
            PutError::Unanswered(_) | PutError::Refused(_) if stale => Doubt::Stale,
            PutError::Unanswered(_) | PutError::Refused(_) => {
                if self.doubt.is_none() {
                    self.due = self.due.min(self.described + STALE);
                }
                return;
            }
        };
        // Requests that were out together change nothing: a look that has failed keeps its pause.
        if self.doubt.is_none() {
            self.due = self.due.min(now);
        }
        self.again = true;
        if self.doubt != Some(Doubt::Gone) {
            self.doubt = Some(doubt);
        }
    }

    /// The stream was described, and is the same one, or could not be.
    pub fn described(&mut self, result: &Result<StreamFacts, PutError>, now: Instant) {
        match result {
            Ok(StreamFacts { closed: None, .. }) => {
                let doubt = self.doubt.filter(|_| self.again);
                let due = if self.again { now } else { self.asked + EVERY };
                *self = Self { due, doubt, again: self.again, ..Self::new(self.asked) };
            }
            Ok(StreamFacts { closed: Some(_), .. }) | Err(PutError::Missing(_)) => {
                self.doubt = Some(Doubt::Gone);
                self.pause(now);
            }
            Err(PutError::Unanswered(_)) => self.pause(now),
            Err(PutError::Refused(_) | PutError::Throttled(_)) if self.doubt == Some(Doubt::Gone) => {
                self.pause(now);
            }
            Err(PutError::Refused(_) | PutError::Throttled(_)) if self.again => self.due = now,
            // The service is there, and does not want to say: the next outage asks again.
            Err(PutError::Refused(_) | PutError::Throttled(_)) => {
                self.doubt = None;
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
            arn: "arn".to_owned(),
            created: 1,
            max_record_size: 1 << 20,
            shards: 1,
            closed,
            mode: "PROVISIONED".to_owned(),
            ignores_keys: false,
        }
    }

    fn missing() -> PutError {
        PutError::Missing("x".to_owned())
    }

    fn refused() -> PutError {
        PutError::Refused("x".to_owned())
    }

    fn silent() -> PutError {
        PutError::Unanswered("x".to_owned())
    }

    #[test]
    fn a_failed_request_means_doubt_where_the_stream_may_be_another_one() {
        let now = Instant::now();
        let throttled = PutError::Throttled("x".to_owned());
        for (error, after, may_send, due_in) in [
            (missing(), 0, false, 0),
            (missing(), 30, false, 0),
            (silent(), 1, true, 9),
            (refused(), 1, true, 9),
            (silent(), 10, false, 0),
            (refused(), 10, false, 0),
            (throttled, 30, true, 30),
        ] {
            let mut standing = Standing::new(now);
            let later = now + Duration::from_secs(after);
            standing.failed(&error, later);
            assert_eq!(standing.may_send(), may_send, "{error} after {after} s");
            assert_eq!(standing.due(), later + Duration::from_secs(due_in), "{error} after {after} s");
        }
    }

    #[test]
    fn a_doubt_ends_with_a_description_or_where_the_service_does_not_want_to_say() {
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
            (silent(), Err(PutError::Throttled("x".to_owned())), true),
            (silent(), Err(silent()), false),
            (silent(), Err(missing()), false),
        ] {
            let mut standing = Standing::new(now - Duration::from_secs(30));
            standing.failed(&failed, now);
            standing.asks(now);
            standing.described(&described, now);
            assert_eq!(standing.may_send(), may_send, "{failed}, then {described:?}");
        }
    }

    #[test]
    fn looks_that_fail_come_ever_more_rarely_and_requests_that_were_out_do_not_hurry_them() {
        let mut now = Instant::now();
        let mut standing = Standing::new(now);
        standing.failed(&missing(), now);
        let mut last = Duration::ZERO;
        for _ in 0..40 {
            standing.asks(now);
            standing.described(&Err(missing()), now);
            let pause = standing.due() - now;
            standing.failed(&missing(), now);
            standing.failed(&silent(), now);
            assert!(standing.due() - now == pause && pause >= last && pause <= PAUSE_CAP, "{pause:?}");
            assert!(!standing.may_send());
            (now, last) = (standing.due(), pause);
        }
        assert_eq!(last, PAUSE_CAP);
        standing.asks(now);
        standing.described(&Ok(facts(None)), now);
        assert!(standing.may_send() && standing.due() == now + EVERY);
    }

    #[test]
    fn while_nothing_fails_a_stream_that_cannot_be_described_goes_on() {
        let now = Instant::now() + EVERY;
        for (error, due_in) in [(refused(), EVERY), (silent(), PAUSE_FIRST)] {
            let mut standing = Standing::new(now - EVERY);
            standing.asks(now);
            standing.described(&Err(error), now);
            assert!(standing.may_send());
            assert_eq!(standing.due() - now, due_in);
        }
    }

    #[test]
    fn a_description_that_was_asked_for_before_a_request_failed_ends_no_doubt() {
        let start = Instant::now();
        let (asked, failed) = (start + EVERY, start + EVERY + Duration::from_secs(1));
        for error in [missing(), silent(), refused()] {
            for late in [Ok(facts(None)), Err(refused())] {
                let mut standing = Standing::new(start);
                standing.asks(asked);
                standing.failed(&error, failed);
                let told = failed + Duration::from_secs(5);
                standing.described(&late, told);
                assert!(!standing.may_send(), "{error}, then {late:?}");
                assert!(standing.due() <= told + PAUSE_CAP);
                standing.asks(told);
                standing.described(&Ok(facts(None)), told);
                assert!(standing.may_send() && standing.due() == told + EVERY, "{error}, then {late:?}");
            }
        }
        let mut standing = Standing::new(start);
        standing.asks(start);
        standing.described(&Ok(facts(None)), start + STALE);
        standing.failed(&silent(), start + STALE);
        assert!(!standing.may_send(), "a description is as old as its question");
        let mut standing = Standing::new(start);
        standing.asks(asked);
        standing.ask(failed);
        standing.described(&Ok(facts(None)), failed);
        assert!(standing.may_send() && standing.due() == failed, "what a person asks for is not lost");
    }
}
