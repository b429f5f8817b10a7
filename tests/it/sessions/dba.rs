//! A database administrator who takes rights away, locks the catalogues and sets hostile values, while the daemon runs. It waits,
//! says why, and continues when that is undone.

use crate::support::fixture::Fixture;
use crate::support::postgres::Version;
use crate::support::{SOON, eventually};

use super::end_stream;

/// Values that would hurt a session that does not set its own, in `postgresql.conf`. Not `transaction_timeout`: so short, it ends
/// each log-in before the settings of its role apply.
const SYSTEM: &[(&str, &str)] = &[
    ("statement_timeout", "1ms"),
    ("lock_timeout", "1ms"),
    ("idle_session_timeout", "1ms"),
    ("idle_in_transaction_session_timeout", "1ms"),
    ("wal_sender_timeout", "1ms"),
    ("default_transaction_read_only", "on"),
    ("extra_float_digits", "-3"),
    ("datestyle", "German, DMY"),
    ("client_min_messages", "error"),
    ("logical_decoding_work_mem", "64kB"),
];

/// The role may not log in, not connect, and not replicate: each is waited for, and named.
fn take_rights_away(fixture: &Fixture) {
    for (taken, given, code) in [
        ("alter role forebay nologin", "alter role forebay login", "28000"),
        (
            "revoke connect on database lab from public, forebay, lab",
            "grant connect on database lab to public",
            "42501",
        ),
        ("alter role forebay noreplication", "alter role forebay replication", "may not replicate"),
    ] {
        let mark = fixture.daemon.mark();
        fixture.postgres.execute(taken);
        end_stream(&fixture.postgres);
        let line = fixture.daemon.wait_for_event_with(mark, "source_disconnected", code);
        assert!(line.contains("hint="), "{line}");
        fixture.postgres.execute(given);
        fixture.daemon.wait_for_event_since(mark, "receiving");
    }
}

/// The catalogues of tables, types and roles are locked, so that not even a log-in succeeds.
fn lock_the_catalogues(fixture: &Fixture) {
    let mark = fixture.daemon.mark();
    let mut session = fixture.postgres.session("postgres");
    session.execute(
        "begin; lock table pg_class, pg_attribute, pg_type, pg_publication, pg_publication_rel, pg_authid
         in access exclusive mode",
    );
    session.query("select pg_terminate_backend(active_pid) from pg_replication_slots where active");
    eventually("a session of ours waits for a lock", SOON, || {
        let waiting = session.query("select count(*)::text from pg_locks where not granted");
        (waiting[0][0].as_deref() != Some("0")).then_some(())
    });
    session.execute("commit");
    fixture.daemon.wait_for_event_since(mark, "receiving");
}

fn set_hostile_values(fixture: &Fixture) {
    let mark = fixture.daemon.mark();
    let mut session = fixture.postgres.session("postgres");
    for (name, value) in SYSTEM {
        let known = session.query(&format!("select reset_val from pg_settings where name = '{name}'"));
        let Some(before) = known.first().and_then(|row| row[0].clone()) else { continue };
        // The superuser of the test keeps what it has.
        session.execute(&format!("alter role postgres set {name} = '{before}'"));
        session.execute(&format!("alter system set {name} = '{value}'"));
    }
    session.execute("select pg_reload_conf()");
    fixture.plates(200..205);
    fixture.wait_until_published();
    end_stream(&fixture.postgres);
    fixture.daemon.wait_for_event_since(mark, "receiving");
}

#[test]
fn hostile_administrator_stops_ingest_for_a_while_only() {
    for version in [Version::OLDEST, Version::NEWEST] {
        let mut fixture = Fixture::start(version);
        fixture.plates(0..3);
        take_rights_away(&fixture);
        fixture.plates(100..103);
        lock_the_catalogues(&fixture);
        set_hostile_values(&fixture);
        fixture.plates(300..303);
        fixture.wait_until_published().assert_clean();
        assert!(fixture.daemon.is_running());
        // At the very start the error is reported at once.
        assert!(fixture.daemon.terminate().success());
        fixture.postgres.execute("alter role forebay nologin");
        fixture.refuses(&["28000", "LOGIN"]);
    }
}
