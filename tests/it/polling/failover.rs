//! Another server behind the address: one that is behind, one that was restored, one that was promoted.

use crate::polling::{database, events_of, prepare, settings, wait_for};
use crate::support::postgres::{Stop, Version};
use crate::support::{SOON, eventually};

/// A primary that was restored from an older copy gives its transaction ids out again.
#[test]
fn restored_primary_is_refused() {
    let mut postgres = database(Version::usual());
    let copy = postgres.copy_data_dir();
    let mut fixture = prepare(postgres, None, &["p.facts"]);
    fixture.go_on();
    for writer in 0..20 {
        fixture.postgres.execute(&format!("insert into p.facts (writer) values ({writer})"));
    }
    wait_for(&fixture, "p.facts.inserted.v1", "20");
    assert!(fixture.daemon.terminate().success());
    fixture.postgres.restore_data_dir(&copy);
    fixture.postgres.execute("insert into p.facts (id, writer) values (100, 77)");
    fixture.refuses(&["gone back", "forebay adopt"]);
    fixture.adopt_refuses(&["--recreate-slot", "s"], &["no replication slot", "--recreate-slot"]);
    fixture.adopt(&["--rewind", "all"]);
    fixture.go_on();
    fixture.gap(1);
    eventually("the row with an id that was given out again", SOON, || {
        let mut versions = events_of(&fixture, "p.facts.inserted.v1").remove("100")?;
        versions.pop().filter(|event| event["data"]["writer"] == 77 && event["origin"] == "backfill")
    });
}

/// A transaction that is rolled back is over before its record is flushed. After a crash its id is given out again, to
/// one whose rows must be read.
#[test]
fn id_given_out_again_after_crash_is_read() {
    let mut fixture = prepare(database(Version::usual()), None, &["p.messages"]);
    fixture.postgres.execute("alter system set wal_writer_delay = '10s'");
    fixture.postgres.execute("select pg_reload_conf()");
    fixture.go_on();
    for round in 1..=3 {
        fixture.postgres.execute("begin; insert into p.messages (body) values ('never'); rollback");
        // A poll that began after it, and has ended.
        for _ in 0..2 {
            let now = fixture.postgres.value("select clock_timestamp()");
            let polled = format!(
                "select count(*) from pg_stat_activity where usename = 'reader' and query_start > '{now}'"
            );
            eventually("the next poll begins", SOON, || {
                (fixture.postgres.value(&polled) != "0").then_some(())
            });
        }
        fixture.postgres.stop(Stop::Immediate);
        fixture.postgres.start_again();
        let id = fixture.postgres.value("insert into p.messages (body) values ('kept') returning id");
        println!("round {round}: message {id}");
        wait_for(&fixture, "p.messages.inserted.v1", &id);
    }
    assert!(fixture.daemon.terminate().success());
}

/// A standby that lags is waited for: the horizon does not go back. Its promotion is followed: it has what was read.
#[test]
fn standby_behind_is_waited_for_and_promoted_one_followed() {
    let postgres = database(Version::usual());
    let standby = postgres.standby();
    let mut fixture = prepare(postgres, None, &["p.facts"]);
    fixture.go_on();
    fixture.postgres.wait_for(&standby);
    standby.execute("select pg_wal_replay_pause()");
    for writer in 0..20 {
        fixture.postgres.execute(&format!("insert into p.facts (writer) values ({writer})"));
    }
    wait_for(&fixture, "p.facts.inserted.v1", "20");
    assert!(fixture.daemon.terminate().success());
    let there = settings(&standby, fixture.kinesis.endpoint(), &["p.facts"]);
    fixture.daemon.settings().url = there.url;
    fixture.go_on();
    fixture.daemon.wait_for_event("standby_behind");
    standby.execute("select pg_wal_replay_resume()");
    fixture.postgres.execute("insert into p.facts (writer) values (21)");
    wait_for(&fixture, "p.facts.inserted.v1", "21");
    fixture.postgres.stop(Stop::Fast);
    standby.promote();
    fixture.daemon.wait_for_event("timeline_followed");
    standby.execute("insert into p.facts (id, writer) values (22, 22)");
    wait_for(&fixture, "p.facts.inserted.v1", "22");
    assert!(fixture.daemon.terminate().success());
    // The checkpoint has the new timeline.
    fixture.go_on();
    standby.execute("insert into p.facts (id, writer) values (23, 23)");
    wait_for(&fixture, "p.facts.inserted.v1", "23");
    assert_eq!(fixture.daemon.count_events("timeline_followed"), 0);
}

/// A server that was never polled is followed after its promotion if it had replayed all that was read, and refused otherwise: it
/// gives ids of lost transactions out again. An adoption reads the last transactions again.
#[test]
fn promoted_standby_is_followed_only_with_all_that_was_read() {
    let postgres = database(Version::usual());
    let (whole, partial) = (postgres.standby(), postgres.standby());
    let mut fixture = prepare(postgres, None, &["p.facts"]);
    fixture.go_on();
    fixture.postgres.execute("insert into p.facts (writer) values (1)");
    wait_for(&fixture, "p.facts.inserted.v1", "1");
    fixture.postgres.wait_for(&partial);
    partial.cut_off();
    for writer in 2..=20 {
        fixture.postgres.execute(&format!("insert into p.facts (writer) values ({writer})"));
    }
    wait_for(&fixture, "p.facts.inserted.v1", "20");
    fixture.postgres.wait_for(&whole);
    assert!(fixture.daemon.terminate().success());
    fixture.postgres.stop(Stop::Fast);
    let copy = fixture.daemon.home().join("copy");
    let buffer = fixture.daemon.buffer_directory();
    let copied = std::process::Command::new("cp").arg("-a").arg(&buffer).arg(&copy).status().unwrap();
    assert!(copied.success());

    whole.promote();
    let url = |server| settings(server, fixture.kinesis.endpoint(), &["p.facts"]).url;
    let (there, partial_url) = (url(&whole), url(&partial));
    fixture.daemon.settings().url = there;
    fixture.go_on();
    fixture.daemon.wait_for_event("timeline_followed");
    whole.execute("insert into p.facts (id, writer) values (21, 21)");
    wait_for(&fixture, "p.facts.inserted.v1", "21");
    assert!(fixture.daemon.terminate().success());

    std::fs::remove_dir_all(&buffer).unwrap();
    let moved = std::process::Command::new("mv").arg(&copy).arg(&buffer).status().unwrap();
    assert!(moved.success());
    partial.promote();
    fixture.daemon.settings().url = partial_url;
    // The next ids are those of rows that were read, and lost.
    partial.execute("insert into p.facts (id, writer) values (30, 30)");
    fixture.refuses(&["timeline 2", "forebay adopt"]);
    fixture.adopt(&[]);
    fixture.go_on();
    wait_for(&fixture, "p.facts.inserted.v1", "30");
    fixture.gap(1);
}
