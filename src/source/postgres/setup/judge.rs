//! Diagnoses of a configuration that works now and will fail later, each with the statement that changes it.
//! Does no I/O.

use std::time::Duration;

use crate::config::SourceConfig;
use crate::config::units::ByteAmount;
use crate::diagnosis::Diagnosis;
use crate::source::postgres::create::{FAILOVER_SINCE, wants_failover};
use crate::source::postgres::inspect::Seen;
use crate::source::postgres::publication::{PublicationFacts, escape_identifier};
use crate::source::postgres::slot::SlotFacts;

use super::{SetupFacts, TableHazards, TableSet};

/// If the slot can be lost sooner than this after Forebay stops, that is a warning: it does not survive a
/// night and the next morning.
const SHORT: Duration = Duration::from_hours(24);

/// A larger difference of the clocks, in microseconds, makes ages and lags wrong.
const CLOCK_MICROS_MAX: i64 = 5_000_000;

/// The first version that can decode WAL on a standby.
const STANDBY_SINCE: u32 = 160_000;

/// A longer forecast than this (a century) is not reported.
const FORECAST_MAX: Duration = Duration::from_hours(24 * 36_525);

/// Diagnoses of the server, the slot and the publication, besides those that every start checks. `wal_rate`
/// is the current rate of WAL in bytes per second.
pub fn judge(seen: &Seen, setup: &SetupFacts, source: &SourceConfig, wal_rate: u64) -> Vec<Diagnosis> {
    let mut found = vec![server(seen)];
    found.extend(capacity(seen, setup, source));
    found.push(clock(setup.clock_ahead));
    found.extend(standby(seen, setup));
    found.extend(heartbeat(seen, source));
    found.push(kept(setup.keep_max, wal_rate, &source.slot));
    found.extend(setup.idle_max.map(|limit| idle(limit, &source.slot)));
    found.extend(failover(seen, setup, source));
    found.extend(seen.slot_facts.as_ref().and_then(|slot| endangered(slot, &source.slot)));
    found.extend(seen.publication.iter().flat_map(|facts| publication(facts, &setup.tables)));
    found
}

fn server(seen: &Seen) -> Diagnosis {
    let facts = &seen.facts;
    let kind = if facts.in_recovery { "a standby" } else { "a primary" };
    let (major, minor) = (facts.version / 10_000, facts.version % 10_000);
    let (database, role) = (escape_identifier(&facts.database), escape_identifier(&facts.role));
    Diagnosis::ok("server", format!("PostgreSQL {major}.{minor}, {kind}; database {database}, role {role}"))
}

/// Slots and walsenders that a start needs.
fn capacity(seen: &Seen, setup: &SetupFacts, source: &SourceConfig) -> Vec<Diagnosis> {
    const RESTART: &str = "Drop slots that nobody uses, or change the setting and restart the server:";
    let facts = &seen.facts;
    let (needs_slot, needs_sender) = (
        u32::from(seen.slot_facts.is_none()),
        u32::from(seen.slot_facts.as_ref().is_none_or(|slot| slot.active_pid.is_none())),
    );
    let one = |setting: &str, used: u32, most: u32, needed: u32| {
        let fact = format!("{used} of {most} are in use");
        let subject = setting.to_owned();
        if most == 0 || used.saturating_add(needed) <= most {
            return Diagnosis::ok(subject, fact);
        }
        let command = format!("ALTER SYSTEM SET {setting} = {};", most.saturating_add(10));
        let fact = format!("{fact}, and slot \"{}\" needs one", source.slot);
        Diagnosis::blocker(subject, fact).with_hint(RESTART).with_command(command)
    };
    vec![
        one("max_replication_slots", facts.slots_used, facts.slots_max, needs_slot),
        one("max_wal_senders", setup.senders_used, facts.senders_max, needs_sender),
    ]
}

fn clock(ahead: i64) -> Diagnosis {
    let subject = "clock of the server";
    if ahead.abs() <= CLOCK_MICROS_MAX {
        return Diagnosis::ok(subject, "agrees with this machine's");
    }
    let direction = if ahead > 0 { "ahead of" } else { "behind" };
    let seconds = ahead.unsigned_abs() / 1_000_000;
    Diagnosis::warning(subject, format!("{seconds} s {direction} this machine's, so lags and ages are wrong"))
        .with_hint("Synchronize both clocks by NTP.")
}

fn heartbeat(seen: &Seen, source: &SourceConfig) -> Option<Diagnosis> {
    let is_standby = seen.facts.in_recovery && source.heartbeat.is_some();
    is_standby.then(|| {
        Diagnosis::warning("source.heartbeat", "a standby cannot write the heartbeat")
            .with_hint("Remove source.heartbeat, or connect to the primary.")
    })
}

fn standby(seen: &Seen, setup: &SetupFacts) -> Vec<Diagnosis> {
    if !seen.facts.in_recovery {
        return Vec::new();
    }
    if seen.facts.version < STANDBY_SINCE {
        let fact = "a standby before PostgreSQL 16 has no logical slots";
        return vec![
            Diagnosis::blocker("server", fact).with_hint("Set source.url to the primary, or upgrade."),
        ];
    }
    let mut found = Vec::new();
    if !setup.standby_feedback {
        let fact = "hot_standby_feedback is off, so the primary may remove rows of the catalogue that the slot needs, which \
                    invalidates it";
        found.push(
            Diagnosis::warning("server", fact)
                .with_command("ALTER SYSTEM SET hot_standby_feedback = on; SELECT pg_reload_conf();"),
        );
    }
    if seen.slot_facts.is_none() {
        let fact = "the first start waits until the primary logs its running transactions";
        found.push(
            Diagnosis::ok("server", fact)
                .with_hint("To end the wait, run on the primary:")
                .with_command("SELECT pg_log_standby_snapshot();"),
        );
    }
    found
}

/// The diagnosis about `max_slot_wal_keep_size`, as a time.
fn kept(limit: Option<u64>, wal_rate: u64, slot: &str) -> Diagnosis {
    let subject = "max_slot_wal_keep_size";
    let Some(limit) = limit else {
        return Diagnosis::ok(
            subject,
            "no limit: while Forebay is stopped, PostgreSQL retains WAL until its disk is full",
        )
        .with_hint("Alert on the slot's retained WAL, and drop the slot if Forebay is removed.");
    };
    let amount = ByteAmount(limit);
    let Some(lasts) = lasts(limit, wal_rate) else {
        return Diagnosis::ok(subject, format!("{amount}; the server writes hardly any WAL at present"));
    };
    let rate = ByteAmount(wal_rate);
    let fact = format!(
        "{amount}: at {rate}/s, slot \"{slot}\" is lost {} after Forebay stops reading",
        about(lasts)
    );
    if lasts >= SHORT {
        return Diagnosis::ok(subject, fact);
    }
    let wanted = wal_rate.saturating_mul(SHORT.as_secs()).div_ceil(1 << 30);
    Diagnosis::warning(subject, fact)
        .with_hint("A lost slot is a gap in the stream. If the disk has room for a day of WAL:")
        .with_command(format!(
            "ALTER SYSTEM SET max_slot_wal_keep_size = '{wanted}GB'; SELECT pg_reload_conf();"
        ))
}

/// How long a limit lasts; `None` if it lasts longer than a forecast is worth.
fn lasts(limit: u64, rate: u64) -> Option<Duration> {
    limit.checked_div(rate).map(Duration::from_secs).filter(|time| *time < FORECAST_MAX)
}

/// A time such as `about 3.5 hours`; below an hour in minutes.
fn about(time: Duration) -> String {
    match time.as_secs() {
        ..120 => format!("about {} s", time.as_secs()),
        120..7_200 => format!("about {} minutes", time.as_secs() / 60),
        seconds @ 7_200..172_800 => format!("about {}.{} hours", seconds / 3_600, seconds % 3_600 / 360),
        seconds => format!("about {} days", seconds / 86_400),
    }
}

fn idle(limit: Duration, slot: &str) -> Diagnosis {
    let subject = "idle_replication_slot_timeout";
    let fact = format!("slot \"{slot}\" is lost {} after Forebay stops", about(limit));
    if limit >= SHORT {
        return Diagnosis::ok(subject, fact);
    }
    Diagnosis::warning(subject, fact)
        .with_hint("A lost slot is a gap in the stream. To let it survive an outage of Forebay:")
        .with_command("ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();")
}

/// What happens to the slot at a failover to one of the standbys.
fn failover(seen: &Seen, setup: &SetupFacts, source: &SourceConfig) -> Option<Diagnosis> {
    let facts = &seen.facts;
    if facts.in_recovery || setup.physical_slots.is_empty() {
        return None;
    }
    let subject = format!("slot \"{}\"", source.slot);
    if facts.version < FAILOVER_SINCE {
        let fact = "after a failover to a standby it is missing: PostgreSQL keeps slots on standbys from version 17 on";
        return Some(Diagnosis::ok(subject, fact));
    }
    let slot = seen.slot_facts.as_ref();
    if slot.map_or(wants_failover(source, facts), |slot| slot.failover) {
        if setup.waits_for_standbys {
            return Some(Diagnosis::ok(subject, "a failover slot: standbys keep a copy of it"));
        }
        let fact = "a failover slot, but synchronized_standby_slots is empty: after a failover, events may have been published that the \
                    new primary does not have";
        let names = setup.physical_slots.join(",").replace('\'', "''");
        return Some(
            Diagnosis::warning(subject, fact)
                .with_hint("Name the slots of the standbys that may be promoted:")
                .with_command(format!(
                    "ALTER SYSTEM SET synchronized_standby_slots = '{names}'; SELECT pg_reload_conf();"
                )),
        );
    }
    let fact =
        "not a failover slot: after a failover to a standby it is missing, which is a gap in the stream";
    let found = Diagnosis::warning(subject, fact);
    Some(if slot.is_some() {
        found
            .with_hint(
                "Stop Forebay, and run this over a replication connection (psql 'replication=database …'):",
            )
            .with_command(format!(
                "ALTER_REPLICATION_SLOT {} (FAILOVER true);",
                escape_identifier(&source.slot)
            ))
    } else {
        found.with_hint("Remove source.failover = false before the first start.")
    })
}

/// A warning if the server may remove WAL that the slot needs at the next checkpoint.
fn endangered(slot: &SlotFacts, name: &str) -> Option<Diagnosis> {
    if slot.wal_status.as_deref() != Some("unreserved") {
        return None;
    }
    let fact = "it retains more WAL than max_slot_wal_keep_size allows: the next checkpoint of the server may invalidate it";
    Some(
        Diagnosis::warning(format!("slot \"{name}\""), fact)
            .with_hint("Raise the limit now, then let Forebay catch up:")
            .with_command("ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf();"),
    )
}

fn publication(facts: &PublicationFacts, tables: &TableHazards) -> Vec<Diagnosis> {
    let name = escape_identifier(&facts.name);
    let subject = || format!("publication {name}");
    let mut found = Vec::new();
    if facts.all_tables {
        let fact = "FOR ALL TABLES: a table that somebody creates is published at once, and without a key its own UPDATE and DELETE fail";
        let hint = format!(
            "If that is not intended, create one of the tables that consumers need (CREATE PUBLICATION … FOR TABLE …), and name it in \
             source.publication before the first start. {name} cannot be altered to a list of tables."
        );
        found.push(Diagnosis::warning(subject(), fact).with_hint(hint));
    }
    if !tables.partitions.is_empty() {
        let fact = format!(
            "changes of partitions are sent under the partitions' names, not the table's: {}",
            tables.partitions
        );
        let command = format!("ALTER PUBLICATION {name} SET (publish_via_partition_root = true);");
        found.push(Diagnosis::warning(subject(), fact).with_command(command));
    }
    let of = |is: fn(&&super::super::publication::PublishedTable) -> bool| {
        facts.tables.iter().filter(is).map(|table| &table.name).collect::<TableSet>()
    };
    for (set, fact) in [
        (of(|table| table.filter.is_some()), "a row filter excludes rows of"),
        (of(|table| table.columns.is_some()), "a column list leaves out columns of"),
        (tables.generated.clone(), "generated columns are not sent of"),
    ] {
        if !set.is_empty() {
            found.push(Diagnosis::ok(subject(), format!("{fact} {set}")));
        }
    }
    if !tables.toasted.is_empty() {
        let fact =
            format!("an UPDATE does not send large values that it does not change, of {}", tables.toasted);
        let hint = "Events list such fields as unavailable. REPLICA IDENTITY FULL on the table sends them.";
        found.push(Diagnosis::ok(subject(), fact).with_hint(hint));
    }
    found
}

#[cfg(test)]
mod tests;
