//! The life of the process: start, two loops and a keeper on threads of their own, stop.
//!
//! Each loop has a thread with a runtime of its own, so that neither waits for the other's work on a core. This is the only
//! place where threads and tasks are started. A failure that passes is tried again ([`attempts`](super::attempts)); any other
//! ends the process.
//!
//! A stop has no drain protocol: receiving ends, requests that are out are waited for, the keeper writes the last
//! checkpoint, and what it has settled is confirmed as the last word to Postgres.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use crate::buffer::disk::DirectoryLock;
use crate::buffer::keeper::{Keeper, Request};
use crate::config::Config;
use crate::contracts;
use crate::failure::Failure;
use crate::pipeline::append::Appender;
use crate::pipeline::attempts::{IngestLoop, Pauses, publish_loop};
use crate::pipeline::desk::Desk;
use crate::pipeline::health::{self, End};
use crate::pipeline::poison::{Letters, Undertaker};
use crate::pipeline::publish::Publish;
use crate::pipeline::start::{self, Directory, Started};
use crate::pipeline::{Phase, database, watchdog};
use crate::sink::kinesis::{self, KinesisPublisher};
use crate::source::postgres::Stream;
use crate::source::postgres::conninfo::Settings;
use crate::translate::{self, Translator};

/// How long a stop may take in all; then the process goes without the last confirm, as after a crash.
const STOP_MAX: Duration = Duration::from_millis(4_500);

/// How long the database may take to answer before what is held is published without it.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Runs until `stop` resolves or something fails for good.
///
/// # Errors
/// What a person must act on.
pub async fn run(config: &Config, stop: impl Future<Output = ()>) -> Result<(), Failure> {
    tokio::pin!(stop);
    let settings = database::settings(config).map_err(Failure::stop)?;
    let translation = contracts::settings(config).map_err(Failure::stop)?;
    let translator = Translator::new(&config.source_urn(), 0, translation.clone());
    let directory = Directory::open(config)?;
    let started = tokio::select! {
        biased;
        () = &mut stop => return Ok(()),
        started = until_started(config, (&settings, &translator), directory) => started?,
    };
    let wanted = start::wanted(config, &settings);
    let ledger = started.ledger.clone();
    let running = Running::spawn(config, (settings.clone(), translation), started)?;
    running.until(stop, watchdog::watch(&settings, &wanted, &ledger)).await
}

async fn until_started(
    config: &Config,
    (settings, translator): (&Settings, &Translator),
    mut directory: Directory,
) -> Result<Started, Failure> {
    let mut alone = start::alone(config, settings, &directory)?;
    let mut pauses = Pauses::default();
    loop {
        let asked = start::decide(config, (settings, translator), &mut directory);
        let decided = if alone.is_some() {
            let silent =
                || Failure::retry(format!("the database has not answered within {ANSWERS_WITHIN:?}"));
            tokio::time::timeout(ANSWERS_WITHIN, asked).await.unwrap_or_else(|_| Err(silent()))
        } else {
            asked.await
        };
        match decided {
            Ok(decided) => return start::open(config, directory, decided),
            Err(Failure::Retry(error)) => {
                let error = Failure::Retry(error);
                health::trouble(End::Database, &error);
                if let Some(start) = alone.take() {
                    tracing::warn!(%error, "the database cannot be asked yet: what is held is published meanwhile");
                    let decided = start::decide_alone(&mut directory, start)?;
                    return start::open(config, directory, decided);
                }
                let pause = pauses.next();
                tracing::warn!(%error, retry_in = ?pause, "cannot start yet");
                tokio::time::sleep(pause).await;
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// How a thread ended.
pub(super) type Outcome = Result<(), Failure>;

/// The threads, and the ends that the supervisor holds.
struct Running {
    phase: watch::Sender<Phase>,
    ended: tokio::sync::mpsc::Receiver<(&'static str, Outcome)>,
    keeper: mpsc::Sender<Request>,
    threads: Vec<JoinHandle<()>>,
    _lock: DirectoryLock,
}

impl Running {
    fn spawn(
        config: &Config,
        (settings, translation): (Settings, translate::Settings),
        started: Started,
    ) -> Result<Self, Failure> {
        let Started { lock, file, ledger, log, writer, confirm_after, asked } = started;
        let (phase, _) = watch::channel(Phase::Running);
        let (settled_sender, settled) = watch::channel(None);
        let (end, ended) = tokio::sync::mpsc::channel(4);
        let (keeper_sender, keeper_requests) = mpsc::channel();
        let mut threads = Vec::new();

        let keeper = Keeper::new(ledger.clone(), Arc::clone(&log), file, confirm_after, settled_sender);
        let keeper_end = end.clone();
        threads.push(thread("keeper", move || {
            report(&keeper_end, "keeper", keeper.run(&keeper_requests).map_err(Into::into));
        })?);

        let epoch = ledger.lock().checkpoint().epoch;
        let translator = Translator::new(&config.source_urn(), epoch, translation.clone());
        let ingest = IngestLoop {
            stream: Stream {
                max_row_size: usize::try_from(config.source.max_row_size).unwrap_or(usize::MAX),
                ..Stream::new(&config.source.slot, &config.source.publication)
            },
            wanted: start::wanted(config, &settings),
            settings,
            appender: Appender::new(Arc::clone(&log), writer, translator),
            ledger: ledger.clone(),
            settled,
            phase: phase.subscribe(),
            asked,
        };
        let ingest_end = end.clone();
        threads.push(loop_thread("ingest", ingest_end, move || ingest.run())?);

        let letters = Letters::open(config.buffer.dir.clone())?;
        let translator = Translator::new(&config.source_urn(), epoch, translation);
        let desk = Desk::new(letters.clone(), ledger.clone(), translator, phase.subscribe());
        threads.push(loop_thread("letters", end.clone(), move || desk.run())?);
        let undertaker = Undertaker::new(letters, ledger.clone(), config.on_poison);
        let (kinesis, phase_) = (config.kinesis.clone(), phase.subscribe());
        threads.push(loop_thread("publish", end, move || async move {
            let settings = kinesis::Settings {
                stream: kinesis.stream,
                region: kinesis.region,
                endpoint: kinesis.endpoint,
            };
            let mut stopping = phase_.clone();
            let publisher = tokio::select! {
                biased;
                // Credentials can take their time to be found.
                _ = stopping.wait_for(|phase| *phase != Phase::Running) => return Ok(()),
                made = KinesisPublisher::new(&settings) => made.map_err(Failure::stop)?,
            };
            let pack = kinesis.pack;
            let publish = Publish { publisher, log, ledger, undertaker, pack, phase: phase_ };
            publish_loop(publish).await
        })?);
        Ok(Self { phase, ended, keeper: keeper_sender, threads, _lock: lock })
    }

    /// Waits for the end, and brings everything to rest.
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
            Some((name, Ok(()))) => Err(Failure::stop(format!("the {name} thread has ended unasked"))),
            Some((_, Err(failure))) => Err(failure),
        };
        if outcome.is_err() {
            // Something is wrong: what is settled stays settled, nothing more is.
            self.phase.send_replace(Phase::Stopping);
            self.phase.send_replace(Phase::LastConfirm);
            return outcome;
        }
        tracing::info!("stopping");
        if let Ok(rested) = tokio::time::timeout(STOP_MAX, self.rest()).await {
            return rested;
        }
        tracing::warn!("a loop did not come to rest in time; the next start repeats what was not noted");
        Ok(())
    }

    /// Publish first, so that its last answers are in the last checkpoint; then the keeper; then the last confirm.
    async fn rest(&mut self) -> Outcome {
        self.phase.send_replace(Phase::Stopping);
        self.wait_for("publish").await?;
        // The keeper is gone only if it has failed, which it reports.
        if self.keeper.send(Request::Finish).is_ok() {
            self.wait_for("keeper").await?;
        }
        self.phase.send_replace(Phase::LastConfirm);
        self.wait_for("ingest").await?;
        for thread in self.threads.drain(..) {
            // A thread that panicked has ended the process.
            drop(thread.join());
        }
        tracing::info!("stopped: everything received is on the disk, everything answered is noted");
        Ok(())
    }

    async fn wait_for(&mut self, wanted: &str) -> Outcome {
        while let Some((name, outcome)) = self.ended.recv().await {
            match outcome {
                // Postgres may be away when we stop: nobody hears the last word, and nothing is lost by that.
                Ok(()) | Err(Failure::Retry(_)) if name == wanted => return Ok(()),
                Ok(()) | Err(Failure::Retry(_)) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }
}

fn report(end: &tokio::sync::mpsc::Sender<(&'static str, Outcome)>, name: &'static str, outcome: Outcome) {
    // Nobody listens any more when the process is ending.
    drop(end.try_send((name, outcome)));
}

fn thread(name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Failure> {
    let work = move || {
        let _guard = EndOnPanic;
        work();
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(Failure::stop)
}

/// A panic is a broken invariant: no thread goes on without the others, also where panics unwind (debug builds).
struct EndOnPanic;

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// A thread with a runtime of its own.
fn loop_thread<F: Future<Output = Outcome>>(
    name: &'static str,
    end: tokio::sync::mpsc::Sender<(&'static str, Outcome)>,
    work: impl FnOnce() -> F + Send + 'static,
) -> Result<JoinHandle<()>, Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::stop)?;
    thread(name, move || {
        let outcome = runtime.block_on(work());
        report(&end, name, outcome);
    })
}
