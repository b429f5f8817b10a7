//! The process from start to stop: it starts the two loops and the checkpointer, each on its own thread.
//!
//! Each loop has a thread with its own runtime, so that neither waits for the other's work. Threads and tasks
//! are started only here. A failure that can pass is retried ([`attempts`](crate::pipeline::attempts)); any
//! other ends the process.
//!
//! A stop has no drain protocol: receiving ends, requests in flight are awaited, the checkpointer writes the
//! last checkpoint, and the settled position is confirmed to the source. Each step has a deadline, so that a
//! hung one (a disk, a server, a DNS server) does not prevent the others.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::backoff;
use crate::buffer::checkpointer::{Checkpointer, Request};
use crate::buffer::disk::{Directory, DirectoryLock};
use crate::buffer::ledger::SharedLedger;
use crate::buffer::log::Log;
use crate::config::{self, Config};
use crate::contracts;
use crate::daemon::activity::ActivityKeeper;
use crate::daemon::assembly::{Assembly, Setup, start_up};
use crate::daemon::connector::PostgresConnector;
use crate::daemon::contract::Selectors;
use crate::daemon::forecast::{Foreseen, Growth};
use crate::daemon::heartbeat::LoopHeartbeat;
use crate::daemon::lag::LagWatch;
use crate::daemon::polling::PollingConnector;
use crate::daemon::start::Database;
use crate::daemon::watchdog::Watchdog;
use crate::failure::Failure;
use crate::pipeline::Phase;
use crate::pipeline::attempts::{IngestLoop, Outcome, pauses, publish_loop};
use crate::pipeline::dead_letter::Quarantine;
use crate::pipeline::ingest::append::Appender;
use crate::pipeline::publish::Publish;
use crate::pipeline::start::Started;
use crate::pipeline::status::Status;
use crate::position::FrameNo;
use crate::sink::kinesis::{self, KinesisDestination};
use crate::source::postgres::Stream;
use crate::source::postgres::monitor::PublicationMonitor;
use crate::translate::Translator;

/// Deadline of the publish loop, from the beginning of a stop. It waits 3 s for responses.
const PUBLISH_ENDS_WITHIN: Duration = Duration::from_millis(3_300);
/// Deadline of the last checkpoint.
const CHECKPOINT_WITHIN: Duration = Duration::from_millis(4_100);
/// Longest duration of a stop. After that, the process exits as after a crash.
const STOP_MAX: Duration = Duration::from_millis(4_600);

/// Runs until `stop` resolves or an error occurs that a retry cannot fix.
///
/// # Errors
/// An error that needs an operator.
pub async fn run(config: &Config, status: &Status, stop: impl Future<Output = ()>) -> Result<(), Failure> {
    tokio::pin!(stop);
    let setup = Setup {
        config: config.clone(),
        database: Database::new(config)?,
        status: status.clone(),
        process: backoff::seed(),
    };
    let settings = contracts::settings(config).map_err(Failure::stop)?;
    let translator = Translator::new(&config.source_urn(), 0, settings);
    let (phase, running) = watch::channel(Phase::Running);
    let starting = setup.clone();
    // On another thread, so that probes and signals are handled while the disk or a server blocks it.
    let opened =
        on_own_thread("start", move || async move { start_up(&starting, &translator, running).await });
    let opened = tokio::select! {
        biased;
        () = &mut stop => return Ok(()),
        opened = opened => opened?,
    };
    let started = &opened.started;
    let ledger = started.ledger.clone();
    status.opened(&started.log, &started.ledger, config.buffer.max_size);
    let removal = started.removal.clone();
    let monitor = Arc::new(Mutex::new(PublicationMonitor::new(config.source.tables.clone())));
    let running = Running::spawn(&setup, opened, phase, Arc::clone(&monitor))?;
    let Database { settings, wanted, polled, .. } = &setup.database;
    let (max, publishes) = (config.max_lag, config.events.lag);
    let lag = LagWatch { max, publishes, status, ledger: &ledger }.watch();
    if polled.is_some() {
        return running.until(stop, async { match lag.await {} }).await;
    }
    let watchdog = Watchdog {
        settings,
        wanted,
        source: &config.source,
        selectors: Selectors::new(&config.tables, &config.pii, config.events.automatic),
        ledger: &ledger,
        status,
        monitor: &monitor,
        session: None,
        growth: Growth::default(),
        foreseen: Foreseen::default(),
        heartbeat: config
            .source
            .heartbeat
            .map(|every| LoopHeartbeat::new(every, config.source_urn(), setup.process)),
    };
    let ends = async {
        tokio::select! {
            failure = watchdog.watch() => failure,
            never = lag => match never {},
        }
    };
    let outcome = running.until(stop, ends).await;
    if outcome.is_err()
        && let Some(removal) = removal
        && ledger.lock().watermark().mark.frame == FrameNo(0)
    {
        tracing::warn!(
            event = "slot_left_behind",
            slot = wanted.slot,
            hint = format!("Correct the error and start again. To give up, run: {removal}"),
            "first start failed after creating the slot; the slot retains WAL"
        );
    }
    outcome
}

fn stream(config: &Config) -> Stream {
    Stream {
        max_row_size: usize::try_from(config.source.max_row_size).unwrap_or(usize::MAX),
        ..Stream::new(&config.source.slot, &config.source.publication)
    }
}

/// The threads that report their end.
const THREADS: [&str; 4] = ["checkpointer", "dead_letters", "ingest", "publish"];

/// The threads, and the supervisor's ends of their channels.
struct Running {
    phase: watch::Sender<Phase>,
    ended: tokio::sync::mpsc::Receiver<(&'static str, Outcome)>,
    /// Threads that have ended without an error.
    finished: HashSet<&'static str>,
    checkpointer: mpsc::Sender<Request>,
    /// Ends the activity thread when it is dropped.
    activity: Option<mpsc::Sender<()>>,
}

impl Running {
    fn spawn(
        setup: &Setup,
        opened: Assembly,
        phase: watch::Sender<Phase>,
        monitor: Arc<Mutex<PublicationMonitor>>,
    ) -> Result<Self, Failure> {
        let Setup { config, database, status, process } = setup;
        let Assembly { started, quarantine, quarantined, worker, tables, translator } = opened;
        let Started { lock, file, ledger, log, writer, confirm_after, checked, removal: _ } = started;
        let (settled_sender, settled) = watch::channel(None);
        let (end, ended) = tokio::sync::mpsc::channel(THREADS.len() + 1);
        let (checkpointer_sender, checkpointer_requests) = mpsc::channel();
        // The kernel releases the lock at the end of the process, because a hung thread may still write.
        std::mem::forget::<DirectoryLock>(lock);

        let checkpointer =
            Checkpointer::new(ledger.clone(), Arc::clone(&log), file, confirm_after, settled_sender);
        let checkpointer_end = end.clone();
        thread("checkpointer", move || {
            report(
                &checkpointer_end,
                "checkpointer",
                checkpointer.run(&checkpointer_requests).map_err(Into::into),
            );
        })?;

        let directory = log.config().directory.clone();
        let activity = keep_activity(directory, ledger.clone(), status.clone(), end.clone())?;

        let rules = translator.of_epoch(translator.epoch());
        let ingest = IngestLoop {
            connector: (),
            appender: Appender::new(Arc::clone(&log), writer, translator, Arc::new(tables.clone()))
                .with_quarantined(quarantined)
                .with_heartbeats(config.source.heartbeat.map(|_| *process)),
            ledger: ledger.clone(),
            settled,
            phase: phase.subscribe(),
            status: status.clone(),
            pauses: pauses(backoff::seed()),
            responded: checked,
        };
        let ingest_end = end.clone();
        if let Some(polled) = &database.polled {
            let ingest = ingest.over(PollingConnector {
                database: polled.clone(),
                translator: rules,
                status: status.clone(),
                tables: tables.clone(),
                checked,
                state: None,
            });
            loop_thread("ingest", ingest_end, move || ingest.run())?;
        } else {
            let ingest = ingest.over(PostgresConnector {
                stream: stream(config),
                wanted: database.wanted.clone(),
                settings: database.settings.clone(),
                translator: rules,
                monitor,
                status: status.clone(),
                tables: tables.clone(),
                checked,
            });
            loop_thread("ingest", ingest_end, move || ingest.run())?;
        }

        loop_thread("dead_letters", end.clone(), move || worker.run())?;
        let sending = phase.subscribe();
        publish_thread(end, config.kinesis.clone(), sending, (log, ledger, quarantine), status.clone())?;
        Ok(Self {
            phase,
            ended,
            finished: HashSet::new(),
            checkpointer: checkpointer_sender,
            activity: Some(activity),
        })
    }

    /// Waits for a signal or a failure, then stops everything.
    async fn until(
        mut self,
        stop: impl Future<Output = ()>,
        watch: impl Future<Output = Failure>,
    ) -> Outcome {
        tokio::pin!(stop);
        let first = tokio::select! {
            biased;
            () = &mut stop => None,
            ended = self.ended.recv() => ended,
            failure = watch => Some(("watch", Err(failure))),
        };
        let outcome = match first {
            None => Ok(()),
            Some((name, Ok(()))) => Err(Failure::stop(format!("the {name} thread exited unexpectedly"))),
            Some((_, Err(failure))) => Err(failure),
        };
        if outcome.is_err() {
            // An error. Settled positions stay settled, and nothing more is settled.
            self.phase.send_replace(Phase::Stopping);
            self.phase.send_replace(Phase::LastConfirm);
            return outcome;
        }
        tracing::info!(event = "shutdown_started", "shutting down");
        self.stop_all().await
    }

    /// Stops the threads: first publish, so that its last responses are in the last checkpoint; then the
    /// checkpointer; then the last confirmation.
    async fn stop_all(&mut self) -> Outcome {
        let began = Instant::now();
        self.phase.send_replace(Phase::Stopping);
        self.wait_for("publish", began + PUBLISH_ENDS_WITHIN).await?;
        // If the checkpointer has ended already, it has failed, and reports that itself.
        if self.checkpointer.send(Request::Finish).is_ok() {
            self.wait_for("checkpointer", began + CHECKPOINT_WITHIN).await?;
        }
        self.phase.send_replace(Phase::LastConfirm);
        for name in ["ingest", "dead_letters"] {
            self.wait_for(name, began + STOP_MAX).await?;
        }
        // After ingest, with the counts of the last checkpoint. Dropping the sender ends the thread.
        self.activity = None;
        self.wait_for("activity", began + STOP_MAX).await?;
        let hung: Vec<&str> = THREADS.into_iter().filter(|name| !self.finished.contains(name)).collect();
        if hung.is_empty() {
            tracing::info!(event = "clean_shutdown", "clean shutdown");
        } else {
            tracing::warn!(
                event = "shutdown_timed_out",
                threads = hung.join(", "),
                "shutdown timed out; unacknowledged records will be sent again on the next start"
            );
        }
        Ok(())
    }

    /// Waits until the thread has ended, at most until `deadline`. Notes all threads that end in the
    /// meantime.
    async fn wait_for(&mut self, wanted: &str, deadline: Instant) -> Outcome {
        while !self.finished.contains(wanted) {
            let Ok(Some((name, outcome))) = timeout_at(deadline, self.ended.recv()).await else { break };
            match outcome {
                // PostgreSQL may be unavailable at a stop. Then the last position is not confirmed, which
                // loses nothing.
                Ok(()) | Err(Failure::Retry(_)) => self.finished.insert(name),
                Err(failure) => return Err(failure),
            };
        }
        Ok(())
    }
}

fn report(end: &tokio::sync::mpsc::Sender<(&'static str, Outcome)>, name: &'static str, outcome: Outcome) {
    // The receiver is dropped when the process is ending.
    drop(end.try_send((name, outcome)));
}

/// Starts the activity thread, which runs until the sender is dropped.
fn keep_activity(
    directory: Directory,
    ledger: SharedLedger,
    status: Status,
    end: tokio::sync::mpsc::Sender<(&'static str, Outcome)>,
) -> Result<mpsc::Sender<()>, Failure> {
    let (sender, stop) = mpsc::channel();
    thread("activity", move || {
        ActivityKeeper::open(directory, ledger, status).run(&stop);
        report(&end, "activity", Ok(()));
    })?;
    Ok(sender)
}

/// Starts the thread of the publish loop.
fn publish_thread(
    end: tokio::sync::mpsc::Sender<(&'static str, Outcome)>,
    kinesis: config::Kinesis,
    phase: watch::Receiver<Phase>,
    (log, ledger, quarantine): (Arc<Log>, SharedLedger, Quarantine),
    status: Status,
) -> Result<(), Failure> {
    loop_thread("publish", end, move || async move {
        let settings = kinesis::Settings::from(&kinesis);
        let mut stopping = phase.clone();
        let publisher = tokio::select! {
            biased;
            // Looking up credentials can take long.
            _ = stopping.wait_for(|phase| *phase != Phase::Running) => return Ok(()),
            made = KinesisDestination::new(&settings) => made.map_err(Failure::stop)?,
        };
        let pack = kinesis.pack;
        let seed = backoff::seed();
        publish_loop(Publish { publisher, log, ledger, quarantine, pack, phase, status, seed }).await
    })
}

/// Starts a thread. It is not joined, because a hung thread must not hold the process; each reports its end.
fn thread(name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let work = move || {
        let _guard = EndOnPanic;
        work();
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(Failure::stop)
}

/// A panic is a broken invariant: no thread continues without the others, even if panics unwind (debug
/// builds).
struct EndOnPanic;

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// Runs a future on a thread with its own runtime. If the returned future is dropped, the thread continues by
/// itself.
async fn on_own_thread<T: Send + 'static, F: Future<Output = Result<T, Failure>>>(
    name: &'static str,
    work: impl FnOnce() -> F + Send + 'static,
) -> Result<T, Failure> {
    let (done, result) = oneshot::channel();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::stop)?;
    thread(name, move || {
        let outcome = runtime.block_on(work());
        runtime.shutdown_background();
        // The receiver is dropped when the process is ending.
        drop(done.send(outcome));
    })?;
    result.await.unwrap_or_else(|_| Err(Failure::stop(format!("the {name} thread ended unexpectedly"))))
}

/// Starts a thread with its own runtime.
fn loop_thread<F: Future<Output = Outcome>>(
    name: &'static str,
    end: tokio::sync::mpsc::Sender<(&'static str, Outcome)>,
    work: impl FnOnce() -> F + Send + 'static,
) -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::stop)?;
    thread(name, move || {
        let outcome = runtime.block_on(work());
        // A DNS server without a response blocks a thread of the runtime. Dropping the runtime would wait for
        // it.
        runtime.shutdown_background();
        report(&end, name, outcome);
    })
}
