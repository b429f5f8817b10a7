//! Attempt after attempt: a loop that failed for a reason that passes is started again after a pause.
//!
//! This and the lanes of the sink are the only two places that try again. Each time is a WARN and a counter, and there is
//! no last time.

use std::time::Duration;

use backon::BackoffBuilder as _;
use tokio::sync::watch;

use crate::buffer::Settled;
use crate::buffer::ledger::{self, SharedLedger};
use crate::failure::Failure;
use crate::pipeline::append::Appender;
use crate::pipeline::health::{self, End};
use crate::pipeline::history::History;
use crate::pipeline::ingest::Ingest;
use crate::pipeline::publish::Publish;
use crate::pipeline::supervise::Outcome;
use crate::pipeline::{Phase, contract, database, meters, recover};
use crate::sink::kinesis::KinesisPublisher;
use crate::source::postgres::conninfo::Settings;
use crate::source::postgres::sql::Session;
use crate::source::postgres::{PostgresSource, Stream};

/// From a blip to what a person would call patient.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// An attempt that lived this long, or that brought something new, was no failure to start: the next pause is short again.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// Growing pauses with jitter.
#[derive(Debug)]
pub(super) struct Pauses(backon::ExponentialBackoff);

impl Default for Pauses {
    fn default() -> Self {
        let builder = backon::ExponentialBuilder::default()
            .with_min_delay(PAUSE_MIN)
            .with_max_delay(PAUSE_MAX)
            .with_jitter()
            .without_max_times();
        Self(builder.build())
    }
}

impl Pauses {
    /// The next one.
    pub(super) fn next(&mut self) -> Duration {
        self.0.next().unwrap_or(PAUSE_MAX)
    }
}

/// Everything that outlives the attempts of the ingest loop.
pub(super) struct IngestLoop {
    pub(super) settings: Settings,
    pub(super) stream: Stream,
    pub(super) wanted: recover::Wanted,
    pub(super) appender: Appender,
    pub(super) ledger: SharedLedger,
    pub(super) settled: watch::Receiver<Option<Settled>>,
    pub(super) phase: watch::Receiver<Phase>,
    /// Whether this process has asked the database and was not refused: until then it is judged as at a start.
    pub(super) asked: bool,
}

impl IngestLoop {
    /// Receives until the process stops (`Ok`) or a person must act.
    pub(super) async fn run(mut self) -> Outcome {
        let mut pauses = Pauses::default();
        loop {
            let began = tokio::time::Instant::now();
            let tail = self.ledger.lock().tail().mark.frame;
            let outcome = self.attempt().await;
            meters::connected(false);
            let error = match outcome {
                Err(Failure::Retry(error)) => Failure::Retry(error),
                other => return other,
            };
            if *self.phase.borrow() != Phase::Running {
                return Err(error);
            }
            if began.elapsed() >= HEALTHY_AFTER || self.ledger.lock().tail().mark.frame > tail {
                pauses = Pauses::default();
            }
            let pause = pauses.next();
            meters::restarted("ingest");
            health::trouble(End::Database, &error);
            if self.asked {
                tracing::warn!(%error, retry_in = ?pause, "the replication stream ended and is opened again");
            } else {
                tracing::warn!(%error, retry_in = ?pause, "cannot receive yet: the database is asked again");
            }
            tokio::select! {
                biased;
                _ = self.phase.wait_for(|phase| *phase != Phase::Running) => return Err(error),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Looks at the database as at a start, and receives until the connection ends.
    async fn attempt(&mut self) -> Outcome {
        let mut phase = self.phase.clone();
        let opened = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase != Phase::Running) => return Ok(()),
            opened = self.open() => opened?,
        };
        let (source, history, connection) = opened;
        meters::connected(true);
        let ingest = Ingest {
            source,
            appender: &mut self.appender,
            ledger: self.ledger.clone(),
            settled: self.settled.clone(),
            phase: self.phase.clone(),
            connection,
            history,
        };
        ingest.run().await
    }

    async fn open(&mut self) -> Result<(PostgresSource, History, u64), Failure> {
        let mut session = Session::open(&self.settings).await?;
        let seen = database::look(&mut session, &self.settings, &self.wanted).await?;
        if !self.asked {
            seen.check(&self.wanted)?;
            let published = contract::Published {
                name: &self.wanted.publication,
                facts: seen.publication.as_ref(),
                planned: &[],
            };
            contract::check(&mut session, self.appender.translator(), &published).await?;
        }
        seen.check_running(&self.wanted)?;
        let admitted = {
            let ledger = self.ledger.lock();
            let tip = ledger::highest(ledger.tip(), self.appender.tip());
            recover::admit(&ledger.known(), tip, seen.slot.as_ref(), &seen.server)?
        };
        self.asked = true;
        let source = PostgresSource::start(&self.settings, &self.stream).await?;
        let system = source.system();
        if system.system_id != seen.server.system_id || system.timeline != seen.server.timeline {
            return Err(Failure::retry("the server behind the address changed while it was looked at"));
        }
        let connection = self.ledger.lock().connect(seen.server.timeline);
        tracing::info!(
            slot = self.stream.slot,
            at = %seen.slot.map(|slot| slot.confirmed).unwrap_or_default(),
            version = seen.facts.version, standby = seen.facts.in_recovery,
            "receiving"
        );
        Ok((source, History::new(admitted.expect), connection))
    }
}

/// Publishes until the process stops (`Ok`) or a person must act.
pub(super) async fn publish_loop(mut publish: Publish<KinesisPublisher>) -> Outcome {
    let mut pauses = Pauses::default();
    loop {
        let error = match publish.run().await {
            Err(Failure::Retry(error)) => Failure::Retry(error),
            other => return other,
        };
        let pause = pauses.next();
        meters::restarted("publish");
        tracing::warn!(%error, retry_in = ?pause, "publishing is started again");
        tokio::select! {
            biased;
            _ = publish.phase.wait_for(|phase| *phase != Phase::Running) => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}
