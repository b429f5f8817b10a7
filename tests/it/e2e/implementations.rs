//! A laboratory at work into every Kinesis implementation that nobody here wrote.

use crate::e2e::shape::assert_shape;
use crate::support::daemon::{Daemon, Settings};
use crate::support::fixture::Fixture;
use crate::support::kinesis::{Implementation, Kinesis};
use crate::support::postgres::{Postgres, Version};
use crate::support::random::seed;
use crate::support::workload::{Running, Workload};
use crate::support::{SOON, eventually};

#[test]
fn all_events_reach_kinesalite() {
    tells_everything(Implementation::Kinesalite, 300);
}

#[test]
fn all_events_reach_kinesis_local() {
    tells_everything(Implementation::KinesisLocal, 60);
}

#[test]
fn all_events_reach_localstack() {
    tells_everything(Implementation::LocalStack, 60);
}

/// Some writers at once, a restart of the daemon in their middle, and a resharding.
fn tells_everything(implementation: Implementation, transactions: u64) {
    let seed = seed();
    let postgres = Postgres::lab(Version::usual());
    let kinesis = Kinesis::start(implementation);
    kinesis.create_stream("lab-events", 3);
    let daemon = Daemon::start(Settings::lab(&postgres, &kinesis));
    let mut fixture = Fixture { daemon, kinesis, postgres };
    fixture.wait_until_receiving();
    let work = Running::start(&fixture.postgres, 2, 40, seed);
    let committed = |count: u64| {
        eventually("the workload goes on", SOON, || (work.committed() >= count).then_some(()));
    };
    committed(transactions / 3);
    assert!(fixture.daemon.terminate().success());
    committed(transactions * 2 / 3);
    fixture.go_on();
    committed(transactions);
    work.stop();
    let report = fixture.wait_until_published();
    println!("{implementation:?}: {report}");
    report.assert_clean();
    assert_shape(&fixture.records());
    fixture.wait_until_confirmed();
    // LocalStack may respond so late, on a busy machine, that a stop or the limit of a response comes first.
    let late = implementation == Implementation::LocalStack;
    fixture.daemon.assert_quiet(if late { &["records_retried"] } else { &[] });
    fixture.wait_until_drained();
    assert!(fixture.daemon.terminate().success());
    // A clean restart repeats nothing that was answered.
    fixture.go_on();
    Workload::new(&fixture.postgres, seed + 1).commit(3);
    let again = fixture.wait_until_published();
    again.assert_clean();
    assert_eq!(again.duplicates, report.duplicates, "repeated after a clean restart");
    assert!(late || report.duplicates == 0, "a clean restart repeats nothing: {report}");
}
