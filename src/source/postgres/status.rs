//! Decides when to send status messages, and when a server counts as silent. Does no I/O.

use std::time::Duration;

use tokio::time::Instant;

use super::lsn::Lsn;

/// Longest interval between two status messages. By default the server closes the connection after 60 s
/// without one. If nothing was received in one interval, the next status requests a reply, so that a hung
/// server is visible after 15 s (`pipeline::status`).
const INTERVAL_MAX: Duration = Duration::from_secs(5);
/// Shortest interval. A shorter one would only cost both sides work.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Limit of silence for a server process that hangs. TCP detects a dead machine within a minute. Servers
/// before version 15 send nothing while they skip a very large transaction, so the limit grows with each
/// attempt that times out ([`Patience`]).
pub const SILENCE_MAX: Duration = Duration::from_mins(2);
/// Highest limit after many attempts. A rewrite of some billion rows is skipped in less time.
const PATIENCE_MAX: Duration = Duration::from_hours(4);

/// How long a server may be silent, over several attempts. The next attempt begins where the last one ended,
/// and needs at least as long. With a constant limit, a transaction that takes longer would never be passed.
#[derive(Debug)]
pub struct Patience {
    base: Duration,
    limit: Duration,
    /// Position up to which a connection had delivered everything when it timed out.
    timed_out_at: Lsn,
}

impl Patience {
    /// Starts with this limit.
    pub const fn new(base: Duration) -> Self {
        Self { base, limit: base, timed_out_at: Lsn::ZERO }
    }

    /// The limit of an attempt that begins at `from`.
    pub fn limit(&mut self, from: Lsn) -> Duration {
        if from > self.timed_out_at {
            self.limit = self.base;
        }
        self.limit
    }

    /// Notes that an attempt has timed out after it had delivered everything before `at`.
    pub fn exhausted(&mut self, at: Lsn) {
        if at > self.timed_out_at {
            self.limit = self.base;
            self.timed_out_at = at;
        }
        self.limit = (self.limit * 2).min(PATIENCE_MAX.max(self.base));
    }
}

/// The schedule of status messages.
#[derive(Debug)]
pub struct Heartbeat {
    interval: Duration,
    silence_max: Duration,
    due: Instant,
    sent: Instant,
    received_since_sent: bool,
    received: Instant,
    /// Time of the first request without a reply. Time in which the client did not read does not count as
    /// silence.
    reply_requested: Option<Instant>,
}

impl Heartbeat {
    /// The schedule for this `wal_sender_timeout`; `None` if the server has no timeout.
    pub fn new(sender_timeout: Option<Duration>, silence_max: Duration, now: Instant) -> Self {
        let interval = sender_timeout.map_or(INTERVAL_MAX, |timeout| timeout / 3);
        let interval = interval.min(silence_max / 3).clamp(INTERVAL_MIN, INTERVAL_MAX);
        Self {
            interval,
            silence_max,
            due: now + interval,
            sent: now,
            received_since_sent: true,
            received: now,
            reply_requested: None,
        }
    }

    /// Time of the next status.
    pub const fn due(&self) -> Instant {
        self.due
    }

    /// Whether the next status is due.
    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.due
    }

    /// Notes that a status was sent. `ask`: it requested a reply.
    pub fn note_sent(&mut self, now: Instant, ask: bool) {
        self.sent = now;
        if ask {
            self.reply_requested.get_or_insert(now);
        }
        self.due = now + self.interval;
        self.received_since_sent = false;
    }

    /// Notes that a message was received.
    pub const fn note_received(&mut self, now: Instant) {
        self.received = now;
        self.received_since_sent = true;
        self.reply_requested = None;
    }

    /// Time of the last received message.
    pub const fn received_at(&self) -> Instant {
        self.received
    }

    /// Notes that the server requests a status, which is due at once.
    pub const fn send_now(&mut self) {
        self.due = self.sent;
    }

    /// Whether the next status must request a reply, because nothing was received since the last one.
    pub const fn must_request_reply(&self) -> bool {
        !self.received_since_sent
    }

    /// Notes that the server is known to be busy: its silence restarts now. Returns `false` if it has been
    /// silent for too long in all.
    pub fn is_busy(&mut self, now: Instant) -> bool {
        self.reply_requested = Some(now);
        now.saturating_duration_since(self.received) < PATIENCE_MAX
    }

    /// The duration of the silence, if it exceeds the limit.
    pub fn silence(&self, now: Instant) -> Option<Duration> {
        let silence = now.saturating_duration_since(self.reply_requested?);
        (silence >= self.silence_max).then_some(silence)
    }
}

/// Parses a duration as PostgreSQL prints a setting: `1min`, `90s`, `500ms`, `2h`, `1d`, or milliseconds
/// without a unit. Returns `None` for 0, which means no limit.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let milliseconds = match unit {
        "" | "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let duration = Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(milliseconds)?);
    (!duration.is_zero()).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_settings_are_parsed_as_postgres_prints_them() {
        for (text, milliseconds) in
            [("1min", Some(60_000)), ("90s", Some(90_000)), ("500ms", Some(500)), ("2h", Some(7_200_000))]
        {
            assert_eq!(parse_duration(text), milliseconds.map(Duration::from_millis), "{text}");
        }
        for text in ["0", "", "min", "1 week", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn status_is_sent_three_times_per_sender_timeout() {
        let now = Instant::now();
        for (timeout, interval) in [(Some(60_000), 5_000), (Some(3000), 1000), (None, 5_000), (Some(3), 100)]
        {
            let heartbeat = Heartbeat::new(timeout.map(Duration::from_millis), SILENCE_MAX, now);
            assert_eq!(heartbeat.due() - now, Duration::from_millis(interval), "{timeout:?}");
        }
    }

    #[test]
    fn silent_server_is_probed_then_given_up() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut heartbeat = Heartbeat::new(None, SILENCE_MAX, start);
        assert!(!heartbeat.must_request_reply());
        heartbeat.note_sent(at(10), false);
        assert!(heartbeat.must_request_reply());
        assert_eq!(heartbeat.silence(at(1000)), None, "no reply was requested");
        heartbeat.note_sent(at(1000), true);
        heartbeat.note_sent(at(1010), true);
        assert_eq!(heartbeat.silence(at(1119)), None);
        assert_eq!(heartbeat.silence(at(1120)), Some(SILENCE_MAX));
        heartbeat.note_received(at(1121));
        assert_eq!(heartbeat.received_at(), at(1121));
        assert!(!heartbeat.must_request_reply());
        assert_eq!(heartbeat.silence(at(9999)), None);
    }

    /// A transaction that takes ten minutes to skip is passed in the fourth attempt.
    #[test]
    fn patience_doubles_at_the_same_position() {
        let mut patience = Patience::new(SILENCE_MAX);
        let (here, further) = (Lsn::new(100), Lsn::new(200));
        for minutes in [2, 4, 8, 16] {
            assert_eq!(patience.limit(here), Duration::from_mins(minutes));
            patience.exhausted(here);
            // The connection may have delivered nothing before it timed out.
            if minutes == 4 {
                assert_eq!(patience.limit(Lsn::ZERO), Duration::from_mins(8));
            }
        }
        for _ in 0..10 {
            patience.exhausted(here);
        }
        assert_eq!(patience.limit(here), PATIENCE_MAX);
        patience.exhausted(further);
        assert_eq!(patience.limit(here), SILENCE_MAX * 2, "it had passed the position");
        assert_eq!(patience.limit(Lsn::new(201)), SILENCE_MAX, "all is well again");
    }

    /// A busy server is waited for, but not forever: a stopped process looks the same.
    #[test]
    fn busy_server_is_given_more_time() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(None, SILENCE_MAX, start);
        heartbeat.note_sent(start, true);
        let at = |minutes| start + Duration::from_mins(minutes);
        assert!(heartbeat.silence(at(2)).is_some());
        assert!(heartbeat.is_busy(at(2)));
        assert_eq!(heartbeat.silence(at(3)), None);
        assert!(heartbeat.silence(at(4)).is_some());
        assert!(!heartbeat.is_busy(at(240)));
    }

    #[test]
    fn status_request_makes_status_due() {
        let now = Instant::now();
        let mut heartbeat = Heartbeat::new(None, SILENCE_MAX, now);
        assert!(!heartbeat.is_due(now));
        heartbeat.send_now();
        assert!(heartbeat.is_due(now));
        heartbeat.note_sent(now, false);
        assert!(!heartbeat.is_due(now));
    }
}
