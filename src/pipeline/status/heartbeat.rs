//! The heartbeat's part of the status.

use std::time::{Duration, Instant};

use crate::position::Position;

/// A heartbeat that has not come back after this many intervals is a finding.
const LATE_AFTER: u32 = 3;
/// But not before this time has passed: checkpoint and status check take a second each.
const LATE_LEAST: Duration = Duration::from_secs(15);

/// A heartbeat that is not published yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingHeartbeat {
    /// Its number.
    pub number: u64,
    /// When it was written.
    pub written: Instant,
    /// When the first heartbeat was written that has not come back. A failover can lose one, so this is older
    /// than `written`.
    pub since: Instant,
}

/// The state of the heartbeat.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeartbeatStatus {
    /// Interval (`source.heartbeat`). `None`: heartbeats are off, or the process has just started.
    pub every: Option<Duration>,
    /// The last heartbeat, until it is published.
    pub under_way: Option<PendingHeartbeat>,
    /// Number and position of the last heartbeat of this process that was received.
    pub received: Option<(u64, Position)>,
    /// The last published heartbeat: how long it took, and when it was written.
    pub last: Option<(Duration, Instant)>,
}

impl HeartbeatStatus {
    /// Notes that everything up to `watermark` is published.
    pub fn published(&mut self, watermark: Option<Position>, now: Instant) {
        let (Some(pending), Some((number, position))) = (self.under_way, self.received) else { return };
        if number == pending.number && watermark >= Some(position) {
            self.under_way = None;
            self.last = Some((now.saturating_duration_since(pending.written), pending.written));
        }
    }

    /// How long the current heartbeat has been under way.
    pub fn waiting(&self, now: Instant) -> Option<Duration> {
        self.under_way.map(|pending| now.saturating_duration_since(pending.since))
    }

    /// The same time, if it is too long.
    pub(super) fn late(&self, now: Instant) -> Option<Duration> {
        let limit = (self.every? * LATE_AFTER).max(LATE_LEAST);
        self.waiting(now).filter(|waiting| *waiting >= limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::CommitSeq;

    #[test]
    fn only_the_last_published_heartbeat_closes_the_loop() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let at = |commit| Position { epoch: 0, commit: CommitSeq::new(commit), index: 0 };
        let mut status = HeartbeatStatus {
            every: Some(Duration::from_secs(10)),
            under_way: Some(PendingHeartbeat { number: 2, written: start, since: start }),
            ..HeartbeatStatus::default()
        };
        for (received, watermark) in [
            (None, Some(at(500))),
            (Some((1, at(100))), Some(at(500))),
            (Some((2, at(100))), None),
            (Some((2, at(100))), Some(at(99))),
        ] {
            status.received = received;
            status.published(watermark, after(3));
            assert_eq!(status.waiting(after(3)), Some(Duration::from_secs(3)), "{received:?} {watermark:?}");
        }
        assert_eq!((status.late(after(29)), status.late(after(30))), (None, Some(Duration::from_secs(30))));
        status.published(Some(at(100)), after(31));
        assert_eq!((status.waiting(after(40)), status.last), (None, Some((Duration::from_secs(31), start))));
    }
}
