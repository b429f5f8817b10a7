//! A laboratory at work into every Kinesis implementation that nobody here wrote.

use crate::e2e::shape::assert_shape;
use crate::support::daemon::{Daemon, Settings};
use crate::support::kinesis::{Implementation, Kinesis};
use crate::support::postgres::{Postgres, Version};
use crate::support::random::seed;
use crate::support::scene::Scene;
use crate::support::workload::{Running, Workload};
use crate::support::{SOON, eventually};

#[test]
fn everything_reaches_kinesalite() {
    tells_everything(Implementation::Kinesalite, 300);
}

#[test]
fn everything_reaches_kinesis_local() {
    tells_everything(Implementation::KinesisLocal, 60);
}

#[test]
fn everything_reaches_localstack() {
    tells_everything(Implementation::LocalStack, 60);
}

/// Some writers at once, a restart of the daemon in their middle, and a resharding.
fn tells_everything(implementation: Implementation, transactions: u64) {
    let seed = seed();
    let postgres = Postgres::lab(Version::usual());
    let kinesis = Kinesis::start(implementation);
    kinesis.create_stream("lab-events", 3);
    let daemon = Daemon::start(Settings::lab(&postgres, &kinesis));
    let mut scene = Scene { daemon, kinesis, postgres };
    scene.wait_until_receiving();
    let work = Running::start(&scene.postgres, 2, 40, seed);
    let committed = |count: u64| {
        eventually("the workload goes on", SOON, || (work.committed() >= count).then_some(()));
    };
    committed(transactions / 3);
    assert!(scene.daemon.terminate().success());
    committed(transactions * 2 / 3);
    scene.go_on();
    committed(transactions);
    work.stop();
    let report = scene.wait_until_told();
    println!("{implementation:?}: {report}");
    report.assert_clean();
    assert_shape(&scene.records());
    scene.wait_until_confirmed();
    scene.daemon.assert_quiet(&[]);
    assert!(scene.daemon.terminate().success());
    // A clean restart repeats nothing that was answered.
    scene.go_on();
    Workload::new(&scene.postgres, seed + 1).commit(3);
    let again = scene.wait_until_told();
    again.assert_clean();
    assert_eq!(again.duplicates, report.duplicates, "repeated after a clean restart");
    assert_eq!(report.duplicates, 0, "a clean restart repeats nothing");
}
