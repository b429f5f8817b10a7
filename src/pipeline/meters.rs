//! The metrics: names, descriptions, and how they get their values. Users rely on the names, so they do not
//! change.
//!
//! Counters are incremented at the event. Gauges are computed from the [`Report`] at each scrape, so that
//! ages are correct even while a loop hangs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use crate::pipeline::status::{EventTypeCounts, Report, Traffic};
use crate::sink::lanes::Settlement;
use crate::sink::shards::ShardLoad;

const BUILD: &str = "forebay_build_info";
const CONNECTED: &str = "forebay_source_connected";
const SILENT: &str = "forebay_source_silent_seconds";
const PAUSED: &str = "forebay_source_paused";
const CONFIRMED: &str = "forebay_source_confirmed_lsn_bytes";
const SLOT_RETAINED: &str = "forebay_slot_retained_wal_bytes";
const SLOT_LOST_IN: &str = "forebay_slot_loss_forecast_seconds";
const SLOT_UNCONFIRMED: &str = "forebay_slot_unconfirmed_wal_bytes";
const TABLES_MISSING: &str = "forebay_publication_tables_missing";
const SHARD_THROTTLED: &str = "forebay_shard_throttled_total";
const AGE_AT_PUBLISH: &str = "forebay_event_age_at_publish_seconds";
const LATENCY: &str = "forebay_commit_to_acknowledged_seconds";
const EVENTS: &str = "forebay_events_total";
const PUBLICATION_CHANGES: &str = "forebay_publication_changes_total";
const WATCHDOG: &str = "forebay_watchdog_up";
const HORIZON_AGE: &str = "forebay_source_horizon_age_seconds";
const TABLES_GONE: &str = "forebay_publication_tables_gone";
const LOG_BYTES: &str = "forebay_log_bytes";
const LOG_UNPUBLISHED: &str = "forebay_log_frames_unpublished";
const OLDEST: &str = "forebay_oldest_unpublished_seconds";
const LAG: &str = "forebay_lag_seconds";
const LAG_EXCEEDED: &str = "forebay_lag_exceeded";
const HEARTBEAT_LOOP: &str = "forebay_heartbeat_loop_seconds";
const HEARTBEAT_AGE: &str = "forebay_heartbeat_age_seconds";
const LOG_FULL_IN: &str = "forebay_log_full_forecast_seconds";
const DISK_FULL_IN: &str = "forebay_disk_full_forecast_seconds";
const SERVICE: &str = "forebay_kinesis_available";
const DESCRIBED: &str = "forebay_kinesis_described";
const WAITING: &str = "forebay_publish_stalled_seconds";
const HALTED: &str = "forebay_publishing_halted";
const WINDOW: &str = "forebay_window_bytes";
const IN_FLIGHT: &str = "forebay_requests_in_flight";
const PAUSED_LANES: &str = "forebay_lanes_paused";
const DETACHED: &str = "forebay_lanes_detached";
const BEHIND: &str = "forebay_lanes_behind_frames";
const BEHIND_SECONDS: &str = "forebay_lanes_behind_seconds";
const SHARDS_LIMITED: &str = "forebay_shards_limited";
const SHARDS_REFUSING: &str = "forebay_shards_refusing";
const RATE_RECORDS: &str = "forebay_shard_rate_lowest_records";
const RATE_BYTES: &str = "forebay_shard_rate_lowest_bytes";

const UNTRANSLATABLE: &str = "forebay_changes_untranslatable_total";
const UNDECIDED: &str = "forebay_rules_undecided_total";
const SENT: &str = "forebay_records_sent_total";
const ACCEPTED: &str = "forebay_records_accepted_total";
const ACCEPTED_BYTES: &str = "forebay_records_accepted_bytes_total";
const ACCEPTED_EVENTS: &str = "forebay_events_accepted_total";
const VIOLATIONS: &str = "forebay_order_violations_total";
const REJECTED: &str = "forebay_records_rejected_total";
const QUARANTINED: &str = "forebay_records_quarantined_total";
const DEAD_LETTER_BYTES: &str = "forebay_dead_letter_file_bytes";
const DEAD_LETTER_BYTES_MAX: &str = "forebay_dead_letter_file_max_bytes";
const DEAD_LETTERS_BLOCKED: &str = "forebay_dead_letters_blocked";
const UNACCOUNTED: &str = "forebay_events_unaccounted";
const RETRIES: &str = "forebay_loop_restarts_total";
const LOG_LINES_DROPPED: &str = "forebay_stderr_lines_dropped_total";

/// Gauges and their descriptions.
const GAUGES: [(&str, &str); 39] = [
    (BUILD, "Version of the program, as a label; always 1"),
    (CONNECTED, "1 while the replication stream is open"),
    (SILENT, "Time since the database sent anything, while it is read; it is asked at least every 10 s"),
    (PAUSED, "1 while the log is full and PostgreSQL retains WAL"),
    (CONFIRMED, "Highest LSN confirmed to PostgreSQL, as a byte address"),
    (SLOT_RETAINED, "WAL that PostgreSQL retains for the slot"),
    (
        SLOT_LOST_IN,
        "Time until the slot is lost to max_slot_wal_keep_size at the present growth; +Inf if none is foreseen",
    ),
    (SLOT_UNCONFIRMED, "WAL after the slot's confirmed position"),
    (
        HORIZON_AGE,
        "Polling only: how long the oldest running transaction is the same; rows written since then wait for it",
    ),
    (TABLES_GONE, "Tables that left the publication since the start; their changes are not sent"),
    (TABLES_MISSING, "Tables of source.tables that the publication does not send"),
    (WATCHDOG, "1 while the publication and the slot can be checked"),
    (LOG_BYTES, "Size of the log on disk"),
    (LOG_UNPUBLISHED, "Changes received and not published"),
    (LAG, "Age of the oldest change that is unpublished or was published within the last second"),
    (LAG_EXCEEDED, "1 while that age is above max_lag: Forebay is catching up"),
    (
        HEARTBEAT_LOOP,
        "How long the last heartbeat took from the database to the stream and the checkpoint; 0 without one",
    ),
    (
        HEARTBEAT_AGE,
        "Time since the last heartbeat that is published was written; 0 without source.heartbeat",
    ),
    (
        LOG_FULL_IN,
        "Time until the log is full (buffer.max_size) at the present growth; +Inf if none is foreseen",
    ),
    (
        DISK_FULL_IN,
        "Time until the disk of buffer.dir is full at the present growth; +Inf if none is foreseen",
    ),
    (OLDEST, "Age of the oldest unpublished change, since its commit; 0 if everything is published"),
    (
        SERVICE,
        "1 while Kinesis accepts records; 0 if it has acknowledged nothing for 12 s although records wait",
    ),
    (DESCRIBED, "1 while the stream's settings can be read, so that a recreated stream is detected"),
    (WAITING, "Time for which records have waited without any acknowledgement; 0 if none waits"),
    (HALTED, "1 while publishing is halted before a poison record (on_poison = stop)"),
    (DEAD_LETTER_BYTES, "Size of the dead-letter file"),
    (DEAD_LETTER_BYTES_MAX, "Largest size of the dead-letter file (buffer.max_dead_letter_size)"),
    (DEAD_LETTERS_BLOCKED, "Dead letters of the last batch that found no room; events of their keys wait"),
    (UNACCOUNTED, "Events that the watermark has passed, and that are neither published nor dead letters"),
    (WINDOW, "Log read ahead of what is published"),
    (IN_FLIGHT, "Requests to Kinesis without a response"),
    (PAUSED_LANES, "Lanes (256ths of the hash range) that wait after a refusal"),
    (DETACHED, "Lanes that lag behind and are served by a catch-up reader"),
    (BEHIND, "Lag of the slowest detached lane, in frames of the log"),
    (BEHIND_SECONDS, "Age of the oldest unpublished change of the detached lanes"),
    (SHARDS_LIMITED, "Shards with a reduced send rate, because they throttled recently"),
    (SHARDS_REFUSING, "Shards that accept nothing and are tried with single records"),
    (RATE_RECORDS, "Lowest rate in force for any shard, in records a second; 0 while none is"),
    (RATE_BYTES, "Lowest rate in force for any shard, in bytes a second; 0 while none is"),
];

/// Counters and their descriptions.
const COUNTERS: [(&str, &str); 12] = [
    (UNTRANSLATABLE, "Changes that became dead letters because they could not be read or translated"),
    (UNDECIDED, "Rule conditions skipped because a referenced column was not sent (unchanged TOAST value)"),
    (SENT, "Records sent to Kinesis, retries included"),
    (ACCEPTED, "Records accepted by Kinesis"),
    (ACCEPTED_BYTES, "Size of accepted records, data and partition keys"),
    (ACCEPTED_EVENTS, "Events in accepted records: more than records where records are packed"),
    (VIOLATIONS, "Records that Kinesis did not number above an earlier record of the same key and shard"),
    (REJECTED, "Records to be retried, by reason: throttled, failed, unacknowledged"),
    (QUARANTINED, "Records written to the dead-letter file"),
    (PUBLICATION_CHANGES, "Changes of the publication that may leave something out of the stream"),
    (RETRIES, "Restarts of a loop, by loop: ingest, publish"),
    (
        LOG_LINES_DROPPED,
        "Lines of the log that were dropped because the reader of standard error did not keep up",
    ),
];

/// Histograms and their descriptions. Their buckets are fixed.
const HISTOGRAMS: [(&str, &str); 2] = [
    (AGE_AT_PUBLISH, "Age of a change, since its commit, when its record was sent"),
    (LATENCY, "Time from the commit of a change until its record was acknowledged"),
];

/// Counters with a label per event type, and their descriptions. A series appears with its first event.
const LABELLED: [(&str, &str); 1] =
    [(EVENTS, "Events by type and outcome: received, filtered, published, quarantined")];

/// Description of the counter per shard, which this module prints itself.
const SHARD_THROTTLED_MEANING: &str = "Records that were throttled, by shard; only shards that are open";

/// Most values of a label. All later values share [`OTHERS`].
const LABELS_MAX: usize = 128;
/// Value of the label for all others.
const OTHERS: &str = "(others)";

/// Registers the descriptions, and starts every counter at 0: an alert on an increase would miss a counter
/// that appears as 1.
pub fn describe() {
    let unit = |name: &str| match name.trim_end_matches("_total") {
        name if name.ends_with("_bytes") => Unit::Bytes,
        name if name.ends_with("_seconds") => Unit::Seconds,
        _ => Unit::Count,
    };
    for (name, meaning) in GAUGES {
        describe_gauge!(name, unit(name), meaning);
    }
    for (name, meaning) in COUNTERS {
        describe_counter!(name, unit(name), meaning);
        match name {
            REJECTED => {
                for reason in ["throttled", "failed", "unacknowledged"] {
                    counter!(REJECTED, "reason" => reason).increment(0);
                }
            }
            RETRIES => {
                for name in ["ingest", "publish"] {
                    counter!(RETRIES, "loop" => name).increment(0);
                }
            }
            name => counter!(name).increment(0),
        }
    }
    for (name, meaning) in LABELLED {
        describe_counter!(name, Unit::Count, meaning);
    }
}

/// The counters of throttled records in Prometheus text format: one series per open shard, at most
/// `LABELS_MAX`. The metrics recorder would keep the series of closed shards until the process ends.
pub fn throttled_shards(loads: &[ShardLoad]) -> String {
    let mut out =
        format!("# HELP {SHARD_THROTTLED} {SHARD_THROTTLED_MEANING}\n# TYPE {SHARD_THROTTLED} counter\n");
    for load in loads.iter().take(LABELS_MAX) {
        // Shard names come from the service and must not break the format.
        let shard = load.shard.replace(['\\', '"', '\n'], "_");
        let written = writeln!(out, "{SHARD_THROTTLED}{{shard=\"{shard}\"}} {}", load.throttled);
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
    }
    out + "\n"
}

/// The histograms in Prometheus text format.
pub fn histograms(traffic: &Traffic) -> String {
    let of = [&traffic.age, &traffic.latency];
    HISTOGRAMS.iter().zip(of).map(|((name, meaning), histogram)| histogram.expose(name, meaning)).collect()
}

/// Sets the counters of event types.
pub fn show_events(counts: &BTreeMap<String, EventTypeCounts>) {
    let mut others = EventTypeCounts::default();
    let set = |name: &str, counts: EventTypeCounts| {
        for (outcome, value) in [
            ("received", counts.received),
            ("filtered", counts.filtered),
            ("published", counts.published),
            ("quarantined", counts.quarantined),
        ] {
            counter!(EVENTS, "type" => name.to_owned(), "outcome" => outcome).absolute(value);
        }
    };
    let is_new = counts.len() <= LABELS_MAX;
    for (at, (name, counts)) in counts.iter().enumerate() {
        if is_new || at < LABELS_MAX {
            set(name, *counts);
        } else {
            others.received += counts.received;
            others.filtered += counts.filtered;
            others.published += counts.published;
            others.quarantined += counts.quarantined;
        }
    }
    if others != EventTypeCounts::default() {
        set(OTHERS, others);
    }
}

/// Sets the gauges from a report.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float, exact up to 2^53")]
pub fn show(report: &Report) {
    let is = |yes: bool| f64::from(u8::from(yes));
    let (ingest, publish, slot) = (&report.ingest, &report.publish, &report.slot);
    gauge!(BUILD, "version" => report.version).set(1.0);
    gauge!(CONNECTED).set(is(ingest.connected));
    gauge!(SILENT).set(ingest.silent_seconds.unwrap_or_default());
    gauge!(PAUSED).set(is(ingest.paused));
    gauge!(TABLES_GONE).set(slot.tables_gone as f64);
    gauge!(TABLES_MISSING).set(slot.tables_missing as f64);
    gauge!(WATCHDOG).set(is(slot.watched));
    // Unknown values are left out: 0 would be wrong.
    for (name, value) in [
        (CONFIRMED, ingest.confirmed_bytes),
        (SLOT_RETAINED, slot.retained_wal_bytes),
        (SLOT_UNCONFIRMED, slot.unconfirmed_wal_bytes),
        (LOG_BYTES, report.buffer.as_ref().map(|buffer| buffer.bytes)),
        (LOG_UNPUBLISHED, report.buffer.as_ref().map(|buffer| buffer.unpublished_frames)),
    ] {
        if let Some(value) = value {
            gauge!(name).set(value as f64);
        }
    }
    gauge!(SLOT_LOST_IN).set(slot.lost_in_seconds.unwrap_or(f64::INFINITY));
    gauge!(HORIZON_AGE).set(slot.horizon_age_seconds.unwrap_or_default());
    gauge!(LAG).set(report.lag.seconds);
    gauge!(LAG_EXCEEDED).set(is(report.lag.exceeded));
    let heartbeat = &report.heartbeat;
    gauge!(HEARTBEAT_LOOP).set(heartbeat.loop_seconds.unwrap_or_default());
    // Before the first heartbeat is published, its age is the time since it was written.
    gauge!(HEARTBEAT_AGE).set(heartbeat.last_seconds.or(heartbeat.waiting_seconds).unwrap_or_default());
    let buffer = report.buffer.as_ref();
    gauge!(LOG_FULL_IN).set(buffer.and_then(|buffer| buffer.full_in_seconds).unwrap_or(f64::INFINITY));
    gauge!(DISK_FULL_IN).set(buffer.and_then(|buffer| buffer.disk_full_in_seconds).unwrap_or(f64::INFINITY));
    gauge!(OLDEST).set(publish.oldest_unpublished_seconds);
    gauge!(SERVICE).set(is(publish.available));
    gauge!(DESCRIBED).set(is(publish.described));
    gauge!(WAITING).set(publish.waiting_seconds);
    gauge!(HALTED).set(is(publish.halted));
    gauge!(WINDOW).set(publish.window_bytes as f64);
    gauge!(IN_FLIGHT).set(publish.requests_in_flight as f64);
    gauge!(PAUSED_LANES).set(publish.lanes_paused as f64);
    gauge!(DETACHED).set(publish.lanes_detached as f64);
    gauge!(BEHIND).set(publish.lanes_behind_frames as f64);
    gauge!(BEHIND_SECONDS).set(publish.lanes_behind_seconds);
    // No label per shard: shards come and go, so the number of series would grow. The log names the shards.
    gauge!(SHARDS_LIMITED).set(publish.shards_limited as f64);
    gauge!(SHARDS_REFUSING).set(publish.shards_refusing as f64);
    gauge!(RATE_RECORDS).set(publish.shard_rate_lowest_records);
    gauge!(RATE_BYTES).set(publish.shard_rate_lowest_bytes);
}

pub(super) fn untranslatable() {
    counter!(UNTRANSLATABLE).increment(1);
}

pub(super) fn undecided(conditions: u64) {
    if conditions > 0 {
        counter!(UNDECIDED).increment(conditions);
    }
}

pub(super) fn sent(records: usize) {
    counter!(SENT).increment(wide(records));
}

pub(super) fn settled(settlement: &Settlement) {
    counter!(ACCEPTED).increment(wide(settlement.accepted));
    counter!(ACCEPTED_BYTES).increment(wide(settlement.accepted_bytes));
    counter!(ACCEPTED_EVENTS).increment(wide(settlement.accepted_events));
    if settlement.violations > 0 {
        counter!(VIOLATIONS).increment(wide(settlement.violations));
    }
    for (reason, records) in [
        ("throttled", settlement.throttled),
        ("failed", settlement.failed),
        ("unacknowledged", settlement.without_response),
    ] {
        if records > 0 {
            counter!(REJECTED, "reason" => reason).increment(wide(records));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(super) fn dead_letter_file(bytes: u64, max: u64) {
    gauge!(DEAD_LETTER_BYTES).set(bytes as f64);
    gauge!(DEAD_LETTER_BYTES_MAX).set(max as f64);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(super) fn dead_letters_blocked(records: usize) {
    gauge!(DEAD_LETTERS_BLOCKED).set(records as f64);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(super) fn unaccounted(events: u64) {
    gauge!(UNACCOUNTED).set(events as f64);
}

pub(super) fn quarantined() {
    counter!(QUARANTINED).increment(1);
}

/// Counts differences of the publication from its last known state.
pub fn publication_changed(differences: u64) {
    counter!(PUBLICATION_CHANGES).increment(differences);
}

/// Counts a line that was dropped because the reader of standard error did not keep up.
pub fn log_line_dropped() {
    counter!(LOG_LINES_DROPPED).increment(1);
}

pub(super) fn restarted(name: &'static str) {
    counter!(RETRIES, "loop" => name).increment(1);
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resharding every hour must not grow the metrics page for the life of the process.
    #[test]
    fn closed_shard_has_no_series_any_more() {
        let load = |shard: &str| ShardLoad {
            shard: shard.to_owned(),
            range: 500,
            records: 9,
            bytes: 90,
            throttled: 4,
            limited: false,
            refusing: false,
        };
        let page = throttled_shards(&[load("shardId-1"), load("shard\"2\nx")]);
        assert!(page.contains("forebay_shard_throttled_total{shard=\"shardId-1\"} 4\n"), "{page}");
        assert!(page.contains("{shard=\"shard_2_x\"} 4\n"), "{page}");
        assert!(!throttled_shards(&[load("shardId-3")]).contains("shardId-1"));
        let many: Vec<_> = (0..LABELS_MAX + 9).map(|nth| load(&nth.to_string())).collect();
        assert_eq!(throttled_shards(&many).matches("{shard=").count(), LABELS_MAX);
    }
}
