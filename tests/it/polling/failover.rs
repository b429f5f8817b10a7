//! Another server behind the address: one that is behind, one that was restored, one that was promoted.

use crate::polling::{database, prepare, settings, wait_for};
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
    fixture.refuses(&["source.epoch"]);
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

/// A standby that lags is waited for: the horizon does not go back. After its promotion, it is refused.
#[test]
fn standby_behind_is_waited_for_and_promoted_one_refused() {
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
    let there = settings(&standby, &fixture.kinesis, &["p.facts"]);
    fixture.daemon.settings().url = there.url;
    fixture.go_on();
    fixture.daemon.wait_for_event("standby_behind");
    standby.execute("select pg_wal_replay_resume()");
    fixture.postgres.execute("insert into p.facts (writer) values (21)");
    wait_for(&fixture, "p.facts.inserted.v1", "21");
    fixture.postgres.stop(Stop::Fast);
    standby.promote();
    fixture.gives_up(&["timeline"]);
}
