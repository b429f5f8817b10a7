//! The diagnoses: one row per case.

use super::*;
use crate::config::{Secret, TableName};
use crate::diagnosis::Severity;
use crate::position::CommitSeq;
use crate::source::postgres::admit::Server;
use crate::source::postgres::publication::PublishedTable;
use crate::source::postgres::slot::{ControlFacts, ServerFacts};

const MIB: u64 = 1 << 20;

fn seen() -> Seen {
    let facts = ServerFacts {
        version: 180_001,
        control: Ok(ControlFacts { system_id: "1".to_owned(), timeline: 1 }),
        wal_end: CommitSeq::new(1),
        in_recovery: false,
        wal_level: "logical".to_owned(),
        slots_max: 10,
        slots_used: 1,
        senders_max: 10,
        database: "lab".to_owned(),
        role: "forebay".to_owned(),
        is_superuser: false,
        may_replicate: true,
        may_create: true,
    };
    let server = Server {
        system_id: "1".to_owned(),
        timeline: 1,
        switches: Vec::new(),
        wal_end: facts.wal_end,
        in_recovery: false,
        publication_exists: true,
    };
    let publication = PublicationFacts {
        name: "forebay_lab".to_owned(),
        version: 180_001,
        oid: 1,
        all_tables: false,
        insert: true,
        update: true,
        delete: true,
        truncate: true,
        via_root: true,
        generated: None,
        tables: vec![table()],
    };
    Seen {
        server,
        slot: None,
        slot_facts: None,
        facts,
        publication: Some(publication),
        partitions: Vec::new(),
        broken: Vec::new(),
        unseen: Vec::new(),
    }
}

fn table() -> PublishedTable {
    PublishedTable {
        oid: 1,
        name: name(),
        columns: None,
        filter: None,
        unsent_key: Vec::new(),
        entries: Vec::new(),
    }
}

fn name() -> TableName {
    TableName { schema: "lab".to_owned(), table: "plates".to_owned() }
}

fn slot(status: &str, failover: bool) -> SlotFacts {
    let text = format!(
        r#"{{"plugin": "pgoutput", "slot_type": "logical", "database": "lab", "temporary": false, "active_pid": null,
            "restart_lsn": "0/1", "confirmed_flush_lsn": "0/1", "wal_status": "{status}", "safe_wal_size": null,
            "failover": {failover}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

fn source() -> SourceConfig {
    SourceConfig {
        url: Secret::new(String::new()),
        password: None,
        password_file: None,
        polling: None,
        slot: "forebay_lab".to_owned(),
        publication: "forebay_lab".to_owned(),
        tables: None,
        epoch: 0,
        max_row_size: 1 << 24,
        failover: None,
        heartbeat: None,
    }
}

type Change = fn(&mut Seen, &mut SetupFacts, &mut SourceConfig);

/// Diagnoses at 1 MiB of WAL a second.
fn judged(change: Change) -> Vec<Diagnosis> {
    let (mut seen, mut setup, mut source) = (seen(), SetupFacts::default(), source());
    change(&mut seen, &mut setup, &mut source);
    judge(&seen, &setup, &source, MIB)
}

#[test]
fn sound_set_up_has_neither_warning_nor_blocker() {
    let found = judged(|_, _, _| {});
    assert!(found.iter().all(|one| one.severity == Severity::Ok), "{found:?}");
    let subjects: Vec<_> = found.iter().map(|one| one.subject.as_str()).collect();
    assert_eq!(
        subjects,
        [
            "server",
            "max_replication_slots",
            "max_wal_senders",
            "clock of the server",
            "max_slot_wal_keep_size"
        ]
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of peculiarities")]
fn each_peculiarity_is_one_diagnosis_with_its_fix() {
    use Severity::{Blocker, Ok, Warning};
    let cases: [(Change, Severity, &str, Option<&str>); 18] = [
        (|seen, _, _| seen.facts.slots_used = 10, Blocker, "10 of 10", Some("max_replication_slots = 20;")),
        (|_, setup, _| setup.senders_used = 10, Blocker, "10 of 10", Some("max_wal_senders = 20;")),
        (|_, setup, _| setup.clock_ahead = 61_000_000, Warning, "61 s ahead of", None),
        (|_, setup, _| setup.clock_ahead = -61_000_000, Warning, "61 s behind", None),
        (
            |seen, _, _| (seen.facts.in_recovery, seen.facts.version) = (true, 150_000),
            Blocker,
            "before PostgreSQL 16",
            None,
        ),
        (
            |seen, _, _| seen.facts.in_recovery = true,
            Warning,
            "hot_standby_feedback",
            Some("hot_standby_feedback = on;"),
        ),
        (|_, setup, _| setup.keep_max = Some(3_600 << 20), Warning, "about 60 minutes", Some("'85GB'")),
        (|_, setup, _| setup.keep_max = Some(100 << 30), Ok, "about 28.4 hours", None),
        (
            |_, setup, _| setup.idle_max = Some(Duration::from_hours(3)),
            Warning,
            "about 3.0 hours",
            Some("idle_replication_slot_timeout = 0;"),
        ),
        (|_, setup, _| setup.idle_max = Some(Duration::from_hours(72)), Ok, "about 3 days", None),
        (
            |_, setup, source| {
                setup.physical_slots = vec!["s1".to_owned()];
                source.failover = Some(false);
            },
            Warning,
            "not a failover slot",
            None,
        ),
        (
            |seen, setup, _| {
                setup.physical_slots = vec!["s1".to_owned()];
                seen.slot_facts = Some(slot("reserved", false));
            },
            Warning,
            "not a failover slot",
            Some("ALTER_REPLICATION_SLOT \"forebay_lab\" (FAILOVER true);"),
        ),
        (
            |_, setup, source| {
                setup.physical_slots = vec!["s1".to_owned(), "s2".to_owned()];
                source.failover = Some(true);
            },
            Warning,
            "synchronized_standby_slots is empty",
            Some("synchronized_standby_slots = 's1,s2';"),
        ),
        (
            |seen, setup, _| {
                setup.physical_slots = vec!["s1".to_owned()];
                setup.waits_for_standbys = true;
                seen.slot_facts = Some(slot("reserved", true));
            },
            Ok,
            "standbys keep a copy",
            None,
        ),
        (
            |seen, _, _| seen.slot_facts = Some(slot("unreserved", false)),
            Warning,
            "may invalidate it",
            Some("max_slot_wal_keep_size = -1;"),
        ),
        (|seen, _, _| seen.publication.as_mut().unwrap().all_tables = true, Warning, "FOR ALL TABLES", None),
        (
            |_, setup, _| setup.tables.partitions.add(&name()),
            Warning,
            "lab.plates",
            Some("publish_via_partition_root = true"),
        ),
        (
            |_, setup, _| setup.tables.generated.add(&name()),
            Ok,
            "generated columns are not sent of lab.plates",
            None,
        ),
    ];
    let sound = judged(|_, _, _| {});
    for (change, severity, fact, command) in cases {
        let found: Vec<_> = judged(change).into_iter().filter(|one| !sound.contains(one)).collect();
        let matching: Vec<_> = found.iter().filter(|one| one.fact.contains(fact)).collect();
        assert_eq!(matching.len(), 1, "{fact}: {found:?}");
        assert_eq!(matching[0].severity, severity, "{fact}: {found:?}");
        if let Some(command) = command {
            assert!(matching[0].command.as_ref().unwrap().contains(command), "{fact}: {found:?}");
        }
        assert!(found.iter().all(|one| one.severity <= severity), "nothing worse: {found:?}");
    }
}

#[test]
fn limits_are_forecast_only_at_a_measurable_rate() {
    assert_eq!(lasts(1 << 30, 0), None);
    assert_eq!(lasts(u64::MAX, 1), None);
    assert_eq!(lasts(7_200 << 20, MIB), Some(Duration::from_hours(2)));
    for (seconds, text) in [
        (0, "about 0 s"),
        (119, "about 119 s"),
        (120, "about 2 minutes"),
        (7_199, "about 119 minutes"),
        (9_000, "about 2.5 hours"),
        (172_800, "about 2 days"),
    ] {
        assert_eq!(about(Duration::from_secs(seconds)), text);
    }
}
