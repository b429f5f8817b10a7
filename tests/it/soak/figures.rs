//! What a long run counts, how long it lasts, and what it says when it fails.

use std::time::{Duration, Instant};

use crate::crash::promise::Kept;
use crate::support::checker::Report;
use crate::support::daemon::Daemon;

/// What the issue allows, whatever happens.
const RESIDENT_MAX: u64 = 96 << 20;

/// How long a run lasts: `ROUNDS=n`, or `SOAK_SECONDS=n`, or the least of both; else the few rounds of every test run.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    rounds: Option<usize>,
    time: Option<Duration>,
}

impl Extent {
    /// Reads the environment.
    pub fn read(rounds: usize) -> Self {
        let number = |name: &str| {
            let text = std::env::var(name).ok()?;
            Some(text.parse::<usize>().unwrap_or_else(|_| panic!("{name} is a number")))
        };
        let time = number("SOAK_SECONDS").map(|seconds| Duration::from_secs(seconds as u64));
        let rounds = number("ROUNDS").or_else(|| time.is_none().then_some(rounds));
        Self { rounds, time }
    }
}

/// The counts of a run. Dropped while the test fails, it says where it was.
#[derive(Debug)]
pub struct Figures {
    phase: &'static str,
    seed: u64,
    extent: Extent,
    began: Instant,
    /// The round that runs, from 0 on.
    round: usize,
    doing: String,
    /// Of all windows.
    pub report: Report,
    /// What was confirmed at each death.
    pub kept: Kept,
    /// Starts of the daemon, the first one included.
    pub starts: usize,
    /// Most bytes of the log, and the most that was resident.
    log_bytes: u64,
    resident: u64,
}

impl Figures {
    /// Of a phase: one word.
    pub fn new(phase: &'static str, seed: u64, extent: Extent) -> Self {
        Self {
            phase,
            seed,
            extent,
            began: Instant::now(),
            round: 0,
            doing: "starting".to_owned(),
            report: Report::default(),
            kept: Kept::default(),
            starts: 0,
            log_bytes: 0,
            resident: 0,
        }
    }

    /// Rounds that are over.
    pub fn rounds(&self) -> usize {
        self.round
    }

    /// Whether there is another round, for which there is time.
    pub fn go_on(&self) -> bool {
        self.extent.rounds.is_none_or(|rounds| self.round < rounds)
            && self.extent.time.is_none_or(|time| self.began.elapsed() < time)
    }

    /// What happens now, for the message of a failure.
    pub fn doing(&mut self, what: impl Into<String>) {
        self.doing = what.into();
    }

    /// A round is over.
    pub fn next_round(&mut self) {
        self.round += 1;
    }

    /// Looks at the log and the memory of a daemon, which may have ended.
    #[track_caller]
    pub fn measure(&mut self, daemon: &Daemon, log_max: u64) {
        let log = daemon.log_bytes();
        assert!(log <= log_max, "the log has {log} bytes, {log_max} are allowed");
        self.log_bytes = self.log_bytes.max(log);
        let Some(resident) = daemon.highest_resident() else { return };
        assert!(resident <= RESIDENT_MAX, "{} MiB resident at the highest", resident >> 20);
        self.resident = self.resident.max(resident);
    }

    /// A window is closed: it must be clean.
    #[track_caller]
    pub fn window(&mut self, report: Report) {
        report.assert_clean();
        self.report += report;
        let rounds = self.extent.rounds.map(|rounds| format!(" of {rounds}")).unwrap_or_default();
        let Report { committed, duplicates, .. } = self.report;
        println!(
            "{}: {}{rounds} rounds, {} s: {committed} changes, all published in order; {duplicates} duplicates",
            self.phase,
            self.round,
            self.began.elapsed().as_secs()
        );
    }

    /// The line that `scripts/soak` makes its table of.
    pub fn summary(&self) -> String {
        let Self { phase, seed, report, kept, log_bytes, resident, .. } = self;
        let restarts = self.starts.saturating_sub(1);
        format!(
            "SUMMARY {phase} seed={seed} rounds={} seconds={} committed={} lost={} reordered={} altered={} \
             duplicates={} restarts={restarts} duplicates_a_restart={} confirmed={} only_durable={} log_bytes={log_bytes} \
             resident_bytes={resident}",
            self.round,
            self.began.elapsed().as_secs(),
            report.committed,
            report.lost.len(),
            report.reordered.len() + report.misfiled.len(),
            report.altered.len() + report.unexpected.len() + report.malformed.len(),
            report.duplicates,
            report.duplicates / restarts.max(1),
            kept.promised,
            kept.only_durable,
        )
    }
}

impl Drop for Figures {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { phase, seed, round, doing, .. } = self;
            eprintln!("FAILED {phase} seed={seed} round={round}: {doing}");
        }
    }
}

#[test]
fn run_ends_after_its_rounds_or_time() {
    for (rounds, seconds, over, expected) in [
        (Some(2), None, 1, true),
        (Some(2), None, 2, false),
        (None, Some(3_600), 1_000_000, true),
        (None, Some(0), 0, false),
        (Some(2), Some(3_600), 2, false),
    ] {
        let extent = Extent { rounds, time: seconds.map(Duration::from_secs) };
        let mut figures = Figures::new("test", 1, extent);
        (0..over).for_each(|_| figures.next_round());
        assert_eq!(figures.go_on(), expected, "{extent:?}, {over} rounds are over");
    }
}
