//! The whole model: a world, a directory, a stream and, if it runs, the daemon; and what it is allowed to do.

use std::time::{Duration, Instant};

use forebay::config::ConfirmAfter;
use forebay::source::postgres::admit::Wanted;

use super::daemon::Daemon;
use super::disk::Disk;
use super::planted::Fault;
use super::random::Random;
use super::stream::Stream;
use super::world::World;

/// What a check has found.
pub type Violation = String;

/// What is configured for a walk.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    pub confirm_after: ConfirmAfter,
    /// The directory is lost with the process.
    pub wiped: bool,
    pub standby: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Sim {
    pub random: Random,
    pub mode: Mode,
    pub fault: Option<Fault>,
    pub world: World,
    pub disk: Disk,
    pub stream: Stream,
    pub daemon: Option<Daemon>,
    /// The last start, or the last attempt, was refused, and it does not pass by itself.
    pub refused: bool,
    pub adopts: usize,
    pub gaps_lost: usize,
    /// A lane that the stream refuses.
    pub stuck: Option<u8>,
    /// Mishaps in a hundred steps.
    pub rough: u64,
    began: Instant,
    elapsed: Duration,
    pub trace: bool,
}

impl Sim {
    pub fn new(seed: u64, fault: Option<Fault>, trace: bool) -> Self {
        let mut random = Random::new(seed);
        let (confirm_after, wiped) = match random.below(6) {
            0 => (ConfirmAfter::Never, true),
            1 => (ConfirmAfter::Never, false),
            2 | 3 => (ConfirmAfter::Waited(Duration::ZERO), false),
            _ => (ConfirmAfter::Waited(Duration::from_secs(5)), false),
        };
        let rough = [1, 3, 6, 12][random.index(4)];
        let mode = Mode { confirm_after, wiped, standby: random.one_in(4) };
        let mut sim = Self {
            world: World::new(mode.standby),
            random,
            mode,
            fault,
            disk: Disk::default(),
            stream: Stream::default(),
            daemon: None,
            refused: false,
            adopts: 0,
            gaps_lost: 0,
            stuck: None,
            rough,
            began: Instant::now(),
            elapsed: Duration::ZERO,
            trace,
        };
        if !wiped {
            sim.first_checkpoint();
        }
        sim
    }

    pub fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub fn now(&self) -> Instant {
        self.began + self.elapsed
    }

    pub fn pass_time(&mut self, milliseconds: u64) {
        self.elapsed += Duration::from_millis(milliseconds);
    }

    pub fn wanted(&self) -> Wanted {
        Wanted {
            database: "lab".into(),
            slot: "s".into(),
            publication: "p".into(),
            source: "urn:forebay:lab".into(),
            never_written: self.mode.wiped,
            epoch_least: 0,
            at: 0,
        }
    }

    #[expect(clippy::print_stderr, reason = "the trace of a walk that is replayed")]
    pub fn note(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("  {}", what());
        }
    }
}
