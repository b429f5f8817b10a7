//! Another server behind the address: one that is behind, one that was restored, one that was promoted.

use crate::polling::{database, prepare, settings, wait_for};
use crate::support::postgres::{Stop, Version};

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
