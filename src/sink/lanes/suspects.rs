//! Records whose request failed as a whole. One of them may be the cause.
//!
//! Usually the service is the cause. But a single record can fail every request that contains it: a proxy
//! resets the connection, the record takes too long on the connection, or the service finds it invalid. So
//! the records of a failed request are not mixed with others again. They are sent in requests of their own,
//! each with half of the records of the failed one, until they are accepted or one record is left *alone*. A
//! failure of such a request says nothing about the service while other requests get responses. A record that
//! is alone waits longer after each attempt, and blocks only its key.
//!
//! A record is *rejected*, and written to the dead-letter file, only by evidence: it failed alone
//! [`PROOFS_TO_REJECT`] times in a row, the service accepted others between any two of these failures, and
//! each time the error was about the content ([`PutError::Invalid`]). Any other error, or no response, needs
//! more evidence: [`SILENT_PROOFS_TO_REJECT`] such failures over [`SILENT_PROVEN_AFTER`], while at most one
//! in [`ACCEPTED_FOR_FAILED`] of the other requests failed. Otherwise a service that responds only now and
//! then would make healthy records look guilty. Without this rule, the record would keep the log from being
//! reclaimed forever. If there is nothing else to send, a control is sent: see `dispatch/control.rs`.
//!
//! Invariants: a suspect is in one group and in no ready set; at most a quarter of the requests in flight
//! have suspects; evidence is kept for at most [`EVIDENCE_MAX`] records and survives that a lane is read
//! again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ticket::Sent;
use crate::event::KeyHash;
use crate::position::FrameNo;
use crate::sink::PutError;
use crate::sink::throttle::{Jitter, backoff};

/// Number of failures alone after which a record is rejected.
const PROOFS_TO_REJECT: u32 = 5;
/// The failures must span at least this time.
const PROVEN_AFTER: Duration = Duration::from_secs(10);
/// The same for a record that an attempt without a response may have stored. After this time, no such attempt
/// is in flight any more.
const PROVEN_AFTER_UNACKNOWLEDGED: Duration = Duration::from_mins(1);
/// The same numbers for errors that are not about the content.
const SILENT_PROOFS_TO_REJECT: u32 = 60;
const SILENT_PROVEN_AFTER: Duration = Duration::from_hours(1);
/// Number of other requests that must be accepted for each one that fails.
const ACCEPTED_FOR_FAILED: u64 = 10;
/// Number of failures alone after which a control is sent even if the error is not about the content.
const CONTROL_AFTER: u32 = 8;
/// First and longest pause of a record that is alone.
const ALONE_FIRST: Duration = Duration::from_millis(100);
const ALONE_CAP: Duration = Duration::from_secs(30);
/// If the service has responded within this time before a request was sent, it is available: the failure is
/// the request's own.
const RESPONDED_WITHIN: Duration = Duration::from_secs(5);
/// When a group of paused sections is checked again.
const RECHECK_AFTER: Duration = Duration::from_millis(100);
/// Most records with evidence.
const EVIDENCE_MAX: usize = 1024;

/// Identifies a record as long as it is in the log: its frame, and its index there.
pub(super) type RecordId = (FrameNo, u16);

/// Records that are sent together.
#[derive(Debug)]
struct Group {
    records: Vec<Sent>,
    due: Instant,
}

/// The failures of one record.
#[derive(Clone, Debug)]
struct Evidence {
    hash: KeyHash,
    /// Number of failures alone in a row.
    failures: u32,
    /// How many of the last failures in a row are proofs.
    proofs: u32,
    /// When the first of these proofs was known.
    since: Instant,
    /// Number of failures alone, with any error, while others were accepted.
    alone: u32,
    /// When the first of these failures was known, and the counts of other requests at that time.
    alone_since: (Instant, Others),
    last: Instant,
    response: Arc<str>,
}

impl Evidence {
    /// Counts a failure that is no proof.
    fn once_more(&mut self) -> u32 {
        self.failures = self.failures.saturating_add(1);
        self.failures
    }
}

/// Counts of requests without a record that is known to fail alone: with an accepted record, and failed.
#[derive(Clone, Copy, Debug, Default)]
struct Others {
    accepted: u64,
    failed: u64,
}

impl Others {
    /// Whether enough other requests were accepted since then.
    fn are_well_since(self, then: Self) -> bool {
        let (accepted, failed) = (self.accepted - then.accepted, self.failed - then.failed);
        failed.saturating_mul(ACCEPTED_FOR_FAILED) <= accepted
    }
}

/// A record that failed alone.
#[derive(Clone, Debug)]
pub(super) struct FailedRecord {
    pub(super) id: RecordId,
    pub(super) hash: KeyHash,
    /// Whether an earlier attempt may have stored it.
    pub(super) unacknowledged: bool,
}

/// The consequence of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The record is retried.
    Waits {
        /// Number of failures alone in a row.
        failures: u32,
    },
    /// The record is written to the dead-letter file.
    Rejected,
}

/// All groups, and the evidence.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    groups: VecDeque<Group>,
    /// Requests in flight with suspects.
    requests: usize,
    /// When a request last got a response.
    acknowledged: Option<Instant>,
    evidence: HashMap<RecordId, Evidence>,
    /// Whether the last failure of a record that was alone was about its content.
    content_at_fault: bool,
    /// Whether a record has failed alone, and no other request got a response since.
    wants_control: bool,
    /// Number of failures alone since the last response.
    unproven: u32,
    others: Others,
}

impl Suspects {
    /// Notes that a request with suspects was sent.
    pub(super) const fn sent(&mut self) {
        self.requests += 1;
    }

    pub(super) const fn over(&mut self) {
        self.requests = self.requests.saturating_sub(1);
    }

    /// Notes that a request got a response.
    pub(super) fn acknowledged(&mut self, now: Instant) {
        self.acknowledged = Some(now);
        (self.wants_control, self.unproven) = (false, 0);
    }

    /// Notes the end of a request without a record that is known to fail alone: the service accepted a record
    /// of it, or it failed.
    pub(super) const fn note_other(&mut self, is_accepted: bool) {
        if is_accepted {
            self.others.accepted += 1;
        } else {
            self.others.failed += 1;
        }
    }

    /// Whether it would help to know if the service accepts another record.
    pub(super) const fn wants_control(&self) -> bool {
        self.wants_control
    }

    /// Notes that the service did not accept the control either.
    pub(super) const fn control_failed(&mut self) {
        self.wants_control = false;
    }

    /// Number of requests in flight with suspects.
    pub(super) const fn in_flight(&self) -> usize {
        self.requests
    }

    /// Whether the service has responded since this time, or shortly before it.
    pub(super) fn has_acknowledged_since(&self, since: Instant) -> bool {
        self.acknowledged.is_some_and(|at| at + RESPONDED_WITHIN > since)
    }

    /// Whether another request with suspects may be sent besides those in flight.
    pub(super) fn may_send(&self, in_flight_requests: usize) -> bool {
        !self.groups.is_empty() && self.requests < (in_flight_requests / 4).max(1)
    }

    /// Adds the records of a request that failed as a whole: as two halves, or as one record that is alone.
    pub(super) fn add(&mut self, mut records: Vec<Sent>, now: Instant) {
        if records.len() > 1 {
            let second = records.split_off(records.len().div_ceil(2));
            self.groups.push_back(Group { records, due: now });
            self.groups.push_back(Group { records: second, due: now });
        } else if !records.is_empty() {
            self.groups.push_back(Group { records, due: now });
        }
    }

    /// Adds a record that waits alone until `due`.
    pub(super) fn add_alone(&mut self, record: Sent, due: Instant) {
        self.groups.push_back(Group { records: vec![record], due });
    }

    /// The next group that may be sent. `sort` returns for each record whether it may be sent now
    /// (`Some(true)`), must wait (`Some(false)`), or is no suspect any more (`None`).
    pub(super) fn next(
        &mut self,
        now: Instant,
        fits: impl Fn(&[Sent]) -> bool,
        sort: impl Fn(Sent) -> Option<bool>,
    ) -> Option<Vec<Sent>> {
        for _ in 0..self.groups.len() {
            let at = self.groups.iter().position(|group| group.due <= now)?;
            if !self.groups.get(at).is_some_and(|group| fits(&group.records)) {
                return None;
            }
            let group = self.groups.remove(at)?;
            let known = group.records.into_iter().filter_map(|one| Some((one, sort(one)?)));
            let (go, stay): (Vec<_>, Vec<_>) = known.partition(|(_, goes)| *goes);
            let ones = |all: Vec<(Sent, bool)>| all.into_iter().map(|(one, _)| one).collect::<Vec<_>>();
            if !stay.is_empty() {
                self.groups.push_back(Group { records: ones(stay), due: now + RECHECK_AFTER });
            }
            if !go.is_empty() {
                return Some(ones(go));
            }
        }
        None
    }

    /// The next record for a probe. The groups take turns, so that each probe has another record.
    pub(super) fn next_probe(&mut self, now: Instant, sort: impl Fn(Sent) -> Option<bool>) -> Option<Sent> {
        for _ in 0..self.groups.len() {
            let mut group = self.groups.pop_front()?;
            if group.due > now {
                self.groups.push_back(group);
                continue;
            }
            group.records.retain(|one| sort(*one).is_some());
            let at = group.records.iter().position(|one| sort(*one) == Some(true));
            let found = at.map(|at| group.records.remove(at));
            if !group.records.is_empty() {
                self.groups.push_back(group);
            }
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Removes the records that match, and returns them.
    pub(super) fn take_matching(&mut self, matches: impl Fn(&Sent) -> bool) -> Vec<Sent> {
        let mut taken = Vec::new();
        for group in &mut self.groups {
            taken.extend(group.records.extract_if(.., |one| matches(one)));
        }
        self.groups.retain(|group| !group.records.is_empty());
        taken
    }

    /// When the next group is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.groups.iter().map(|group| group.due).min()
    }

    /// Handles a record that failed alone, in a request sent at `sent`. While the service responds to no
    /// request, the failure says nothing about the record.
    pub(super) fn failed_alone(
        &mut self,
        failed: &FailedRecord,
        sent: Instant,
        error: &PutError,
        now: Instant,
    ) -> Verdict {
        self.content_at_fault = matches!(error, PutError::Invalid(_));
        let known = self.evidence.get(&failed.id).map(|evidence| evidence.last);
        let others = self.acknowledged.is_some_and(|at| at > known.unwrap_or(sent).min(sent));
        if !others && (known.is_some() || !self.has_acknowledged_since(sent)) {
            let failures = self.evidence.get_mut(&failed.id).map_or(0, Evidence::once_more);
            self.unproven = self.unproven.saturating_add(1);
            self.wants_control |=
                self.content_at_fault || failures >= CONTROL_AFTER || self.unproven >= CONTROL_AFTER;
            return Verdict::Waits { failures };
        }
        if self.evidence.len() >= EVIDENCE_MAX && !self.evidence.contains_key(&failed.id) {
            let oldest = self.evidence.iter().min_by_key(|(_, evidence)| evidence.last).map(|(id, _)| *id);
            oldest.and_then(|id| self.evidence.remove(&id));
        }
        let response: Arc<str> = error.to_string().into();
        let evidence = self.evidence.entry(failed.id).or_insert_with(|| Evidence {
            hash: failed.hash,
            failures: 0,
            proofs: 0,
            since: now,
            alone: 0,
            alone_since: (now, self.others),
            last: sent,
            response: Arc::clone(&response),
        });
        let proves = others && matches!(error, PutError::Invalid(_));
        evidence.failures += 1;
        if proves {
            if evidence.proofs == 0 {
                evidence.since = now;
            }
            evidence.proofs += 1;
        } else {
            (evidence.proofs, evidence.since) = (0, now);
        }
        if others {
            evidence.alone += 1;
        }
        (evidence.last, evidence.response) = (now, response);
        self.wants_control |= self.content_at_fault || evidence.failures >= CONTROL_AFTER;
        let (since, before) = evidence.alone_since;
        let is_long = evidence.alone >= SILENT_PROOFS_TO_REJECT && now - since >= SILENT_PROVEN_AFTER;
        let is_silent = is_long && self.others.are_well_since(before);
        if is_long && !is_silent {
            (evidence.alone, evidence.alone_since) = (0, (now, self.others));
        }
        let least = if failed.unacknowledged { PROVEN_AFTER_UNACKNOWLEDGED } else { PROVEN_AFTER };
        let is_invalid = evidence.proofs >= PROOFS_TO_REJECT && now.duration_since(evidence.since) >= least;
        if is_invalid || is_silent {
            Verdict::Rejected
        } else {
            Verdict::Waits { failures: evidence.failures }
        }
    }

    /// How long a record waits after this many failures alone.
    pub(super) fn pause(failures: u32, jitter: &mut Jitter) -> Duration {
        if failures == 0 {
            return Duration::ZERO;
        }
        backoff(ALONE_FIRST, ALONE_CAP, failures, jitter)
    }

    /// Whether a record has failed alone, so that it must be sent alone.
    pub(super) fn has_evidence(&self, id: impl FnOnce() -> RecordId) -> bool {
        !self.evidence.is_empty() && self.evidence.contains_key(&id())
    }

    /// Whether a record in this hash range has failed alone more than once.
    pub(super) fn has_evidence_within(&self, (first, last): (u64, u64)) -> bool {
        self.keys_with_evidence().any(|key| first <= key.0 && key.0 <= last)
    }

    /// The keys of such records, in no order.
    pub(super) fn keys_with_evidence(&self) -> impl Iterator<Item = KeyHash> {
        self.evidence.values().filter(|evidence| evidence.failures > 1).map(|evidence| evidence.hash)
    }

    /// Whether the error of the record that last failed alone was about its content.
    pub(super) const fn is_content_at_fault(&self) -> bool {
        self.content_at_fault
    }

    /// Removes the evidence of a finished record.
    pub(super) fn forget(&mut self, id: impl FnOnce() -> RecordId) {
        if !self.evidence.is_empty() {
            self.evidence.remove(&id());
        }
    }

    /// The service's response for a record that was rejected.
    pub(super) fn response(&self, id: RecordId) -> Option<Arc<str>> {
        self.evidence.get(&id).map(|evidence| Arc::clone(&evidence.response))
    }
}
