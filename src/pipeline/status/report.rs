//! A snapshot of the status: plain fields, computed at one point in time. This module does no I/O.
//!
//! The field names are those of `/status`. They do not change.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::heartbeat::HeartbeatStatus;
use super::parts::{FillStatus, IngestStatus, LagStatus, Moment, PublishStatus, SourceStatus};
use crate::buffer::ledger::Reached;
use crate::config::units::ByteAmount;
use crate::diagnosis::{Diagnosis, Severity};
use crate::sink::lanes::Lag;
use crate::sink::rate::Summary;
use crate::time;

/// Without progress for this long, the process is not ready. A probe every few seconds sees it within 15 s. A
/// healthy server sends something at least every 10 s, because keepalives are requested.
const STALLED_AFTER: Duration = Duration::from_secs(12);

/// From this many bytes on, retained WAL that grows without a limit is a warning.
const MUCH_WAL: u64 = 1 << 30;
/// A loss of the slot that is forecast within this time is a warning.
const FORESEEN: Duration = Duration::from_hours(24);

/// Everything, at one point in time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// `name` of the configuration.
    pub name: String,
    /// Version of the program.
    pub version: &'static str,
    /// When the process started.
    pub started_at: String,
    /// Seconds since then.
    pub uptime_seconds: f64,
    /// Whether the process does its work: no finding is a blocker.
    pub ready: bool,
    /// Problems; empty if there are none.
    pub findings: Vec<Diagnosis>,
    /// From the database into the buffer.
    pub ingest: Ingest,
    /// The buffer, once it is open.
    pub buffer: Option<Buffer>,
    /// From the buffer into the stream.
    pub publish: Publish,
    /// The replication slot and the publication.
    pub slot: SourceReport,
    /// How late events are.
    pub lag: LagReport,
    /// The heartbeat.
    pub heartbeat: HeartbeatReport,
}

/// The heartbeat (`source.heartbeat`).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(clippy::struct_field_names, reason = "the unit, as in the names of metrics")]
pub struct HeartbeatReport {
    /// Interval in seconds; null if it is off.
    pub every_seconds: Option<f64>,
    /// How long the last published heartbeat took from the database to the stream and its checkpoint.
    pub loop_seconds: Option<f64>,
    /// Seconds since that heartbeat was written.
    pub last_seconds: Option<f64>,
    /// How long the current heartbeat has been under way.
    pub waiting_seconds: Option<f64>,
}

/// How late events are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LagReport {
    /// Age of the oldest change that is unpublished or was published within the last second.
    pub seconds: f64,
    /// `max_lag`, if there is a limit.
    pub max_seconds: Option<f64>,
    /// Whether the limit is exceeded: Forebay is catching up.
    pub exceeded: bool,
    /// Since when.
    pub exceeded_at: Option<String>,
}

/// From the database into the buffer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ingest {
    /// Whether the replication stream is open.
    pub connected: bool,
    /// When it was opened.
    pub connected_at: Option<String>,
    /// Why it is not open.
    pub error: Option<String>,
    /// Time since the server last sent anything.
    pub silent_seconds: Option<f64>,
    /// Whether the log is full, so that the source is not read.
    pub paused: bool,
    /// When it was paused.
    pub paused_at: Option<String>,
    /// Highest position confirmed to the server in this process, as an LSN.
    pub confirmed_lsn: Option<String>,
    /// The same as a byte address.
    #[serde(skip)]
    pub confirmed_bytes: Option<u64>,
    /// When it was confirmed.
    pub confirmed_at: Option<String>,
}

/// The buffer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Buffer {
    /// Size of the log on disk.
    pub bytes: u64,
    /// `buffer.max_size`.
    pub max_bytes: u64,
    /// Changes received and not published.
    pub unpublished_frames: u64,
    /// Position of the last change received: epoch, commit LSN, ordinal.
    pub received_position: Option<String>,
    /// When its transaction was committed.
    pub received_commit_at: Option<String>,
    /// Position up to which everything is published.
    pub published_position: Option<String>,
    /// Growth of the log in bytes per second; null unless it has grown for minutes.
    pub growth_per_second: Option<f64>,
    /// Seconds until the log is full at this rate.
    pub full_in_seconds: Option<f64>,
    /// Free bytes on its disk.
    pub disk_free_bytes: Option<u64>,
    /// Seconds until its disk is full, at the growth of the last minutes.
    pub disk_full_in_seconds: Option<f64>,
}

/// From the buffer into the stream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Publish {
    /// Whether the stream accepts records, as far as known.
    pub available: bool,
    /// Why it does not.
    pub reason: Option<String>,
    /// Whether the stream's settings can be read.
    pub described: bool,
    /// When a record was last acknowledged.
    pub acknowledged_at: Option<String>,
    /// How long records have waited without any acknowledgement.
    pub waiting_seconds: f64,
    /// When the oldest unpublished change was committed.
    pub oldest_unpublished_commit_at: Option<String>,
    /// Seconds since then; 0 if everything is published.
    pub oldest_unpublished_seconds: f64,
    /// Whether publishing is halted before a poison record.
    pub halted: bool,
    /// Requests in flight.
    pub requests_in_flight: usize,
    /// Bytes of the log that were read ahead of the watermark.
    pub window_bytes: usize,
    /// Lanes that pause after a rejection.
    pub lanes_paused: usize,
    /// Lanes that a catch-up reader serves.
    pub lanes_detached: usize,
    /// Lag of the slowest of these lanes, in frames.
    pub lanes_behind_frames: u64,
    /// Age of the oldest unpublished change of these lanes.
    pub lanes_behind_seconds: f64,
    /// Shards with a reduced send rate.
    pub shards_limited: usize,
    /// Shards among them that accept nothing.
    pub shards_refusing: usize,
    /// Lowest rate in force, in records per second; 0 if no rate is limited.
    pub shard_rate_lowest_records: f64,
    /// Lowest rate in force, in bytes per second; 0 if no rate is limited.
    pub shard_rate_lowest_bytes: f64,
}

/// The replication slot and the publication.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SourceReport {
    /// When both were last checked.
    pub looked_at: Option<String>,
    /// WAL that PostgreSQL retains for the slot.
    pub retained_wal_bytes: Option<u64>,
    /// WAL after the slot's confirmed position.
    pub unconfirmed_wal_bytes: Option<u64>,
    /// Growth of retained WAL in bytes per second; null unless it has grown for minutes.
    pub wal_growth_per_second: Option<f64>,
    /// Seconds until the slot is lost at this rate.
    pub lost_in_seconds: Option<f64>,
    /// How long a polled source has had the same oldest running transaction. Rows written since then wait for
    /// it.
    pub horizon_age_seconds: Option<f64>,
    /// Tables that left the publication since the start.
    pub tables_gone: usize,
    /// Tables of `source.tables` that the publication does not send.
    pub tables_missing: usize,
    /// Whether the last check succeeded.
    pub watched: bool,
}

/// Facts about the buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct BufferFacts {
    pub(super) bytes: u64,
    pub(super) max_bytes: u64,
    pub(super) received: Reached,
    pub(super) published: Reached,
}

/// What the report is computed from.
#[derive(Clone, Debug)]
pub(super) struct Facts<'a> {
    pub(super) name: &'a str,
    pub(super) started: Moment,
    pub(super) ingest: IngestStatus,
    pub(super) publish: PublishStatus,
    pub(super) source: SourceStatus,
    pub(super) lag: LagStatus,
    pub(super) heartbeat: HeartbeatStatus,
    pub(super) fill: FillStatus,
    pub(super) buffer: Option<BufferFacts>,
}

impl Facts<'_> {
    /// Computes the report for `now`.
    pub(super) fn report(self, now: Instant) -> Report {
        let mut findings = Vec::new();
        findings.extend(self.source(now));
        findings.extend(self.stream(now).or_else(|| self.refused()));
        findings.extend(self.halted());
        findings.extend(self.full(now));
        findings.extend(self.growing(now));
        findings.extend(self.filling(now));
        findings.extend(self.late());
        findings.extend(self.without_heartbeat(now));
        findings.extend(self.source.warnings.iter().cloned());
        Report {
            name: self.name.to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            started_at: text(self.started.micros),
            uptime_seconds: self.started.age(now).as_secs_f64(),
            ready: findings.iter().all(|finding| finding.severity < Severity::Blocker),
            findings,
            ingest: self.ingest(now),
            buffer: self.buffer.map(|facts| buffer(facts, self.fill, now)),
            publish: self.publish(now),
            slot: SourceReport {
                looked_at: self.source.looked.map(|moment| text(moment.micros)),
                retained_wal_bytes: self.source.retained_bytes.map(|(retained, _)| retained),
                unconfirmed_wal_bytes: self.source.retained_bytes.map(|(_, unconfirmed)| unconfirmed),
                wal_growth_per_second: self.source.growth,
                lost_in_seconds: self
                    .source
                    .lost_at
                    .map(|at| at.saturating_duration_since(now).as_secs_f64()),
                horizon_age_seconds: self
                    .source
                    .horizon_since
                    .map(|since| now.saturating_duration_since(since).as_secs_f64()),
                tables_gone: self.source.tables_gone,
                tables_missing: self.source.tables_missing,
                watched: self.source.watched,
            },
            lag: LagReport {
                seconds: self.lag.lag.as_secs_f64(),
                max_seconds: self.lag.max.map(|max| max.as_secs_f64()),
                exceeded: self.lag.exceeded_at.is_some(),
                exceeded_at: self.lag.exceeded_at.map(text),
            },
            heartbeat: HeartbeatReport {
                every_seconds: self.heartbeat.every.map(|every| every.as_secs_f64()),
                loop_seconds: self.heartbeat.last.map(|(took, _)| took.as_secs_f64()),
                last_seconds: self
                    .heartbeat
                    .last
                    .map(|(_, written)| now.saturating_duration_since(written).as_secs_f64()),
                waiting_seconds: self.heartbeat.waiting(now).map(|waiting| waiting.as_secs_f64()),
            },
        }
    }

    fn source(&self, now: Instant) -> Option<Diagnosis> {
        let ingest = &self.ingest;
        if ingest.connected.is_none() {
            let reason = ingest.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
            return Some(Diagnosis::blocker("source", format!("the replication stream is not open{reason}")));
        }
        let silence = self.silence(now).filter(|silence| *silence >= STALLED_AFTER)?;
        let fact = format!("nothing has been received from the database for {} s", silence.as_secs());
        Some(Diagnosis::blocker("source", fact))
    }

    /// How long the server has sent nothing although the loop reads.
    fn silence(&self, now: Instant) -> Option<Duration> {
        let reads = self.ingest.connected.is_some() && self.ingest.paused.is_none();
        self.ingest.last_received.filter(|_| reads).map(|at| now.saturating_duration_since(at))
    }

    fn waiting(&self, now: Instant) -> Duration {
        self.publish.waiting.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    fn stream(&self, now: Instant) -> Option<Diagnosis> {
        let publish = &self.publish;
        if let Some(reason) = &publish.unavailable {
            return Some(Diagnosis::blocker("stream", format!("Kinesis is unavailable: {reason}")));
        }
        if !publish.begun {
            return Some(Diagnosis::blocker("stream", "the stream has not been described yet"));
        }
        let waiting = self.waiting(now);
        // A halt is a finding of its own.
        if waiting < STALLED_AFTER || publish.halted {
            return None;
        }
        let reason = publish.refused.as_deref().map(|text| format!(": {text}")).unwrap_or_default();
        let fact = format!("Kinesis has acknowledged nothing for {} s{reason}", waiting.as_secs());
        Some(Diagnosis::blocker("stream", fact))
    }

    /// A warning if some keys have been rejected for long while others are accepted.
    fn refused(&self) -> Option<Diagnosis> {
        let publish = &self.publish;
        let age = publish.oldest.map_or(0.0, age_of);
        if publish.rejected_keys == 0 || age < STALLED_AFTER.as_secs_f64() || publish.halted {
            return None;
        }
        let reason = publish.refused.as_deref().map(|text| format!(": {text}")).unwrap_or_default();
        let fact = format!(
            "some keys are refused, the oldest change for {age:.0} s{reason}; others are published (keys refused: {})",
            publish.rejected_keys
        );
        Some(Diagnosis::warning("stream", fact))
    }

    fn halted(&self) -> Option<Diagnosis> {
        let fact = "publishing is halted before a record that cannot be published (on_poison = \"stop\")";
        self.publish.halted.then(|| Diagnosis::blocker("publish", fact).with_command("forebay dlq list"))
    }

    /// A blocker if the log stays full while nothing is confirmed: that fills the database's disk. A full log
    /// whose backlog drains is no blocker, because segments are reclaimed, and the slot is confirmed, about
    /// once a second.
    fn full(&self, now: Instant) -> Option<Diagnosis> {
        let full = self.ingest.paused?;
        let since = self.ingest.confirmed.map_or(full.at, |(_, confirmed)| confirmed.at.max(full.at));
        if now.saturating_duration_since(since) < STALLED_AFTER {
            return Some(Diagnosis::warning("buffer", "the log is full; the source is paused"));
        }
        Some(Diagnosis::blocker("buffer", "the log is full and does not drain; PostgreSQL retains WAL"))
    }

    /// A warning if the source retains ever more of its log.
    fn growing(&self, now: Instant) -> Option<Diagnosis> {
        let (growth, (retained, _)) = (self.source.growth?, self.source.retained_bytes?);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bytes a second for people"
        )]
        let rate = ByteAmount(growth as u64);
        let fact =
            format!("PostgreSQL retains {} of WAL, and it grows by {rate} a second", ByteAmount(retained));
        let hint = "Find out what keeps Forebay from confirming: see the other findings, and long transactions in the database.";
        let Some(lost_at) = self.source.lost_at else {
            let fact = format!("{fact}; nothing limits it but the disk");
            return (retained >= MUCH_WAL).then(|| Diagnosis::warning("slot", fact).with_hint(hint));
        };
        let left = lost_at.saturating_duration_since(now);
        let fact = format!(
            "{fact}; at this rate the slot is lost in {} min (max_slot_wal_keep_size)",
            left.as_secs() / 60
        );
        (left < FORESEEN).then(|| Diagnosis::warning("slot", fact).with_hint(hint))
    }

    fn ingest(&self, now: Instant) -> Ingest {
        let ingest = &self.ingest;
        Ingest {
            connected: ingest.connected.is_some(),
            connected_at: ingest.connected.map(|moment| text(moment.micros)),
            error: ingest.error.clone(),
            silent_seconds: self.silence(now).map(|silence| silence.as_secs_f64()),
            paused: ingest.paused.is_some(),
            paused_at: ingest.paused.map(|moment| text(moment.micros)),
            confirmed_lsn: ingest.confirmed.map(|(lsn, _)| lsn.to_string()),
            confirmed_bytes: ingest.confirmed.map(|(lsn, _)| lsn.get()),
            confirmed_at: ingest.confirmed.map(|(_, moment)| text(moment.micros)),
        }
    }

    fn publish(&self, now: Instant) -> Publish {
        let publish = &self.publish;
        let Lag { lanes, frames, oldest } = publish.lag;
        let Summary { limited, stuck, lowest } = publish.rates;
        let [records, bytes] = lowest.unwrap_or_default();
        let unavailable = self.stream(now);
        Publish {
            available: unavailable.is_none(),
            reason: unavailable.map(|finding| finding.fact),
            described: publish.described,
            acknowledged_at: publish.acknowledged.map(|moment| text(moment.micros)),
            waiting_seconds: self.waiting(now).as_secs_f64(),
            oldest_unpublished_commit_at: publish.oldest.map(text),
            oldest_unpublished_seconds: publish.oldest.map_or(0.0, age_of),
            halted: publish.halted,
            requests_in_flight: publish.in_flight,
            window_bytes: publish.window_bytes,
            lanes_paused: publish.paused_lanes,
            lanes_detached: lanes,
            lanes_behind_frames: frames,
            lanes_behind_seconds: oldest.map_or(0.0, age_of),
            shards_limited: limited,
            shards_refusing: stuck,
            shard_rate_lowest_records: records,
            shard_rate_lowest_bytes: bytes,
        }
    }
}

fn buffer(facts: BufferFacts, fill: FillStatus, now: Instant) -> Buffer {
    let left = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(now).as_secs_f64());
    let BufferFacts { bytes, max_bytes, received, published } = facts;
    Buffer {
        bytes,
        max_bytes,
        unpublished_frames: received.mark.frame.0.saturating_sub(published.mark.frame.0),
        received_position: received.mark.position.map(|position| position.to_string()),
        received_commit_at: received.transaction.map(|transaction| text(transaction.time)),
        published_position: published.mark.position.map(|position| position.to_string()),
        growth_per_second: fill.log_growth,
        full_in_seconds: left(fill.log_full_at),
        disk_free_bytes: fill.disk_free,
        disk_full_in_seconds: left(fill.disk_full_at),
    }
}

/// Microseconds since the Unix epoch, as RFC 3339.
pub(super) fn text(micros: i64) -> String {
    let mut out = Vec::new();
    time::write_rfc3339(&mut out, micros);
    String::from_utf8_lossy(&out).into_owned()
}

/// Seconds from `micros` until now by the wall clock; 0 for the future, because the database's clock may be
/// ahead.
fn age_of(micros: i64) -> f64 {
    let age = time::now_micros().saturating_sub(micros).max(0);
    Duration::from_micros(age.unsigned_abs()).as_secs_f64()
}

#[cfg(test)]
mod tests;
