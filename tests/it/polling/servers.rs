//! Servers of other versions and encodings, partitioned tables, and a pooler.

use std::process::Command;

use crate::polling::{SCHEMA, database, events_of, prepare, schema_of_12, settings, wait_for};
use crate::support::postgres::{Postgres, Stop, Version};
use crate::support::process::Process;
use crate::support::{SOON, eventually, missing, port};

/// Versions that only polling supports.
#[test]
fn old_versions_are_polled() {
    for version in [Version(12), Version(13)] {
        if !version.is_here() {
            continue;
        }
        let postgres = Postgres::builder(version).without_fsync().start();
        let (schema, tables) = if version.0 == 12 {
            (schema_of_12(), &["p.facts", "p.things"][..])
        } else {
            (SCHEMA.to_owned(), &["p.facts", "p.things", "p.messages"][..])
        };
        postgres.execute(&schema);
        let mut fixture = prepare(postgres, None, tables);
        fixture.daemon.settings().more.push(("source".to_owned(), "start = \"beginning\"".to_owned()));
        fixture
            .postgres
            .execute("insert into p.facts (writer) values (1); insert into p.things values (1, 1)");
        fixture.go_on();
        let old = wait_for(&fixture, "p.facts.inserted.v1", "1");
        assert_eq!(old["origin"], "backfill", "{version:?}");
        fixture
            .postgres
            .execute("insert into p.facts (writer) values (2); insert into p.things values (2, 1)");
        let new = wait_for(&fixture, "p.facts.inserted.v1", "2");
        assert_eq!(new["origin"], serde_json::Value::Null, "{version:?}");
        wait_for(&fixture, "p.things.updated.v1", "2");
        if version.0 > 12 {
            fixture.postgres.execute("insert into p.messages (body) values ('x')");
            wait_for(&fixture, "p.messages.inserted.v1", "1");
        }
        assert!(fixture.daemon.terminate().success());
        fixture.daemon.assert_quiet(&[]);
    }
}

/// Text of a database that is not UTF-8 arrives in UTF-8; a value without a character there is a dead letter, and stops nothing.
#[test]
fn other_encodings_are_polled() {
    for (encoding, good, bad) in [("EUC_JP", "b0a1", "affe"), ("SQL_ASCII", "c3a4", "ff")] {
        let mut postgres = Postgres::builder(Version::usual()).without_fsync().start();
        postgres.execute(&format!("create database other template template0 encoding '{encoding}'"));
        postgres.use_database("other");
        postgres.execute(SCHEMA);
        postgres.execute(
            "create table p.texts (name text primary key, flag bool, fixed char(3), body text, txid xid8 not null default pg_current_xact_id());
             create index on p.texts (txid, name); grant select on p.texts to reader",
        );
        let mut fixture = prepare(postgres, None, &["p.texts", "p.facts"]);
        fixture.go_on();
        let text = |hex: &str| format!("convert_from('\\x{hex}'::bytea, '{encoding}')");
        fixture.postgres.execute(&format!(
            "insert into p.texts values ({}, true, 'a', null), ('bad', false, 'b', {}), ({}, null, null, 'x')",
            text(good),
            text(bad),
            text(bad),
        ));
        fixture.postgres.execute("insert into p.facts (writer) values (1)");
        wait_for(&fixture, "p.facts.inserted.v1", "1");
        let subject = if encoding == "EUC_JP" { "亜" } else { "ä" };
        let event = wait_for(&fixture, "p.texts.inserted.v1", subject);
        let data = serde_json::json!({"name": subject, "flag": true, "fixed": "a  ", "body": null});
        for (name, value) in data.as_object().unwrap() {
            assert_eq!(event["data"][name], *value, "{encoding} {name}: {event}");
        }
        let letters = || {
            let listed = fixture.daemon.run(&["dlq", "list", "--json"]).stdout;
            (listed.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count() == 2).then_some(())
        };
        eventually("both other rows are dead letters", SOON, letters);
        // The next window is read after a key that has no character.
        fixture
            .postgres
            .execute(&format!("update p.texts set flag = true, txid = default where name = {}", text(good)));
        eventually("the next version", SOON, || {
            (events_of(&fixture, "p.texts.inserted.v1").remove(subject)?.len() == 2).then_some(())
        });
        assert_eq!(fixture.daemon.count_events("source_disconnected"), 0, "{encoding}");
    }
}

/// The parent is polled, whatever partition a row is in, and however its columns are arranged there.
#[test]
fn partitioned_table_is_polled() {
    let postgres = database(Version::usual());
    postgres.execute(
        "create table p.readings (id bigserial, day date not null, note text, extra int, primary key (id, day)) partition by range (day);
         create table p.readings_1 partition of p.readings for values from ('2026-01-01') to ('2026-02-01');
         create table p.old (extra int, junk int, note text, day date not null, id bigint not null, primary key (id, day));
         alter table p.old drop column junk;
         alter table p.readings attach partition p.old for values from ('2026-02-01') to ('2026-03-01');
         grant select on p.readings to reader; grant select on sequence p.readings_id_seq to reader",
    );
    let mut fixture = prepare(postgres, None, &["p.readings"]);
    fixture.daemon.settings().more.push(("source".to_owned(), "grace = \"1s\"".to_owned()));
    fixture.go_on();
    // A new partition waits for those who write.
    fixture.postgres.execute(
        "create table p.readings_3 partition of p.readings for values from ('2026-03-01') to ('2026-04-01')",
    );
    let mut held = fixture.postgres.session("postgres");
    held.execute("begin; insert into p.readings (day, note) values ('2026-02-03', 'late')");
    fixture.postgres.execute(
        "insert into p.readings (day, note) values ('2026-01-02', 'one'), ('2026-02-02', 'two'), ('2026-03-02', 'three')",
    );
    held.execute("commit");
    for (subject, note) in [
        ("2/2026-01-02", "one"),
        ("3/2026-02-02", "two"),
        ("4/2026-03-02", "three"),
        ("1/2026-02-03", "late"),
    ] {
        let event = wait_for(&fixture, "p.readings.inserted.v1", subject);
        assert_eq!(event["data"]["note"], note);
    }
    fixture.postgres.execute("alter table p.readings detach partition p.readings_1; drop table p.readings_1");
    fixture.postgres.execute("insert into p.readings (day, note) values ('2026-03-03', 'five')");
    wait_for(&fixture, "p.readings.inserted.v1", "5/2026-03-03");
    let events = events_of(&fixture, "p.readings.inserted.v1");
    assert!(events.len() == 5 && events.values().all(|versions| versions.len() == 1), "{events:#?}");
}

/// Columns swap their names while a poll waits for the table: each value is published under the name that it has.
#[test]
fn renamed_columns_keep_their_values() {
    let postgres = database(Version::usual());
    postgres.execute(
        "create table p.pairs (id bigserial primary key, a text, b text, txid xid8 not null default pg_current_xact_id());
         create index on p.pairs (txid, id); grant select on p.pairs to reader",
    );
    let mut fixture = prepare(postgres, None, &["p.pairs"]);
    fixture.go_on();
    let mut held = fixture.postgres.session("postgres");
    held.execute("begin; insert into p.facts (writer) values (0)");
    fixture.postgres.execute("insert into p.pairs (a, b) values ('1', '2')");
    let mut renames = fixture.postgres.session("postgres");
    renames.execute(
        "begin; alter table p.pairs rename a to c; alter table p.pairs rename b to a; alter table p.pairs rename c to b",
    );
    held.execute("commit");
    // From here on, the snapshot of a poll has the row, and the old names.
    fixture
        .postgres
        .execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'reader'");
    fixture.daemon.wait_for_event("source_disconnected");
    let waits = "select count(*) from pg_stat_activity where usename = 'reader' and wait_event_type = 'Lock'";
    eventually("a poll waits for the table", SOON, || (fixture.postgres.value(waits) != "0").then_some(()));
    renames.execute("commit");
    let event = wait_for(&fixture, "p.pairs.inserted.v1", "1");
    assert_eq!((&event["data"]["b"], &event["data"]["a"]), (&"1".into(), &"2".into()), "{event}");
}

/// A pooler in transaction mode, before the server and over its crashes.
struct Pooler {
    process: Process,
    port: u16,
    _home: tempfile::TempDir,
}

impl Pooler {
    fn start(postgres: &Postgres) -> Option<Self> {
        let program = std::path::Path::new("/usr/sbin/pgbouncer");
        if !program.exists() {
            missing("pgbouncer");
            return None;
        }
        let home = tempfile::Builder::new().prefix("fb-pool-").tempdir_in("/tmp").unwrap();
        let port = port::free();
        std::fs::write(home.path().join("users"), "\"reader\" \"\"\n").unwrap();
        let conf = home.path().join("pgbouncer.ini");
        std::fs::write(
            &conf,
            format!(
                "[databases]\npostgres = host=127.0.0.1 port={} dbname=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
                 unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = 3\n\
                 server_round_robin = 1\nignore_startup_parameters = options\nserver_login_retry = 1\n",
                postgres.port(),
                home.path().join("users").display()
            ),
        )
        .unwrap();
        let mut command = Command::new(program);
        if rustix::process::geteuid().is_root() {
            command.args(["-u", "postgres"]);
            assert!(Command::new("chmod").args(["-R", "a+rX"]).arg(home.path()).status().unwrap().success());
        }
        let process = Process::spawn("pgbouncer", command.arg(&conf));
        Some(Self { process, port, _home: home })
    }
}

/// Each transaction may have another session, which a crash of the server ends under a connection that stays.
#[test]
fn pooled_connection_loses_nothing_over_a_crash() {
    let postgres = database(Version::usual());
    let Some(mut pooler) = Pooler::start(&postgres) else { return };
    let mut fixture = prepare(postgres, None, &["p.facts", "p.things", "p.messages"]);
    let direct = settings(&fixture.postgres, fixture.kinesis.endpoint(), &["p.facts"]).url;
    fixture.daemon.settings().url =
        direct.replace(&format!(":{}/", fixture.postgres.port()), &format!(":{}/", pooler.port));
    fixture.go_on();
    for round in 1..=3 {
        let id = fixture.postgres.value("insert into p.facts (writer) values (1) returning id");
        wait_for(&fixture, "p.facts.inserted.v1", &id);
        fixture.postgres.execute("begin; insert into p.messages (body) values ('never'); rollback");
        fixture.postgres.stop(Stop::Immediate);
        fixture.postgres.start_again();
        let id = fixture.postgres.value("insert into p.messages (body) values ('kept') returning id");
        println!("round {round}: message {id}");
        wait_for(&fixture, "p.messages.inserted.v1", &id);
    }
    assert!(pooler.process.is_running(), "{}", pooler.process.tail());
    assert!(fixture.daemon.terminate().success());
}
