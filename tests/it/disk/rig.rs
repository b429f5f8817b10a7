//! The power-cut rig: the daemon works under load with its directory on a [`Volume`]; Postgres and the stream outlive the
//! cut. At a random moment the daemon is stopped where it stands, the image copied, the daemon killed, the copy mounted in
//! place, and the daemon started again.
//!
//! Between start and cut some files may be fsynced by the rig: the kernel writes back what it likes, in any order, before
//! anybody asks. In a negative control fsync does nothing (strace answers in its stead): then the rig must find a loss or
//! a refusal, else it proves nothing.

use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use forebay::buffer::checkpoint::{Checkpoint, CheckpointFile};
use forebay::buffer::disk::Directory;

use super::tracer::Injection;
use super::volume::Volume;
use crate::support::checker::Report;
use crate::support::daemon::Daemon;
use crate::support::flow::{DRAINED_WITHIN, Flow};
use crate::support::process::Signal;
use crate::support::random::Random;
use crate::support::workload::Running;
use crate::support::{SOON, eventually, poll};

/// The size of the file system: two slots of the checkpoint, the log at its limit, and room to write them.
const IMAGE_MIB: u64 = 64;
/// How long a healthy round waits for a confirm: with this load there need not be one.
const PATIENCE: Duration = Duration::from_secs(8);

/// Whose fsync does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Void {
    Nobodys,
    Everything,
    Checkpoint,
    Log,
}

/// What happens before a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fixture {
    /// Kinesis is away until the slot has passed what only the log has; it may be back for a moment.
    Outage,
    /// Until something was confirmed.
    Healthy,
    /// At any moment from the start on.
    Early,
}

/// See the module.
#[derive(Debug)]
pub struct Rig {
    // In this order they are dropped: nobody writes to a volume that goes.
    load: Option<Running>,
    flow: Flow,
    volume: Volume,
    random: Random,
    seed: u64,
    began: Instant,
    counts: Counts,
}

/// What the cuts hit.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    cuts: usize,
    /// The log had what Postgres may have forgotten and the stream did not have yet.
    durable_only: usize,
    /// Most segments that a cut has left.
    segments: usize,
}

/// What a run has found: printed as one line that machines read.
#[derive(Clone, Debug)]
pub struct Summary {
    pub cuts: usize,
    pub durable_only: usize,
    pub segments: usize,
    pub refused: Option<String>,
    pub report: Report,
    pub seconds: u64,
    pub seed: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cuts, durable_only, segments, refused, report, seconds, seed } = self;
        let (rows, duplicates) = (report.committed, report.duplicates);
        let (lost, reordered) = (report.lost.len(), report.reordered.len());
        write!(
            f,
            "POWER_CUTS rounds={cuts} rows={rows} lost={lost} reordered={reordered} duplicates={duplicates} "
        )?;
        write!(
            f,
            "refused={} held_only_rounds={durable_only} segments_max={segments} ",
            u8::from(refused.is_some())
        )?;
        write!(f, "seconds={seconds} seed={seed}")
    }
}

impl Summary {
    /// Nothing lost, nothing overtaken, no person needed; and the log was what saved it.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert_eq!(self.refused, None, "{self}");
        self.report.assert_clean();
        assert_eq!(self.report.notices, 0, "nobody has adopted anything");
        assert!(self.durable_only > 0, "no cut hit changes that only the log had: {self}");
        assert!(self.segments > 1, "the log never had two segments: {self}");
    }
}

impl Rig {
    /// Everything but the load; `None`, with a message, where there can be no volume.
    pub fn prepare(seed: u64) -> Option<Self> {
        let volume = Volume::make(IMAGE_MIB)?;
        let mut flow = Flow::prepare(seed, |settings| "16 MiB".clone_into(&mut settings.max_size));
        let settings = flow.daemon.settings().clone();
        flow.daemon = Daemon::prepare_on(settings, &volume.mount_point().join("buffer"));
        let (random, began) = (Random::new(seed), Instant::now());
        Some(Self { load: None, flow, volume, random, seed, began, counts: Counts::default() })
    }

    /// Cuts the power this many times under load, and compares what was committed with what came.
    pub fn run(mut self, rounds: usize) -> Summary {
        self.begin();
        let mut refused = None;
        for round in 0..rounds {
            let fixture = [Fixture::Outage, Fixture::Healthy, Fixture::Early][round % 3];
            refused = self.round(fixture, Void::Nobodys).err();
            if refused.is_some() {
                break;
            }
        }
        self.finish(refused, DRAINED_WITHIN)
    }

    /// A start in order, an outage with fsync doing nothing, a cut: what comes of it.
    pub fn run_without_fsync(mut self, void: Void) -> Summary {
        self.begin();
        let refused = self.round(Fixture::Outage, void).err();
        // What a cut has taken does not come however long one waits.
        self.finish(refused, Duration::from_secs(20))
    }

    /// Cuts the power at random moments of a first start; each next one must go on from there by itself.
    pub fn run_first_starts(mut self, rounds: usize) -> Summary {
        let mut refused = None;
        for round in 0..rounds {
            self.flow.daemon.start_again();
            self.pass(350);
            self.cut();
            self.flow.daemon.start_again();
            refused = self.started().err();
            if refused.is_some() || round + 1 == rounds {
                break;
            }
            self.flow.wait_until_it_moves("after a first start without power");
            assert!(self.flow.daemon.terminate().success());
            self.flow.wait_until_slot_is_free();
            let forget = "drop publication forebay_lab; select pg_drop_replication_slot('forebay_lab')";
            self.flow.postgres.execute(forget);
            self.flow.daemon.wipe();
            // Else the next cut may bring the old directory back, and a slot that was dropped is rightly missed.
            self.volume.sync();
        }
        if refused.is_none() {
            self.flow.wait_until_it_moves("the last one");
            assert!(self.flow.daemon.terminate().success());
        }
        self.finish(refused, DRAINED_WITHIN)
    }

    /// A first start in order (what is committed before there is a slot is never published), then the load.
    fn begin(&mut self) {
        self.flow.start();
        self.flow.wait_until_it_moves("before");
        assert!(self.flow.daemon.terminate().success());
        self.load = Some(Running::start(&self.flow.postgres, 2, 20, self.random.bits()));
    }

    /// Start, live, cut. `Err`: it has refused to start, and why.
    fn round(&mut self, fixture: Fixture, void: Void) -> Result<(), String> {
        let confirm_after = match fixture {
            Fixture::Outage if !self.random.once_in(4) => *self.random.pick(&["0s", "1s"]),
            _ => *self.random.pick(&["0s", "1s", "5s"]),
        };
        self.flow.daemon.settings().confirm_after = Some(confirm_after.to_owned());
        let injection = self.void(void);
        let report = self.volume.mount_point().with_file_name("strace");
        self.flow.daemon.settings().through =
            injection.map(|injection| injection.through(&report)).unwrap_or_default();
        self.flow.daemon.start_again();
        if fixture != Fixture::Early {
            self.started()?;
        }
        match fixture {
            Fixture::Outage => self.live_without_kinesis(void),
            Fixture::Healthy => self.live(),
            Fixture::Early => self.pass(1_500),
        }
        if void == Void::Nobodys {
            self.write_something_back();
        }
        self.cut();
        self.flow.stub.restart().unwrap();
        Ok(())
    }

    /// Waits until it receives, or has refused to.
    fn started(&mut self) -> Result<(), String> {
        let daemon = &mut self.flow.daemon;
        let receives = eventually("it starts, or refuses", SOON, || {
            let receives = daemon.count_events("receiving") > 0;
            (receives || !daemon.is_running()).then_some(receives)
        });
        if receives {
            return Ok(());
        }
        self.flow.daemon.wait();
        Err(self.flow.daemon.log().join("\n"))
    }

    fn live(&mut self) {
        let before = self.flow.confirmed();
        poll(PATIENCE, || (self.flow.confirmed() > before).then_some(()));
        self.pass(700);
    }

    fn live_without_kinesis(&mut self, void: Void) {
        self.flow.stub.stop();
        self.flow.postgres.execute(
            "insert into lab.plates (plate_id, barcode, notes) \
             select nextval('public.marks'), 'B' || currval('public.marks'), repeat('x', 4000) from generate_series(1, 400)",
        );
        let (before, committed) = (self.flow.confirmed(), self.flow.wal_end());
        let may_be_full = void == Void::Nobodys;
        eventually("the slot moves without Kinesis", SOON, || {
            let confirmed = self.flow.confirmed();
            // On a slow machine, what was written while it was down may fill the log first, or have filled it before.
            let full = || self.flow.daemon.metric("forebay_source_paused") == Some(1.0);
            (confirmed > Some(committed) || (confirmed > before || may_be_full) && full()).then_some(())
        });
        // At the first cut, the log has what the stream has not.
        if void == Void::Nobodys && self.counts.cuts > 0 && self.random.once_in(2) {
            self.flow.stub.restart().unwrap();
            self.pass(900);
        }
    }

    /// A random time.
    fn pass(&mut self, most_millis: usize) {
        let time = Duration::from_millis(self.random.below(most_millis) as u64);
        self.flow.stub.wait(time, |_| false);
    }

    /// The kernel's own write-back: some files, and not others.
    fn write_something_back(&mut self) {
        let Ok(entries) = std::fs::read_dir(self.flow.daemon.buffer_directory()) else { return };
        for entry in entries.flatten() {
            if self.random.once_in(6)
                && let Ok(file) = File::open(entry.path())
            {
                // It may be deleted at this very moment.
                file.sync_all().unwrap_or_default();
            }
        }
    }

    fn cut(&mut self) {
        let daemon = &mut self.flow.daemon;
        daemon.signal(Signal::STOP);
        let id = daemon.id();
        eventually("all of its threads stand still", SOON, || {
            // One that has refused meanwhile stands very still.
            (!daemon.is_running() || stands_still(id)).then_some(())
        });
        let snapshot = self.volume.snapshot();
        self.flow.daemon.kill9();
        self.flow.wait_until_slot_is_free();
        snapshot.restore(&mut self.volume);
        self.counts.cuts += 1;
        let directory = self.flow.daemon.buffer_directory();
        if let Some(checkpoint) = self.checkpoint() {
            self.counts.durable_only += usize::from(checkpoint.durable.frame > checkpoint.watermark.frame);
        }
        let names = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let segments =
            names.filter(|entry| entry.path().extension().is_some_and(|ending| ending == "log")).count();
        self.counts.segments = self.counts.segments.max(segments);
    }

    /// What the directory of the dead daemon says.
    fn checkpoint(&self) -> Option<Checkpoint> {
        let directory = Directory::open(&self.flow.daemon.buffer_directory()).ok()?;
        CheckpointFile::open(&directory).ok().and_then(|(_, checkpoint)| checkpoint)
    }

    fn void(&self, void: Void) -> Option<Injection> {
        let directory = self.flow.daemon.buffer_directory();
        let paths: Vec<PathBuf> = match void {
            Void::Nobodys => return None,
            Void::Everything => Vec::new(),
            Void::Checkpoint => vec![directory.join("checkpoint")],
            Void::Log => {
                // After a stop in order, the next frame begins a segment of its own.
                let next = self.checkpoint().expect("it has stopped in order").durable.frame.next();
                vec![directory.join(format!("{:020}.log", next.0))]
            }
        };
        Some(Injection::void_fsync(paths))
    }

    fn finish(mut self, mut refused: Option<String>, deadline: Duration) -> Summary {
        self.flow.daemon.settings().through.clear();
        if refused.is_none() {
            self.flow.daemon.start_again();
            refused = self.started().err();
        }
        if let Some(load) = self.load.take() {
            load.stop();
        }
        if refused.is_none() {
            let history = self.flow.postgres.history();
            let flow = &mut self.flow;
            poll(deadline, || {
                let published = flow.published();
                history.iter().all(|change| published.contains(change)).then_some(())
            });
        }
        let Counts { cuts, durable_only, segments } = self.counts;
        let (report, seconds) = (self.flow.check(), self.began.elapsed().as_secs());
        let summary = Summary { cuts, durable_only, segments, refused, report, seconds, seed: self.seed };
        println!("{summary}");
        summary
    }
}

/// Whether every thread of a process is stopped.
fn stands_still(id: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{id}/task")) else { return true };
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 't', 'Z', 'X']))
    })
}
