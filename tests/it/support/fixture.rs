//! The usual fixture of a test with the built daemon: a lab database, kinesalite with a stream, `forebay` between them.

use serde_json::Value;

use super::checker::{self, Report};
use super::daemon::{Daemon, Settings};
use super::history::Change;
use super::kinesis::{Kinesis, StreamRecord};
use super::postgres::{Postgres, Version};
use super::{SOON, eventually};

/// All three of it. The daemon is declared first: it is stopped first.
#[derive(Debug)]
pub struct Fixture {
    /// Started or not, as the test says.
    pub daemon: Daemon,
    /// With stream `lab-events`.
    pub kinesis: Kinesis,
    /// With the lab.
    pub postgres: Postgres,
}

impl Fixture {
    /// A lab, an empty stream of two shards, and a daemon that was never started.
    pub fn prepare(version: Version) -> Self {
        Self::prepare_with(Postgres::lab(version))
    }

    /// As [`prepare`](Self::prepare), with a lab of the test's own.
    pub fn prepare_with(postgres: Postgres) -> Self {
        let kinesis = Kinesis::kinesalite();
        kinesis.create_stream("lab-events", 2);
        let daemon = Daemon::prepare(Settings::lab(&postgres, &kinesis));
        Self { daemon, kinesis, postgres }
    }

    /// As [`prepare`](Self::prepare), and the daemon receives.
    pub fn start(version: Version) -> Self {
        let mut fixture = Self::prepare(version);
        fixture.daemon.start_again();
        fixture.wait_until_receiving();
        fixture
    }

    /// Starts the daemon on what it has and waits until the stream is open. A slot that the walsender of a killed daemon still
    /// holds would be a warning of the new one.
    pub fn go_on(&mut self) {
        self.wait_until_slot_is_free();
        self.daemon.start_again();
        self.wait_until_receiving();
    }

    /// Waits until the replication stream is open.
    #[track_caller]
    pub fn wait_until_receiving(&self) {
        self.daemon.wait_for_event("receiving");
    }

    /// Inserts plates with these ids, one transaction each.
    pub fn plates(&self, ids: std::ops::Range<u32>) {
        let mut session = self.postgres.session("postgres");
        for id in ids {
            session.execute(&format!("insert into lab.plates (plate_id, barcode) values ({id}, 'PLT-{id}')"));
        }
    }

    /// Everything in the stream.
    pub fn records(&self) -> Vec<StreamRecord> {
        self.kinesis.records("lab-events")
    }

    /// Everything in the stream, line by line.
    pub fn events(&self) -> Vec<Value> {
        events(&self.records())
    }

    /// Waits until every change that the database remembers has been published.
    #[track_caller]
    pub fn wait_until_published(&self) -> Report {
        self.wait_until_all_published(&self.postgres.history())
    }

    /// Waits until every one of these changes has been published.
    #[track_caller]
    pub fn wait_until_all_published(&self, history: &[Change]) -> Report {
        let mut last = Report::default();
        let complete = super::poll(SOON, || {
            last = checker::check(history, &self.records());
            last.lost.is_empty().then_some(())
        });
        assert!(complete.is_some(), "not published within {SOON:?}: {last}");
        last
    }

    /// Starts the daemon, which must refuse: exit code 1, each of `texts` on its error stream. Gives all it said.
    #[track_caller]
    pub fn refuses(&mut self, texts: &[&str]) -> String {
        self.daemon.start_again();
        self.gives_up(texts)
    }

    /// The running daemon must end with exit code 1 and each of `texts` on its error stream. Gives all it said.
    #[track_caller]
    pub fn gives_up(&mut self, texts: &[&str]) -> String {
        let status = self.daemon.wait();
        let said = self.daemon.log().join("\n");
        assert_eq!(status.code(), Some(1), "{said}");
        for text in texts {
            assert!(said.contains(text), "not said: {text:?}\n{said}");
        }
        println!("refused: {}", self.daemon.log().last().cloned().unwrap_or_default());
        said
    }

    /// Runs `forebay adopt`, which must succeed. Gives what it printed.
    #[track_caller]
    pub fn adopt(&self, more: &[&str]) -> String {
        let arguments = [&["adopt", "--reason", "the test says so"], more].concat();
        let output = self.daemon.run(&arguments);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{said}");
        println!("adopted: {said}");
        said
    }

    /// Runs `forebay adopt`, which must refuse with exit code 1 and each of `texts`.
    #[track_caller]
    pub fn adopt_refuses(&self, more: &[&str], texts: &[&str]) {
        let arguments = [&["adopt", "--reason", "the test says so"], more].concat();
        let output = self.daemon.run(&arguments);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        for text in texts {
            assert!(said.contains(text), "not said: {text:?}\n{said}");
        }
    }

    /// The published gap of an epoch.
    #[track_caller]
    pub fn gap(&self, epoch: u64) -> Value {
        eventually("the gap is published", SOON, || {
            let is_it = |event: &Value| event["type"] == "forebay.gap.v1" && event["data"]["epoch"] == epoch;
            self.events().into_iter().find(is_it)
        })
    }

    /// What the slot has confirmed; empty if there is no slot.
    pub fn confirmed(&self) -> String {
        let slot = "select confirmed_flush_lsn from pg_replication_slots where slot_name = 'forebay_lab'";
        self.postgres.value(slot)
    }

    /// Waits until the slot has confirmed everything written so far.
    #[track_caller]
    pub fn wait_until_confirmed(&self) {
        let target = self.postgres.value("select pg_current_wal_flush_lsn()");
        let sql = format!(
            "select confirmed_flush_lsn >= '{target}' from pg_replication_slots where slot_name = 'forebay_lab'"
        );
        let confirmed = || (self.postgres.value(&sql) == "t").then_some(());
        eventually("everything is confirmed", SOON, confirmed);
    }

    /// Waits until nobody reads the slot. A server that is away has no reader.
    #[track_caller]
    pub fn wait_until_slot_is_free(&self) {
        let active = "select 1 from pg_replication_slots where slot_name = 'forebay_lab' and active";
        eventually("nobody reads the slot", SOON, || {
            let session = self.postgres.try_session("postgres", "postgres");
            session.map_or(Some(()), |mut session| session.query(active).is_empty().then_some(()))
        });
    }

    /// Waits until the daemon knows of everything that is published: a record is in the stream before its response arrives.
    #[track_caller]
    pub fn wait_until_drained(&self) {
        eventually("the log is drained", SOON, || {
            (self.daemon.metric("forebay_log_frames_unpublished")? == 0.0).then_some(())
        });
    }

    /// Names of all slots and publications of the lab.
    pub fn slots_and_publications(&self) -> String {
        self.postgres.value(
            "select concat((select string_agg(slot_name, ',' order by 1) from pg_replication_slots \
                            where slot_type = 'logical'),
                    '/', (select string_agg(pubname, ',' order by 1) from pg_publication))",
        )
    }
}

/// The lines of records as JSON.
#[track_caller]
pub fn events(records: &[StreamRecord]) -> Vec<Value> {
    let lines = records.iter().flat_map(|record| record.data.split_inclusive(|&byte| byte == b'\n'));
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}
