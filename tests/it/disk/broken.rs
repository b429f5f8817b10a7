//! A daemon whose disk answers with errors, when a test says so.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::tracer::{self, Injection, injected};
use crate::support::daemon::Daemon;
use crate::support::flow::Flow;
use crate::support::process::Process;
use crate::support::random::seed;
use crate::support::{SOON, eventually};

/// What the daemon must say of an error that it was given.
const ERROR: &str = "Input/output error (os error 5)";
/// A daemon whose directory two levels of its own have to be made for.
pub struct Lab {
    pub flow: Flow,
    pub home: TempDir,
}

impl Lab {
    /// `None`, with a message, where nothing can be traced.
    pub fn prepare() -> Option<Self> {
        if !tracer::is_here() {
            return None;
        }
        let home =
            tempfile::Builder::new().prefix("fb-eio-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut flow = Flow::prepare(seed(), |_| {});
        let settings = flow.daemon.settings().clone();
        flow.daemon = Daemon::prepare_on(settings, &home.path().join("made/buffer"));
        Some(Self { flow, home })
    }

    pub fn directory(&self) -> PathBuf {
        self.flow.daemon.buffer_directory()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    pub fn report(&self) -> PathBuf {
        self.home.path().join("strace")
    }

    /// A start with this error, which ends it.
    #[track_caller]
    pub fn start_fails(&mut self, injection: &Injection) {
        let report = self.report();
        self.flow.daemon.settings().through = injection.through(&report);
        self.flow.daemon.start_again();
        self.flow.daemon.settings().through.clear();
        self.has_stopped(injection);
    }

    /// The running daemon gets this error from now on.
    pub fn attach(&self, injection: &Injection) -> Process {
        injection.attach(self.flow.daemon.id(), &self.report())
    }

    /// It has ended because of the error, and says so with what it tried, and on what.
    #[track_caller]
    pub fn has_stopped(&mut self, injection: &Injection) {
        let status = self.flow.daemon.wait();
        let log = self.flow.daemon.log().join("\n");
        let (hits, path) = (self.hits(), injection.paths[0].to_str().unwrap());
        assert!(!hits.is_empty(), "{injection:?} hit nothing; log:\n{log}");
        assert_eq!(status.code(), Some(1), "{injection:?}: {log}");
        // What is printed at the end: primary and hint, on lines of their own. Other threads may log after it.
        let from = log.rfind("\nforebay: ").unwrap_or_else(|| panic!("no last line:\n{log}"));
        let is_next = |line: &&str| line.starts_with("forebay: ") || line.starts_with("  ");
        let last = log[from..].trim_start().lines().take_while(is_next).collect::<Vec<_>>().join("\n");
        println!("{}\n  {last}", hits[0]);
        explains(&last, path);
    }

    /// Runs `forebay adopt` with this error, which ends it.
    #[track_caller]
    pub fn adopt_fails(&mut self, injection: &Injection) {
        let report = self.report();
        self.flow.daemon.settings().through = injection.through(&report);
        let output = self.flow.daemon.run(&["adopt", "--reason", "the test says so"]);
        self.flow.daemon.settings().through.clear();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let hits = self.hits();
        assert!(!hits.is_empty(), "{injection:?} hit nothing: {said}");
        assert_eq!(output.status.code(), Some(1), "{said}");
        println!("{}\n  {}", hits[0], said.lines().last().unwrap());
        explains(&said, injection.paths[0].to_str().unwrap());
    }

    pub fn hits(&self) -> Vec<String> {
        let report = self.report();
        let hits =
            eventually("strace has written its report", SOON, || report.exists().then(|| injected(&report)));
        std::fs::remove_file(&report).unwrap();
        hits
    }

    /// The segment that was begun last.
    pub fn last_segment(&self) -> PathBuf {
        segments(&self.directory()).pop().unwrap()
    }

    /// Commits so many plates of 4 KiB.
    pub fn bulk(&self, count: u32) {
        self.flow.postgres.execute(&format!(
            "insert into lab.plates (plate_id, barcode, notes) \
             select nextval('public.marks'), 'B' || currval('public.marks'), repeat('x', 4000) \
             from generate_series(1, {count})"
        ));
    }

    /// Waits until everything committed so far is confirmed.
    #[track_caller]
    pub fn wait_until_confirmed(&self) {
        let committed = self.flow.wal_end();
        let passed = || (self.flow.confirmed() >= Some(committed)).then_some(());
        eventually("the slot passes what was committed", SOON, passed);
    }

    /// The directory, the slot and the publication are as before the first start.
    pub fn forget(&mut self) {
        assert!(self.flow.daemon.terminate().success());
        self.flow.wait_until_slot_is_free();
        self.flow
            .postgres
            .execute("drop publication forebay_lab; select pg_drop_replication_slot('forebay_lab')");
        std::fs::remove_dir_all(self.home.path().join("made")).unwrap();
    }

    #[track_caller]
    pub fn finish(mut self) {
        self.flow.wait_until_published();
        self.flow.daemon.assert_quiet(&[
            "stream_unavailable",
            "stream_not_described",
            "stream_unverified",
            "source_paused",
            "records_retried",
        ]);
        assert!(self.flow.daemon.terminate().success());
        let report = self.flow.check();
        println!("{report}");
        report.assert_clean();
    }
}

/// What failed, where, why, and what to do.
#[track_caller]
fn explains(said: &str, path: &str) {
    // A draft is known by what it is the draft of.
    for text in [ERROR, path.trim_end_matches(".new"), "could not", "Look at the disk", "then start again"] {
        assert!(said.contains(text), "{text:?} is not said:\n{said}");
    }
}

/// Paths of the segments, in order.
pub fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|ending| ending == "log")).collect();
    found.sort();
    found
}

/// An input/output error.
pub fn eio(calls: &'static str, path: impl Into<PathBuf>) -> Injection {
    Injection::error("EIO", calls, path)
}
