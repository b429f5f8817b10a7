//! What the loops count. The names are part of what users rely on; what they mean is said once, in [`describe`].

use std::time::{Duration, SystemTime};

use metrics::{counter, describe_counter, describe_gauge, gauge};

use crate::buffer::keeper::{LOG_BYTES, LOG_UNPUBLISHED};
use crate::pipeline::health::{self, End};
use crate::position::Lsn;
use crate::sink::lanes::{Lag, Settlement};
use crate::sink::shards::Summary;

const UNTRANSLATABLE: &str = "forebay_changes_untranslatable_total";
const UNDECIDED: &str = "forebay_rules_undecided_total";
const PAUSED: &str = "forebay_source_paused";
const CONFIRMED: &str = "forebay_source_confirmed_lsn_bytes";
/// 1 while the replication stream is open.
pub const CONNECTED: &str = "forebay_source_connected";
/// 1 while Kinesis answers.
pub const SERVICE: &str = "forebay_kinesis_available";
const DESCRIBED: &str = "forebay_kinesis_described";
const SENT: &str = "forebay_records_sent_total";
const ACCEPTED: &str = "forebay_records_accepted_total";
const ACCEPTED_BYTES: &str = "forebay_records_accepted_bytes_total";
const ACCEPTED_EVENTS: &str = "forebay_events_accepted_total";
const VIOLATIONS: &str = "forebay_order_violations_total";
const REFUSED: &str = "forebay_records_refused_total";
const QUARANTINED: &str = "forebay_records_quarantined_total";
/// 1 while publishing stands before a record that cannot leave.
pub const HALTED: &str = "forebay_publishing_halted";
const TABLES_GONE: &str = "forebay_publication_tables_gone";
const SLOT_RETAINED: &str = "forebay_slot_retained_wal_bytes";
const SLOT_UNCONFIRMED: &str = "forebay_slot_unconfirmed_wal_bytes";
const WINDOW: &str = "forebay_window_bytes";
const IN_FLIGHT: &str = "forebay_requests_in_flight";
const PAUSED_LANES: &str = "forebay_lanes_paused";
const SHARDS_LIMITED: &str = "forebay_shards_limited";
const SHARDS_REFUSING: &str = "forebay_shards_refusing";
const RATE_RECORDS: &str = "forebay_shard_rate_lowest_records";
const RATE_BYTES: &str = "forebay_shard_rate_lowest_bytes";
const DETACHED: &str = "forebay_lanes_detached";
const BEHIND: &str = "forebay_lanes_behind_frames";
const BEHIND_SECONDS: &str = "forebay_lanes_behind_seconds";
const RETRIES: &str = "forebay_loop_restarts_total";

/// Tells the exporter what each name means.
pub fn describe() {
    describe_counter!(
        UNTRANSLATABLE,
        "Changes that became dead letters because they could not be read or translated"
    );
    describe_counter!(
        UNDECIDED,
        "Conditions of rules that hung on a value the server did not send: no event was made"
    );
    describe_gauge!(PAUSED, "1 while the log is full and Postgres keeps its write-ahead log");
    describe_gauge!(CONFIRMED, "Highest log sequence number confirmed to Postgres, as a byte address");
    describe_gauge!(LOG_BYTES, "Bytes of the log on disk");
    describe_gauge!(LOG_UNPUBLISHED, "Frames received and not published");
    describe_gauge!(CONNECTED, "1 while the replication stream is open");
    describe_gauge!(SERVICE, "1 while Kinesis takes records");
    describe_gauge!(
        DESCRIBED,
        "1 while the stream's settings can be read: a recreated stream would be noticed"
    );
    describe_counter!(SENT, "Records sent to Kinesis, repeats included");
    describe_counter!(ACCEPTED, "Records accepted by Kinesis");
    describe_counter!(ACCEPTED_BYTES, "Bytes of accepted records, data and partition keys");
    describe_counter!(
        ACCEPTED_EVENTS,
        "Events in accepted records: more than records where records are packed"
    );
    describe_counter!(
        VIOLATIONS,
        "Records that Kinesis did not number above the record before of the same key and shard"
    );
    describe_counter!(REFUSED, "Records to be sent again, by reason: throttled, failed, unanswered");
    describe_counter!(QUARANTINED, "Records written to the dead-letter file");
    describe_gauge!(HALTED, "1 while publishing stands before a record that cannot leave (on_poison = stop)");
    describe_gauge!(
        TABLES_GONE,
        "Tables that have left the publication since the start; their changes are not sent"
    );
    describe_gauge!(SLOT_RETAINED, "Bytes of write-ahead log that Postgres keeps for the slot");
    describe_gauge!(SLOT_UNCONFIRMED, "Bytes of write-ahead log beyond the slot's confirmed position");
    describe_gauge!(WINDOW, "Bytes of log between what is published and what is read ahead");
    describe_gauge!(IN_FLIGHT, "Requests to Kinesis without an answer");
    describe_gauge!(PAUSED_LANES, "Lanes (256ths of the hash range) that wait after a refusal");
    describe_gauge!(
        SHARDS_LIMITED,
        "Shards sent to at a limited rate, because they have refused for throughput of late"
    );
    describe_gauge!(SHARDS_REFUSING, "Shards that refuse everything, and are tried by single records");
    describe_gauge!(RATE_RECORDS, "Lowest rate in force for any shard, in records a second; 0 while none is");
    describe_gauge!(RATE_BYTES, "Lowest rate in force for any shard, in bytes a second; 0 while none is");
    describe_gauge!(DETACHED, "Lanes that cannot keep up and are fed apart from the others");
    describe_gauge!(BEHIND, "Frames that the others have read beyond the last of the detached lanes");
    describe_gauge!(
        BEHIND_SECONDS,
        "Seconds since the commit of the oldest unpublished change of the detached lanes"
    );
    describe_counter!(RETRIES, "How often a loop was started again, by loop: ingest, publish");
    begin();
}

/// Shows what has not happened yet as 0: an alert on a counter's increase would not see one that appears as 1.
fn begin() {
    let counted =
        [UNTRANSLATABLE, UNDECIDED, SENT, ACCEPTED, ACCEPTED_BYTES, ACCEPTED_EVENTS, VIOLATIONS, QUARANTINED];
    for name in counted {
        counter!(name).increment(0);
    }
    for reason in ["throttled", "failed", "unanswered"] {
        counter!(REFUSED, "reason" => reason).increment(0);
    }
    for name in ["ingest", "publish"] {
        counter!(RETRIES, "loop" => name).increment(0);
    }
    for name in [
        PAUSED,
        HALTED,
        CONNECTED,
        SERVICE,
        DESCRIBED,
        SHARDS_LIMITED,
        SHARDS_REFUSING,
        RATE_RECORDS,
        RATE_BYTES,
        DETACHED,
        BEHIND,
        BEHIND_SECONDS,
    ] {
        gauge!(name).set(0.0);
    }
}

pub(super) fn untranslatable() {
    counter!(UNTRANSLATABLE).increment(1);
}

pub(super) fn undecided(conditions: u64) {
    if conditions > 0 {
        counter!(UNDECIDED).increment(conditions);
    }
}

pub(super) fn paused(paused: bool) {
    health::full(paused);
    gauge!(PAUSED).set(f64::from(u8::from(paused)));
}

pub(super) fn connected(connected: bool) {
    if connected {
        health::well(End::Database);
    }
    gauge!(CONNECTED).set(f64::from(u8::from(connected)));
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge is a float; 2^53 bytes of write-ahead log are exact enough"
)]
pub(super) fn confirmed(lsn: Lsn) {
    health::confirmed();
    gauge!(CONFIRMED).set(lsn.get() as f64);
}

pub(super) fn service(available: bool) {
    gauge!(SERVICE).set(f64::from(u8::from(available)));
}

pub(super) fn described(described: bool) {
    gauge!(DESCRIBED).set(f64::from(u8::from(described)));
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
        ("unanswered", settlement.unanswered),
    ] {
        if records > 0 {
            counter!(REFUSED, "reason" => reason).increment(wide(records));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(super) fn tables_gone(tables: usize) {
    gauge!(TABLES_GONE).set(tables as f64);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(super) fn slot(retained: u64, unconfirmed: u64) {
    gauge!(SLOT_RETAINED).set(retained as f64);
    gauge!(SLOT_UNCONFIRMED).set(unconfirmed as f64);
}

pub(super) fn halted(halted: bool) {
    gauge!(HALTED).set(f64::from(u8::from(halted)));
}

pub(super) fn quarantined() {
    counter!(QUARANTINED).increment(1);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(super) fn window(bytes: usize, in_flight: usize, paused_lanes: usize) {
    gauge!(WINDOW).set(bytes as f64);
    gauge!(IN_FLIGHT).set(in_flight as f64);
    gauge!(PAUSED_LANES).set(paused_lanes as f64);
}

/// Rates of shards, without names: shards come and go, so one series for each would never end. The log names them.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(super) fn rates(rates: &Summary) {
    let [records, bytes] = rates.lowest.unwrap_or_default();
    gauge!(SHARDS_LIMITED).set(rates.limited as f64);
    gauge!(SHARDS_REFUSING).set(rates.stuck as f64);
    gauge!(RATE_RECORDS).set(records);
    gauge!(RATE_BYTES).set(bytes);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(super) fn detached(lag: &Lag, now: SystemTime) {
    let age = |micros: i64| {
        let committed =
            SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or_default());
        now.duration_since(committed).unwrap_or_default().as_secs_f64()
    };
    gauge!(DETACHED).set(lag.lanes as f64);
    gauge!(BEHIND).set(lag.frames as f64);
    gauge!(BEHIND_SECONDS).set(lag.oldest.map_or(0.0, age));
}

pub(super) fn restarted(name: &'static str) {
    counter!(RETRIES, "loop" => name).increment(1);
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
