//! The whole flow of one test: the lab's database, the daemon, and the scriptable Kinesis, whose records stay whatever
//! happens to the other two.

use std::collections::HashSet;
use std::time::Duration;

use forebay::position::CommitSeq;
use kinesis_stub::{Config, Record, Stub};

use super::checker::past::Past;
use super::checker::{self, Report};
use super::daemon::{Daemon, Settings};
use super::eventually;
use super::history::Change;
use super::kinesis::StreamRecord;
use super::port;
use super::postgres::{Postgres, Version};

/// Long enough for a backlog of a minute to leave through a service that refuses, on a busy machine.
pub const DRAINED_WITHIN: Duration = Duration::from_mins(3);

/// See the module. The daemon is dropped first.
///
/// A test that runs for hours closes a window from time to time ([`Flow::close`]): what was committed and published until then is
/// checked and forgotten, and every question is about what came since.
#[derive(Debug)]
pub struct Flow {
    pub daemon: Daemon,
    pub stub: Stub,
    pub postgres: Postgres,
    published: HashSet<Change>,
    /// How many of the stub's records are in `published`.
    seen: usize,
    /// How many records the stub has forgotten.
    forgotten: u64,
    /// Audit number up to which windows are closed.
    closed: u64,
    past: Past,
}

impl Flow {
    /// A lab, a stub with four shards, and a daemon between them that is not started.
    pub fn prepare(seed: u64, change: impl FnOnce(&mut Settings)) -> Self {
        Self::over(Postgres::lab(Version::usual()), seed, change)
    }

    /// The same over a lab that a test has made its own way.
    pub fn over(postgres: Postgres, seed: u64, change: impl FnOnce(&mut Settings)) -> Self {
        Self::between(
            postgres,
            Config { seed, measure: true, ..Config::default().stream("lab-events", 4) },
            change,
        )
    }

    /// The same with a stub that a test has set up its own way.
    pub fn between(postgres: Postgres, stub: Config, change: impl FnOnce(&mut Settings)) -> Self {
        // Beyond the keys of the workload, which has at most 53 bits and looks at the lowest ones.
        postgres.execute(&format!("create sequence public.marks start {}", 1_u64 << 60));
        // Not one that the system gives to others while the stub is stopped.
        let stub = Stub::start(Config { port: port::free(), ..stub }).unwrap();
        let mut settings = Settings::new(postgres.url("forebay"), stub.endpoint());
        change(&mut settings);
        let daemon = Daemon::prepare(settings);
        Self {
            daemon,
            stub,
            postgres,
            published: HashSet::new(),
            seen: 0,
            forgotten: 0,
            closed: 0,
            past: Past::default(),
        }
    }

    /// Starts the daemon and waits until it receives. A slot that the walsender of a killed daemon still holds would be a
    /// warning of the new one.
    #[track_caller]
    pub fn start(&mut self) {
        self.wait_until_slot_is_free();
        self.daemon.start_again();
        self.daemon.wait_for_event("receiving");
    }

    /// What a reader of the stream has been given so far, in the order of storing.
    pub fn records(&self) -> Vec<StreamRecord> {
        self.stub.records().iter().map(as_read).collect()
    }

    /// The changes that the stream has so far.
    pub fn published(&mut self) -> &HashSet<Change> {
        if self.stub.stats().records == self.forgotten + self.seen as u64 {
            return &self.published;
        }
        let records = self.stub.records_from(self.seen);
        for record in &records {
            let lines = record.data.split_inclusive(|byte| *byte == b'\n');
            self.published.extend(lines.filter_map(checker::change));
        }
        self.seen += records.len();
        &self.published
    }

    /// Audit number up to which windows are closed: what has a lower one was published.
    pub fn closed(&self) -> u64 {
        self.closed
    }

    /// Checks the window and begins a new one. Nobody writes meanwhile, and everything committed was published
    /// ([`wait_until_published`](Self::wait_until_published)); else the report says what is lost.
    pub fn close(&mut self) -> Report {
        self.close_without(&HashSet::new())
    }

    /// The same, and these changes are not expected: dead letters have them.
    pub fn close_without(&mut self, unsent: &HashSet<Change>) -> Report {
        let history = self.postgres.history_after(self.closed);
        let records = self.stub.take_records();
        self.forgotten += records.len() as u64;
        self.closed = history.last().map_or(self.closed, |(nr, _)| *nr);
        (self.seen, self.published) = (0, HashSet::new());
        let history = history.into_iter().map(|(_, change)| change);
        let history: Vec<Change> = history.filter(|change| !unsent.contains(change)).collect();
        let records: Vec<_> = records.iter().map(as_read).collect();
        let report = self.past.close(&history, &records);
        if !report.is_clean() {
            self.leave_behind(&history, &records, &report);
        }
        report
    }

    /// For whoever looks into a failure: the window, beside the daemon's directory.
    fn leave_behind(&self, history: &[Change], records: &[StreamRecord], report: &Report) {
        let lines: Vec<String> = history.iter().map(|change| format!("{change:?}\n")).collect();
        let data: Vec<u8> = records.iter().flat_map(|record| record.data.iter().copied()).collect();
        let home = self.daemon.home();
        std::fs::write(home.join("window-history.txt"), lines.concat()).unwrap();
        std::fs::write(home.join("window-stream.jsonl"), data).unwrap();
        std::fs::write(home.join("window-report.txt"), format!("{report:#?}\n")).unwrap();
    }

    /// Waits until the stream has every change that is committed now.
    #[track_caller]
    pub fn wait_until_published(&mut self) {
        let history = self.postgres.history_after(self.closed);
        let mut missing = 0;
        let all = super::poll(DRAINED_WITHIN, || {
            let published = self.published();
            missing = history.iter().filter(|(_, change)| !published.contains(change)).count();
            (missing == 0).then_some(())
        });
        let log = self.daemon.log();
        let tail = log.get(log.len().saturating_sub(30)..).unwrap_or_default().join("\n");
        let total = history.len();
        assert!(
            all.is_some(),
            "{missing} of {total} changes have not come within {DRAINED_WITHIN:?}; log:\n{tail}"
        );
    }

    /// Waits until the stream has a change that was not committed before the call.
    #[track_caller]
    pub fn wait_until_it_moves(&mut self, what: &str) {
        let marker = self.mark();
        let deadline = DRAINED_WITHIN;
        eventually(&format!("{what}: plate {marker} is published"), deadline, || {
            self.published().iter().any(|change| change.key == marker).then_some(())
        });
    }

    /// Waits until nothing in the log of the running daemon waits: each event was acknowledged, and the dead letters are in
    /// their file. A record is in the stream before that.
    #[track_caller]
    pub fn wait_until_drained(&self) {
        eventually("the log is drained", super::SOON, || {
            (self.daemon.metric("forebay_log_frames_unpublished")? == 0.0).then_some(())
        });
    }

    /// Waits until the daemon says that it is ready.
    #[track_caller]
    pub fn wait_until_ready(&self) {
        let mut reason = String::new();
        let ready = || match self.daemon.ready() {
            Ok(()) => Some(()),
            Err(why) => {
                reason = why;
                None
            }
        };
        assert!(super::poll(super::SOON, ready).is_some(), "not ready: {reason}");
    }

    /// Waits until the daemon has logged this event twice more, each time without having published the marker.
    #[track_caller]
    pub fn wait_while_unpublished(&mut self, marker: &str, event: &str, value: &str) {
        for _ in 0..2 {
            let log = self.daemon.mark();
            self.daemon.wait_for_event_with(log, event, value);
            assert!(!self.published().iter().any(|change| change.key == marker), "{marker} is published");
        }
    }

    /// Commits a plate that nobody else touches; its key.
    pub fn mark(&self) -> String {
        self.postgres.value(
            "insert into lab.plates (plate_id, barcode) select n, 'M' || n from nextval('public.marks') n \
             returning plate_id",
        )
    }

    /// What the slot has confirmed; `None` if there is no slot.
    pub fn confirmed(&self) -> Option<CommitSeq> {
        let slots = self
            .postgres
            .query("select confirmed_flush_lsn from pg_replication_slots where slot_name = 'forebay_lab'");
        slots.into_iter().flatten().next().flatten().map(|lsn| lsn.parse().unwrap())
    }

    /// Where the write-ahead log ends now.
    pub fn wal_end(&self) -> CommitSeq {
        self.postgres.value("select pg_current_wal_lsn()").parse().unwrap()
    }

    /// Waits until nobody reads the slot, so that what it has confirmed is final.
    #[track_caller]
    pub fn wait_until_slot_is_free(&self) {
        eventually("nobody reads the slot", super::SOON, || {
            let active =
                "select count(*) from pg_replication_slots where slot_name = 'forebay_lab' and active";
            (self.postgres.value(active) == "0").then_some(())
        });
    }

    /// Compares everything that was committed with everything that a reader got.
    pub fn check(&self) -> Report {
        let history = self.postgres.history_after(self.closed);
        let history: Vec<Change> = history.into_iter().map(|(_, change)| change).collect();
        self.past.check(&history, &self.records())
    }

    /// The same for a reader that follows the contract: it drops what is not beyond the last `sequence` of the key.
    pub fn check_as_consumer(&self) -> Report {
        checker::check(&self.postgres.history(), &checker::as_consumer(&self.records()))
    }
}

fn as_read(record: &Record) -> StreamRecord {
    StreamRecord {
        shard: record.shard.to_string(),
        sequence: record.sequence.clone(),
        key: record.key.clone(),
        data: record.data.to_vec(),
    }
}
