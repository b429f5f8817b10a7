//! When to tell the server that we are alive, and when to doubt that it is. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// The server by default hangs up after 60 s without a word from us.
const INTERVAL_MAX: Duration = Duration::from_secs(10);
/// Shorter ones would keep both sides busy with nothing.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// A dead machine is noticed by TCP in a minute; this is for a server that lives and hangs. It leaves time for a server
/// that skips a very large transaction without a word, as versions before 15 do.
pub const SILENCE_MAX: Duration = Duration::from_mins(2);

/// The rhythm of status messages.
#[derive(Debug)]
pub struct Heartbeat {
    interval: Duration,
    silence_max: Duration,
    due: Instant,
    said: Instant,
    heard_since_said: bool,
    /// When an answer was asked for that has not come. Time in which we did not read does not count as silence.
    asked: Option<Instant>,
}

impl Heartbeat {
    /// For this `wal_sender_timeout`; `None` is none.
    pub fn new(sender_timeout: Option<Duration>, silence_max: Duration, now: Instant) -> Self {
        let interval = sender_timeout.map_or(INTERVAL_MAX, |timeout| timeout / 3);
        let interval = interval.min(silence_max / 3).clamp(INTERVAL_MIN, INTERVAL_MAX);
        Self { interval, silence_max, due: now + interval, said: now, heard_since_said: true, asked: None }
    }

    /// When the next status is due.
    pub const fn due(&self) -> Instant {
        self.due
    }

    /// Whether it is.
    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.due
    }

    /// A status was sent, that asks for an answer or not.
    pub fn said(&mut self, now: Instant, ask: bool) {
        self.said = now;
        if ask {
            self.asked.get_or_insert(now);
        }
        self.due = now + self.interval;
        self.heard_since_said = false;
    }

    /// Something was received.
    pub const fn heard(&mut self) {
        self.heard_since_said = true;
        self.asked = None;
    }

    /// The server asks for a status: it is due.
    pub const fn answer_now(&mut self) {
        self.due = self.said;
    }

    /// Whether the next status must ask for an answer: nothing came since the last one.
    pub const fn must_ask(&self) -> bool {
        !self.heard_since_said
    }

    /// How long an answer has been missing, if that is too long.
    pub fn silence(&self, now: Instant) -> Option<Duration> {
        let silence = now.saturating_duration_since(self.asked?);
        (silence >= self.silence_max).then_some(silence)
    }
}

/// A duration as Postgres prints a setting: `1min`, `90s`, `500ms`, `2h`, `1d`, or bare milliseconds; 0 is none.
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
    fn settings_are_read_as_postgres_prints_them() {
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
    fn status_is_sent_three_times_in_the_servers_patience() {
        let now = Instant::now();
        for (timeout, interval) in
            [(Some(60_000), 10_000), (Some(3000), 1000), (None, 10_000), (Some(3), 100)]
        {
            let heartbeat = Heartbeat::new(timeout.map(Duration::from_millis), SILENCE_MAX, now);
            assert_eq!(heartbeat.due() - now, Duration::from_millis(interval), "{timeout:?}");
        }
    }

    #[test]
    fn silence_is_asked_about_and_then_given_up() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut heartbeat = Heartbeat::new(None, SILENCE_MAX, start);
        assert!(!heartbeat.must_ask());
        heartbeat.said(at(10), false);
        assert!(heartbeat.must_ask());
        assert_eq!(heartbeat.silence(at(1000)), None, "nobody has asked");
        heartbeat.said(at(1000), true);
        heartbeat.said(at(1010), true);
        assert_eq!(heartbeat.silence(at(1119)), None);
        assert_eq!(heartbeat.silence(at(1120)), Some(SILENCE_MAX));
        heartbeat.heard();
        assert!(!heartbeat.must_ask());
        assert_eq!(heartbeat.silence(at(9999)), None);
    }

    #[test]
    fn a_request_for_a_status_makes_it_due() {
        let now = Instant::now();
        let mut heartbeat = Heartbeat::new(None, SILENCE_MAX, now);
        assert!(!heartbeat.is_due(now));
        heartbeat.answer_now();
        assert!(heartbeat.is_due(now));
        heartbeat.said(now, false);
        assert!(!heartbeat.is_due(now));
    }
}
