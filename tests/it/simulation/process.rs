//! The process of the simulation: the real start, the two real loops and the checkpointer as tasks of one thread, which can be killed
//! at any of their steps.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use forebay::buffer::checkpoint::{Checkpoint, Phase as Made};
use forebay::buffer::checkpointer::{Checkpointer, TICK};
use forebay::buffer::disk::DirectoryLock;
use forebay::buffer::ledger::SharedLedger;
use forebay::config::{Config, Pack, Tables};
use forebay::daemon::adopt::{self, Order};
use forebay::daemon::recover;
use forebay::failure::Failure;
use forebay::pipeline::Phase;
use forebay::pipeline::attempts::{IngestLoop, pauses, publish_loop};
use forebay::pipeline::dead_letter::worker::WorkerParts;
use forebay::pipeline::dead_letter::{DeadLetterWorker, Quarantine};
use forebay::pipeline::ingest::append::{Appender, frame_max};
use forebay::pipeline::publish::Publish;
use forebay::pipeline::start::{self, LockedDirectory, Started};
use forebay::pipeline::status::Status;
use forebay::position::CommitSeq;
use forebay::translate::{TranslateSettings, Translator};
use tokio::sync::watch;

use super::shared::{Shared, wanted};
use super::source::{NothingCaptured, ScriptedConnector};
use super::stream::ScriptedDestination;
use crate::model::random::Random;
use crate::model::world::Slot;

type Outcome = Result<(), Failure>;
type Task = Pin<Box<dyn Future<Output = Outcome>>>;

/// The tasks of a process, in an order and with delays by chance.
pub struct Tasks {
    running: Vec<(&'static str, Task)>,
    random: Random,
    /// After so many more steps it is killed.
    pub steps_left: u64,
}

/// How a run of the tasks ended.
#[derive(Debug)]
pub enum End {
    Killed,
    Ended(&'static str, Outcome),
}

impl Future for Tasks {
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<End> {
        let count = self.running.len();
        let first = self.random.index(count.max(1));
        let mut skipped = false;
        for turn in 0..count {
            if self.steps_left == 0 {
                return Poll::Ready(End::Killed);
            }
            self.steps_left -= 1;
            if self.random.one_in(8) {
                skipped = true;
                continue;
            }
            let at = (first + turn) % count;
            let (name, task) = &mut self.running[at];
            if let Poll::Ready(outcome) = task.as_mut().poll(context) {
                let name = *name;
                drop(self.running.remove(at));
                return Poll::Ready(End::Ended(name, outcome));
            }
        }
        if skipped {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

/// See the module.
pub struct Process {
    pub tasks: Tasks,
    pub ledger: SharedLedger,
    phase: watch::Sender<Phase>,
    checkpointer: Rc<RefCell<Checkpointer>>,
    shared: Shared,
    _lock: DirectoryLock,
}

impl Process {
    /// The real start, but for what asks a database. None if it was refused, or fails for now.
    pub fn start(shared: &Shared, config: &Config, pack: Pack) -> Option<Self> {
        let mut directory = LockedDirectory::open(config).unwrap();
        let (found, log) = (directory.checkpoint.clone(), directory.log_state());
        let mut state = shared.borrow_mut();
        let started = if state.random.one_in(5) {
            // The database does not respond.
            recover::alone(&wanted(), found.as_ref(), &log).map(|start| start.map(|start| (start, false)))
        } else {
            let (server, slot) = (state.world.facts(), state.world.slot_facts());
            let start = recover::recover(&wanted(), found.as_ref(), &log, slot.as_ref(), &server);
            start.map(|start| Some((start, true)))
        };
        let (start, responded) = match started {
            Ok(start) => start?,
            Err(refusal) => {
                state.judge(&refusal);
                return None;
            }
        };
        if start.new_epoch {
            let confirmed = state.world.slot_facts().map_or(0, |slot| slot.confirmed.get());
            state.adopts += 1;
            state.begun = confirmed;
            (state.world.seen, state.world.switched) = (confirmed, false);
            state.note(|| format!("a new epoch begins at {confirmed}"));
        }
        state.note(|| format!("start: keeps up to frame {}, asked: {responded}", start.truncate_after));
        drop(state);
        let decided = start::directory::decide_alone(&mut directory, start).unwrap();
        let started = start::directory::open(config, directory, decided).unwrap();
        Some(Self::run(shared, config, started, pack, responded))
    }

    fn run(shared: &Shared, config: &Config, started: Started, pack: Pack, responded: bool) -> Self {
        let Started { lock, file, ledger, log, writer, confirm_after, .. } = started;
        let seed = shared.borrow_mut().random.next();
        shared.borrow_mut().ledger = Some(ledger.clone());
        shared.borrow_mut().stream.life += 1;
        let (phase, phase_) = watch::channel(Phase::Running);
        let (settled_sender, settled) = watch::channel(None);
        let epoch = ledger.lock().checkpoint().epoch;
        let tables = Tables { exclude: vec!["lab.foreign".into()], ..Tables::default() };
        let settings = TranslateSettings { tables, ..TranslateSettings::default() };
        let translator = Translator::new(&config.source_urn(), epoch, settings);
        let status = Status::new("simulation");
        let directory = log.config().directory.clone();
        let (quarantine, inbox) = Quarantine::new(directory.clone(), ledger.clone(), config.on_poison);
        let worker = DeadLetterWorker::open(WorkerParts {
            directory,
            ledger: ledger.clone(),
            translator: translator.of_epoch(epoch),
            source: Arc::new(NothingCaptured),
            limit: frame_max(&log),
            max_size: config.buffer.max_dead_letter_size,
            inbox,
            phase: phase_.clone(),
        })
        .unwrap();
        let checkpointer =
            Checkpointer::new(ledger.clone(), Arc::clone(&log), file, confirm_after, settled_sender);
        let checkpointer = Rc::new(RefCell::new(checkpointer));
        let ingest = IngestLoop {
            connector: ScriptedConnector(shared.clone()),
            appender: Appender::new(Arc::clone(&log), writer, translator, Arc::new(NothingCaptured)),
            ledger: ledger.clone(),
            settled,
            phase: phase_.clone(),
            status: status.clone(),
            pauses: pauses(seed),
            responded,
        };
        let publish = Publish {
            publisher: ScriptedDestination(shared.clone()),
            log,
            quarantine,
            ledger: ledger.clone(),
            pack,
            phase: phase_,
            status,
            seed,
        };
        let ticking = Rc::clone(&checkpointer);
        let keep = async move {
            loop {
                tokio::time::sleep(TICK).await;
                ticking.borrow_mut().tick()?;
            }
        };
        let tasks = Tasks {
            running: vec![
                ("ingest", Box::pin(ingest.run())),
                ("publish", Box::pin(publish_loop(publish))),
                ("keep", Box::pin(keep)),
                ("dead_letters", Box::pin(worker.run())),
            ],
            random: Random::new(seed),
            steps_left: u64::MAX,
        };
        Self { tasks, ledger, phase, checkpointer, shared: shared.clone(), _lock: lock }
    }

    /// Stops in the order of the supervisor; whether it came to its end.
    pub async fn stop(&mut self) -> bool {
        self.shared.borrow_mut().note(|| "stop".into());
        self.phase.send_replace(Phase::Stopping);
        if !self.ends("publish").await {
            return false;
        }
        self.tasks.running.retain(|(name, _)| *name != "keep");
        self.checkpointer.borrow_mut().finish().unwrap();
        self.phase.send_replace(Phase::LastConfirm);
        self.ends("ingest").await
    }

    async fn ends(&mut self, wanted: &str) -> bool {
        while self.tasks.running.iter().any(|(name, _)| *name == wanted) {
            match (&mut self.tasks).await {
                End::Killed => return false,
                End::Ended(_, Ok(()) | Err(Failure::Retry(_))) => {}
                End::Ended(name, Err(failure)) => {
                    self.shared.borrow_mut().note(|| format!("{name}: {failure}"));
                    return false;
                }
            }
        }
        true
    }
}

/// The checkpoint of a directory in which nothing was received yet: the first start is not what is simulated.
pub fn first_checkpoint(shared: &Shared, config: &Config) {
    let state = shared.borrow();
    let identity = start::recover::identity(wanted().identity(&state.world.facts()), wanted().source);
    let created = CommitSeq::new(state.world.created);
    let checkpoint = Checkpoint::fresh(identity, Made::Running, 0, created);
    LockedDirectory::open(config).unwrap().file.write(&checkpoint).unwrap();
}

/// What `forebay adopt` does, but for what asks a database.
pub fn adopt(shared: &Shared, config: &Config) {
    let mut locked = LockedDirectory::open_to_adopt(config).unwrap();
    let mut state = shared.borrow_mut();
    let end = state.world.visible_end();
    if state.world.server.slot.is_none() {
        state.excuse_all();
    }
    let slot = *state.world.server.slot.get_or_insert(Slot { confirmed: end, persisted: end });
    let order = Order {
        reason: "simulation".into(),
        at: 0,
        recreate_slot: None,
        skip_transaction: None,
        rewind: None,
    };
    let confirmed = CommitSeq::new(slot.confirmed);
    let (checkpoint, _) =
        adopt::plan(&locked, &wanted(), &state.world.facts(), confirmed, 0, 0, &order).unwrap();
    locked.file.write(&checkpoint).unwrap();
    state.adopts += 1;
    state.refused = false;
    (state.ledger, state.begun) = (None, slot.confirmed);
    (state.world.seen, state.world.switched, state.world.tampered) = (slot.confirmed, false, false);
    state.note(|| format!("adopt: epoch {} from {}", checkpoint.epoch, slot.confirmed));
}
