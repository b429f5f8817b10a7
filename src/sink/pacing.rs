//! Decides how large a request is and when it is sent. Does no I/O; the time is a parameter.
//!
//! The policy keeps both latency and cost low, without a timer that delays records to fill a request:
//!
//! - nothing is in flight: all ready records are sent at once. Records that become ready in the meantime form
//!   the next request, so under load requests grow by themselves and the cost per record decreases. If
//!   responses arrive too fast for that, [`PACE`] makes requests larger;
//! - something is in flight: a full request is sent, so that a long round trip does not limit throughput (16
//!   requests of 500 records at 20 ms are 400,000 records a second);
//! - something is in flight, few requests are open, and the last one was sent [`SPACING`] ago: a request is
//!   sent even if it is not full, so that a record waits at most that long and not for a whole round trip.
//!
//! Records that would only wait are not even read: see [`Hold`].
//!
//! Invariants: requests and bytes in flight stay within their limits (a record above the limit of bytes is
//! sent alone); a probe is one record.

use std::time::Duration;

use tokio::time::Instant;

use super::throttle::Pass;

/// Most records in a request: the service's limit.
pub const RECORDS_MAX: usize = 500;
/// Most bytes of a request, data and keys: the service's limit.
pub const REQUEST_BYTES_MAX: usize = 10 << 20;
/// Shortest time between two requests that are not full, while one is in flight. It is far below a round trip
/// within a region, and far above the cost of a request.
pub const SPACING: Duration = Duration::from_millis(5);
/// Shortest time before a request that is not full, per record of the previous request, while none is in
/// flight; at most [`SPACING`]. A request costs as much as 50 records. Above 20,000 records a second requests
/// grow, up to full ones; below, the delay is not noticeable.
pub const PACE: Duration = Duration::from_micros(50);
/// Largest packed record in bytes, data and key. A key is on one shard, which accepts 1 MiB a second. At one
/// record per round trip, this size uses all of it if the service is up to 95 ms away. Larger records would
/// only make the shard's load uneven and a rejection more expensive. A provisioned stream charges a record in
/// units of 25 KB; whether these are 25,000 or 25,600 bytes, this size fills four of them up to less than one
/// event. An on-demand stream charges units of 1 KB.
pub const PACK_BYTES: usize = 100_000;
/// Most events in a packed record. Where Firehose splits records, it takes no more out of one.
pub const PACK_EVENTS: usize = 500;
/// Most records, and bytes of log, that stay unread while they would only wait.
const UNREAD_RECORDS: usize = 100;
const UNREAD_BYTES: usize = 64 << 10;
/// How long they stay unread while only a response, or a full request, would allow to send them. It is short,
/// because lagging lanes are detected among records that were read.
const UNREAD_FOR: Duration = Duration::from_millis(20);
/// After a request smaller than this, the next one is not delayed, so that single events of many transactions
/// are sent at once.
const PACED_MIN: usize = 8;

/// Limits of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most records in a request; never above [`RECORDS_MAX`].
    pub request_records: usize,
    /// Most bytes of a request, data and keys; never above [`REQUEST_BYTES_MAX`]. A larger record is sent
    /// alone.
    pub request_bytes: usize,
    /// Most requests in flight. With 16 and a round trip of 20 ms, the throughput is 400,000 records a
    /// second.
    pub in_flight_requests: usize,
    /// Most bytes in flight. They are in memory twice: in the log's read buffer and in the encoded request.
    pub in_flight_bytes: usize,
    /// Largest record that the stream accepts, data and key: see [`super::StreamFacts`].
    pub max_record_size: usize,
    /// Bytes of log that all windows may span together, and one more frame for each. With 16 MiB, a shard may
    /// be stuck for some seconds before it is noticed, and resident memory stays below 64 MiB.
    pub window_bytes: usize,
    /// Largest size of a record that events of one key share: see [`PACK_BYTES`]. 0: each event is a record
    /// of its own.
    pub pack_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_records: RECORDS_MAX,
            request_bytes: 4 << 20,
            in_flight_requests: 16,
            in_flight_bytes: 8 << 20,
            max_record_size: 1 << 20,
            window_bytes: 16 << 20,
            pack_bytes: 0,
        }
    }
}

impl Limits {
    /// The same limits, reduced to what the service allows.
    #[must_use]
    pub fn clamped(self) -> Self {
        Self {
            request_records: self.request_records.clamp(1, RECORDS_MAX),
            request_bytes: self.request_bytes.clamp(1, REQUEST_BYTES_MAX),
            in_flight_requests: self.in_flight_requests.max(1),
            in_flight_bytes: self.in_flight_bytes.max(1),
            max_record_size: self.max_record_size,
            window_bytes: self.window_bytes.max(1),
            pack_bytes: self.pack_bytes,
        }
    }
}

/// Requests in flight, and the pace of the last one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flight {
    pub(super) requests: usize,
    pub(super) bytes: usize,
    last_sent: Option<Instant>,
    /// Whether the last request had more than one record.
    several: bool,
    /// Shortest time after the last request.
    pace: Duration,
}

/// Records and bytes that are ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

impl Waiting {
    /// The sum of both.
    pub(super) const fn and(self, other: Self) -> Self {
        Self { records: self.records + other.records, bytes: self.bytes + other.bytes }
    }
}

/// What new records would wait for. They need not be read before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// When a request that is not full may be sent.
    pub until: Instant,
    /// With this many new records, a full request may be sent.
    pub records: usize,
    /// With this many new bytes, a full request may be sent.
    pub bytes: usize,
}

/// Limits of the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowance {
    records: usize,
    bytes: usize,
    /// The first record may exceed `bytes` up to this size.
    first: usize,
}

impl Allowance {
    /// Whether a record of `size` bytes fits into a request that holds `records` of `bytes`.
    pub(super) fn fits(&self, records: usize, bytes: usize, size: usize) -> bool {
        if records == 0 { size <= self.first } else { records < self.records && bytes + size <= self.bytes }
    }

    /// How large a packed record may become in a request that has `bytes` bytes. Unlike a single large event,
    /// it never exceeds the limit. A probe is not packed: the fewer events it has, the more its failure says.
    pub(super) fn room(&self, bytes: usize) -> usize {
        self.bytes.saturating_sub(bytes)
    }

    /// Whether `records` of `bytes` are the whole share of one of `readers` in a request while the others
    /// have ready records too.
    pub(super) fn is_share(&self, records: usize, bytes: usize, readers: usize) -> bool {
        records > 0 && (records >= self.records.div_ceil(readers) || bytes >= self.bytes / readers)
    }
}

impl Flight {
    /// Notes that a request was sent.
    pub(super) fn sent(&mut self, records: usize, bytes: usize, now: Instant) {
        let paced = u32::try_from(records).ok().filter(|_| records >= PACED_MIN);
        self.pace = paced.map_or(Duration::ZERO, |records| (PACE * records).min(SPACING));
        self.several = records > 1;
        self.requests += 1;
        self.bytes += bytes;
        self.last_sent = Some(now);
    }

    /// Notes that a request has ended.
    pub(super) fn over(&mut self, bytes: usize) {
        self.requests = self.requests.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// The request that may be sent now; `None` if it is better to wait.
    pub(super) fn allowance(
        &self,
        limits: &Limits,
        (pass, budget): (Pass, usize),
        waiting: Waiting,
        now: Instant,
    ) -> Option<Allowance> {
        if waiting.records == 0 || self.requests >= limits.in_flight_requests {
            return None;
        }
        match pass {
            Pass::Shut => return None,
            Pass::Probe => return Some(Allowance { records: 1, bytes: 0, first: usize::MAX }),
            Pass::Open => {}
        }
        let bytes = cap(limits, budget);
        let full = waiting.records >= limits.request_records || waiting.bytes >= bytes;
        if self.requests == 0 {
            let due = self.next_partial(limits).is_none_or(|at| at <= now);
            let allowance = Allowance { records: limits.request_records, bytes, first: usize::MAX };
            return (full || due).then_some(allowance);
        }
        let room = budget.saturating_sub(self.bytes);
        let due = self.next_partial(limits).is_some_and(|at| at <= now);
        ((full || due) && room >= bytes.min(waiting.bytes)).then_some(Allowance {
            records: limits.request_records,
            bytes: bytes.min(room),
            first: room,
        })
    }

    /// Whether waiting records are sent within [`SPACING`]. If not, they wait for the connection.
    pub(super) fn is_free(&self, limits: &Limits, budget: usize, waiting: Waiting) -> bool {
        let few = self.requests < limits.in_flight_requests.div_ceil(2);
        let room = budget.saturating_sub(self.bytes);
        waiting.records == 0 || (few && room >= cap(limits, budget).min(waiting.bytes))
    }

    /// Whether new records would only wait, given that some already do or will before anything can be sent.
    /// The first record of all is read at once, so that no time passes at which there would be nothing to
    /// send.
    pub(super) fn hold(
        &self,
        limits: &Limits,
        budget: usize,
        waiting: Waiting,
        now: Instant,
    ) -> Option<Hold> {
        let until = match self.next_partial(limits) {
            Some(at) if at <= now || (waiting.records == 0 && !self.several) => return None,
            Some(at) => at,
            None if self.requests == 0 => return None,
            None => now + UNREAD_FOR,
        };
        let left = |full: usize, waiting: usize, most: usize| full.saturating_sub(waiting).clamp(1, most);
        Some(Hold {
            until,
            records: left(limits.request_records, waiting.records, UNREAD_RECORDS),
            bytes: left(cap(limits, budget), waiting.bytes, UNREAD_BYTES),
        })
    }

    /// When a request that is not full may be sent, if nothing else happens; `None` if too many are in
    /// flight, or none was ever sent.
    pub(super) fn next_partial(&self, limits: &Limits) -> Option<Instant> {
        if self.requests == 0 {
            return self.last_sent.map(|at| at + self.pace);
        }
        let few = self.requests < limits.in_flight_requests.div_ceil(2);
        self.last_sent.filter(|_| few).map(|at| at + SPACING)
    }
}

/// Bytes of a full request: at most half of the budget, so that one can be filled while another is in flight.
fn cap(limits: &Limits, budget: usize) -> usize {
    limits.request_bytes.min(budget / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: (Pass, usize) = (Pass::Open, 8 << 20);

    fn flight(requests: usize, bytes: usize, last_sent: Instant) -> Flight {
        Flight { requests, bytes, last_sent: Some(last_sent), several: false, pace: Duration::ZERO }
    }

    #[test]
    fn partial_request_waits_behind_large_one_and_full_does_not() {
        let (limits, start) = (Limits::default(), Instant::now());
        for (records, waiting, wait) in [
            (1, 1, Duration::ZERO),
            (7, 1, Duration::ZERO),
            (8, 1, PACE * 8),
            (100, 499, PACE * 100),
            (100, 500, Duration::ZERO),
            (499, 1, SPACING),
        ] {
            let mut flight = Flight::default();
            flight.sent(records, records * 300, start);
            flight.over(records * 300);
            let waiting = Waiting { records: waiting, bytes: waiting * 300 };
            let leaves = |after| flight.allowance(&limits, OPEN, waiting, start + after).is_some();
            assert!(leaves(wait), "{records} {waiting:?}");
            assert!(
                wait.is_zero() || !leaves(wait.saturating_sub(Duration::from_micros(1))),
                "{records} {waiting:?}"
            );
        }
    }

    #[test]
    fn request_is_sent_when_due() {
        let limits = Limits::default();
        let now = Instant::now();
        let long_ago = now - SPACING;
        let wait = |records, bytes| Waiting { records, bytes };
        let mib = 1 << 20;
        for (what, flight, gate, waiting, expected) in [
            ("nothing waits", flight(0, 0, long_ago), OPEN, wait(0, 0), false),
            ("the line is idle", flight(0, 0, now), OPEN, wait(1, 300), true),
            ("one is out, little waits", flight(1, 300, now), OPEN, wait(1, 300), false),
            ("the last one left a while ago", flight(1, 300, long_ago), OPEN, wait(1, 300), true),
            ("half of them are out", flight(8, 2400, long_ago), OPEN, wait(1, 300), false),
            ("full by count", flight(8, 2400, now), OPEN, wait(500, 150_000), true),
            ("full by bytes", flight(1, 300, now), OPEN, wait(10, 4 * mib), true),
            ("all requests are out", flight(16, 4800, long_ago), OPEN, wait(500, 150_000), false),
            ("no room for what waits", flight(3, 7 * mib, long_ago), OPEN, wait(10, 2 * mib), false),
            ("room for what waits", flight(3, 7 * mib, long_ago), OPEN, wait(10, mib), true),
            ("the gate is shut", flight(0, 0, long_ago), (Pass::Shut, 8 * mib), wait(500, mib), false),
            ("a probe may go", flight(3, 8 * mib, now), (Pass::Probe, 8 * mib), wait(1, 300), true),
        ] {
            assert_eq!(flight.allowance(&limits, gate, waiting, now).is_some(), expected, "{what}");
        }
    }

    #[test]
    fn new_record_is_unread_only_while_it_would_wait() {
        let (limits, start) = (Limits::default(), Instant::now());
        let budget = 8 << 20;
        let (soon, later) = (Some(start + SPACING), Some(start + UNREAD_FOR));
        for (what, requests, sent, waiting, until) in [
            ("the line is idle", 0, 1, 0, None),
            ("a small request left, with its response", 0, 7, 3, None),
            ("a large request left, with its response", 0, 100, 3, soon),
            ("one record is out, the first may come", 1, 1, 0, None),
            ("one record is out, one waits", 1, 1, 1, soon),
            ("several are out, more are expected", 1, 5, 0, soon),
            ("half of the requests are out", 8, 1, 0, later),
            ("all are out", 16, 5, 9, later),
        ] {
            let mut flight = Flight::default();
            assert_eq!(
                flight.hold(&limits, budget, Waiting::default(), start),
                None,
                "nothing was ever sent"
            );
            flight.sent(sent, sent * 300, start);
            flight.requests = requests;
            let waiting = Waiting { records: waiting, bytes: waiting * 300 };
            let hold = |after| flight.hold(&limits, budget, waiting, start + after);
            assert_eq!(hold(Duration::ZERO).map(|hold| hold.until), until, "{what}");
            if until != later {
                assert_eq!(hold(SPACING), None, "{what}: it may be sent");
            }
        }
    }

    /// Unread records do not delay a full request.
    #[test]
    fn record_that_fills_a_request_is_read() {
        let (limits, now) = (Limits::default(), Instant::now());
        let several = Flight { several: true, ..flight(1, 300, now) };
        let left = |records, bytes| {
            let hold = several.hold(&limits, 8 << 20, Waiting { records, bytes }, now).unwrap();
            (hold.records, hold.bytes)
        };
        assert_eq!(left(0, 0), (UNREAD_RECORDS, UNREAD_BYTES));
        assert_eq!(left(450, 9_000), (50, UNREAD_BYTES));
        assert_eq!(left(499, (4 << 20) - 100), (1, 100));
        assert_eq!(left(700, 5 << 20), (1, 1));
    }

    #[test]
    fn request_holds_what_fits() {
        let limits = Limits::default();
        let now = Instant::now();
        let waiting = Waiting { records: 1000, bytes: 64 << 20 };
        let idle = flight(0, 0, now).allowance(&limits, OPEN, waiting, now).unwrap();
        let busy = flight(1, 3 << 20, now).allowance(&limits, OPEN, waiting, now).unwrap();
        let slow = flight(0, 0, now).allowance(&limits, (Pass::Open, 128 << 10), waiting, now).unwrap();
        let probe = flight(0, 0, now).allowance(&limits, (Pass::Probe, 8 << 20), waiting, now).unwrap();
        for (what, allowance, records, bytes, size, expected) in [
            ("the 500th", idle, 499, 1000, 300, true),
            ("the 501st", idle, 500, 1000, 300, false),
            ("the last byte", idle, 3, (4 << 20) - 300, 300, true),
            ("one byte more", idle, 3, (4 << 20) - 299, 300, false),
            ("a large one alone", idle, 0, 0, 10 << 20, true),
            ("a large one beside others in flight", busy, 0, 0, 6 << 20, false),
            ("one that fits the room", busy, 0, 0, 5 << 20, true),
            ("the budget is small", slow, 1, 64 << 10, 1, false),
            ("the first of a probe", probe, 0, 0, 10 << 20, true),
            ("the second of a probe", probe, 1, 1, 0, false),
        ] {
            assert_eq!(allowance.fits(records, bytes, size), expected, "{what}");
        }
    }

    #[test]
    fn limits_stay_within_service_limits() {
        let wild = Limits { request_records: 9999, request_bytes: usize::MAX, ..Limits::default() }.clamped();
        assert_eq!((wild.request_records, wild.request_bytes), (500, 10 << 20));
        let none = Limits { request_records: 0, in_flight_requests: 0, ..Limits::default() }.clamped();
        assert_eq!((none.request_records, none.in_flight_requests), (1, 1));
    }
}
