//! One history: lives of the process among faults at both ends, then peace, then judgement.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use forebay::config::{Config, ConfirmAfter, Pack};
use tokio::time::Instant;

use super::planted::Planted;
use super::process::{self, End, Process};
use super::reader;
use super::shared::{Shared, State, Violation};

/// How long peace may last, in simulated seconds, before everything has come.
const PEACE_MAX: u64 = 600;

/// What a history was like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub violation: Option<Violation>,
    pub trace: Vec<String>,
    pub events: u64,
    pub repeats: u64,
    pub deaths: u64,
    pub adopts: u64,
}

/// Runs the history of a seed.
pub fn run(seed: u64, planted: Option<Planted>, trace: bool) -> Seen {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let history = History::new(seed, planted, trace, directory.path());
        history.run().await
    })
}

fn config(directory: &Path) -> Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "name = \"lab\"\n[source]\nurl = \"postgres://forebay@localhost/lab\"\n[kinesis]\nstream = \"s\"\n\
                    [buffer]\ndir = \"/dev/shm\"\nconfirm_after = \"1s\"\n";
        std::fs::write(file.path(), text).unwrap();
        Config::read(file.path(), std::iter::empty()).unwrap()
    });
    let mut config = config.clone();
    config.buffer.dir = directory.join("buffer");
    config
}

struct History {
    shared: Shared,
    config: Config,
    pack: Pack,
    seen: Seen,
}

impl History {
    fn new(seed: u64, planted: Option<Planted>, trace: bool, directory: &Path) -> Self {
        let shared = Shared::new(seed, planted, trace);
        let mut config = config(directory);
        let pack = {
            let random = &mut shared.borrow_mut().random;
            config.buffer.confirm_after_written = Some(match random.below(4) {
                0 => ConfirmAfter::Never,
                1 => ConfirmAfter::Waited(Duration::ZERO),
                2 => ConfirmAfter::Waited(Duration::from_secs(1)),
                _ => ConfirmAfter::Waited(Duration::from_secs(5)),
            });
            config.buffer.max_size = [80 << 10, 160 << 10, 16 << 20][random.index(3)];
            if random.one_in(3) { Pack::Lines } else { Pack::Off }
        };
        process::first_checkpoint(&shared, &config);
        Self { shared, config, pack, seen: Seen::default() }
    }

    fn failed(&self) -> bool {
        let state = self.shared.borrow();
        state.violation.is_some() || state.stream.violation.is_some()
    }

    async fn run(mut self) -> Seen {
        let lives = 1 + self.shared.borrow_mut().random.below(6);
        for _ in 0..lives {
            if !self.failed() {
                self.live().await;
            }
        }
        if !self.failed() {
            self.peace().await;
        }
        let mut state = self.shared.borrow_mut();
        self.seen.violation = state.violation.take().or_else(|| state.stream.violation.take());
        self.seen.trace = state.trace.take().unwrap_or_default();
        self.seen.events = state.stream.first.len() as u64;
        self.seen.repeats = state.stream.repeats;
        self.seen.adopts = state.adopts as u64;
        drop(state);
        self.seen
    }

    /// Starts until it is not refused.
    async fn start(&self) -> Process {
        loop {
            if self.shared.borrow().refused {
                process::adopt(&self.shared, &self.config);
            }
            match Process::start(&self.shared, &self.config, self.pack) {
                Some(process) => return process,
                None if self.shared.borrow().refused => {}
                None => self.turn().await,
            }
        }
    }

    /// From a start to a death, while the world goes on.
    async fn live(&mut self) {
        let mut process = self.start().await;
        let (until, stops) = {
            let random = &mut self.shared.borrow_mut().random;
            if random.one_in(2) {
                process.tasks.steps_left = random.below(4_000);
            }
            (Instant::now() + Duration::from_millis(random.below(20_000)), random.one_in(4))
        };
        let killed = self.until(&mut process, until).await;
        if !killed && stops && process.stop().await {
            return;
        }
        self.seen.deaths += 1;
        self.shared.borrow_mut().note(|| "killed".into());
        drop(process);
    }

    /// Runs the process and the world; whether it was killed before.
    async fn until(&self, process: &mut Process, until: Instant) -> bool {
        loop {
            tokio::select! {
                biased;
                end = &mut process.tasks => return self.ended(end),
                () = tokio::time::sleep_until(until) => return false,
                () = self.turn() => {}
            }
            if self.failed() {
                return true;
            }
        }
    }

    fn ended(&self, end: End) -> bool {
        if let End::Ended(name, outcome) = end {
            let mut state = self.shared.borrow_mut();
            let text = outcome.err().map_or_else(|| "ended".to_owned(), |failure| failure.to_string());
            let exchanged = state.world.switched && text.contains("without the history that was received");
            if !state.refused && std::mem::take(&mut state.restarts) == 0 && !exchanged {
                state.wrong(format!("{name} stopped for nothing: {text}"));
            }
            state.note(|| format!("{name}: {text}"));
        }
        true
    }

    /// Something happens in the world.
    async fn turn(&self) {
        self.shared.pause(200).await;
        let mut state = self.shared.borrow_mut();
        let state = &mut *state;
        state.stream.advance(Instant::now());
        if state.quiet {
            state.world.replay_all();
            return;
        }
        match state.random.below(100) {
            0..60 => {
                for _ in 0..=state.random.below(4) {
                    state.commit();
                }
            }
            60..66 => {
                let bytes = 8 * state.random.below(4);
                state.world.foreign(bytes);
            }
            66..74 => state.world.replay(&mut state.random),
            74..78 => state.world.persist_slot(),
            78..82 => {
                state.stream.trouble = [0, 0, 10, 50][state.random.index(4)];
            }
            82..85 => {
                let shards = state.stream.shards() as u64;
                let (at, throttles) = (state.random.below(shards), state.random.one_in(2));
                state.note(|| format!("shard {at} throttles: {throttles}"));
                state.stream.throttle(at, throttles);
            }
            85..87 => {
                reshard(state);
            }
            87..90 => state.stream.away = state.random.one_in(3),
            90..92 => state.world.crash(&mut state.random),
            92..95 => state.world.copy(&mut state.random),
            95 if state.random.one_in(3) => state.replace(),
            96 if state.world.server.in_recovery && state.random.one_in(3) => state.promote(),
            _ => {}
        }
    }

    /// No more faults: everything must come through, and the slot must follow.
    async fn peace(&mut self) {
        {
            let mut state = self.shared.borrow_mut();
            state.note(|| "peace".into());
            state.quiet = true;
            state.stream.heal();
            if state.world.server.in_recovery {
                state.promote();
            }
        }
        let mut process = self.start().await;
        let mut left = Err("nothing was looked at".to_owned());
        for _ in 0..PEACE_MAX {
            if self.until(&mut process, Instant::now() + Duration::from_secs(1)).await {
                if self.failed() {
                    return;
                }
                drop(process);
                process = self.start().await;
            }
            left = self.settled();
            if left.is_ok() {
                break;
            }
        }
        if left.is_ok() {
            if !process.stop().await {
                left = Err("did not stop in order".to_owned());
            }
            left = left.and_then(|()| self.counts(&process));
        }
        if let Err(violation) = left {
            self.shared.borrow_mut().wrong(violation);
        }
    }

    fn settled(&self) -> Result<(), Violation> {
        let state = self.shared.borrow();
        let last = state.world.server.txns.last().map_or(0, |txn| txn.end);
        let confirmed = state.world.server.slot.map_or(0, |slot| slot.confirmed);
        if confirmed < last {
            return Err(format!("the slot stays at {confirmed}, before {last}"));
        }
        reader::check(&state)
    }

    /// The event counts say what is in the stream.
    fn counts(&self, process: &Process) -> Result<(), Violation> {
        let state = self.shared.borrow();
        if state.adopts > 0 {
            return Ok(());
        }
        let counted: u64 = process.ledger.lock().event_counts().values().map(|totals| totals.published).sum();
        let there = state.stream.first.len() as u64;
        if counted == there {
            Ok(())
        } else {
            Err(format!("{counted} are counted, {there} are in the stream"))
        }
    }
}

/// Equal shards, of which only some begin at a 256th; or one is split anywhere, or merged with the next.
fn reshard(state: &mut State) {
    const COUNTS: [u64; 11] = [1, 2, 3, 4, 6, 7, 12, 48, 100, 256, 512];
    let hash = state.random.next();
    match state.random.below(4) {
        0 => {
            let count = COUNTS[state.random.index(COUNTS.len())];
            state.note(|| format!("{count} shards"));
            state.stream.reshard(count);
        }
        1 => {
            state.note(|| format!("two shards become one at {hash:x}"));
            state.stream.merge(hash);
        }
        _ => {
            state.note(|| format!("a shard is split at {hash:x}"));
            state.stream.split(hash);
        }
    }
}
