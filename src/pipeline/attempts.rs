//! Runs each loop in attempts. After a failure that may pass, the next attempt starts after a pause.
//!
//! Only this module and the lanes of the sink retry. Each retry is a warning in the log and a counter. The
//! number of retries is not limited.

use std::time::Duration;

use tokio::sync::watch;
use tracing::field::display;

use crate::backoff::Backoff;
use crate::buffer::Settled;
use crate::buffer::ledger::{self, SharedLedger};
use crate::failure::Failure;
use crate::pipeline::ingest::Ingest;
use crate::pipeline::ingest::append::Appender;
use crate::pipeline::publish::Publish;
use crate::pipeline::status::{Moment, Status};
use crate::pipeline::{Phase, meters};
use crate::sink::Destination;
use crate::source::{Connected, Connector};

/// How a loop ended.
pub type Outcome = Result<(), Failure>;

/// Shortest and longest pause between attempts.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// After an attempt that lasted this long, or that appended something new to the log, the next pause is the
/// shortest again.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// The pauses between attempts. The seed determines their jitter.
pub fn pauses(seed: u64) -> Backoff {
    Backoff::seeded(PAUSE_MIN, PAUSE_MAX, seed)
}

/// Everything that outlives the attempts of the ingest loop.
#[derive(Debug)]
pub struct IngestLoop<C> {
    /// Opens the connections.
    pub connector: C,
    /// Turns changes into frames of the log.
    pub appender: Appender,
    /// The ledger.
    pub ledger: SharedLedger,
    /// The highest position that may be confirmed to the source.
    pub settled: watch::Receiver<Option<Settled>>,
    /// Whether the process runs or stops.
    pub phase: watch::Receiver<Phase>,
    /// Where the loop reports its state.
    pub status: Status,
    /// Pauses between attempts.
    pub pauses: Backoff,
    /// Whether the source has responded since the process started. A failure before that is logged as
    /// `source_unavailable`.
    pub responded: bool,
}

impl IngestLoop<()> {
    /// The same loop, with a connector to open its connections.
    pub fn over<C: Connector>(self, connector: C) -> IngestLoop<C> {
        let Self { connector: (), appender, ledger, settled, phase, status, pauses, responded } = self;
        IngestLoop { connector, appender, ledger, settled, phase, status, pauses, responded }
    }
}

impl<C: Connector> IngestLoop<C> {
    /// Receives until the process stops (`Ok`).
    ///
    /// # Errors
    /// A failure that retries cannot help, so that a person must act; or an attempt that failed while the
    /// process stops.
    pub async fn run(mut self) -> Outcome {
        loop {
            let began = tokio::time::Instant::now();
            let tail = self.ledger.lock().tail().mark.frame;
            let outcome = self.attempt().await;
            self.status.ingest(|part| part.connected = None);
            let error = match outcome {
                Err(Failure::Retry(error)) => Failure::Retry(error),
                // An operator may decide to skip this change. Before the process stops for that decision, all
                // earlier changes must be settled.
                Err(Failure::Stop(error))
                    if error.code() == Some("change_unsendable") && !self.is_all_noted() =>
                {
                    Failure::Retry(error)
                }
                other => return other,
            };
            if *self.phase.borrow() != Phase::Running {
                return Err(error);
            }
            if began.elapsed() >= HEALTHY_AFTER || self.ledger.lock().tail().mark.frame > tail {
                self.pauses.reset();
            }
            let pause = self.pauses.failed();
            meters::restarted("ingest");
            self.status.ingest(|part| part.error = Some(error.to_string()));
            let problem = error.problem();
            let (detail, hint) = (problem.detail().map(display), problem.hint().map(display));
            if self.responded {
                tracing::warn!(
                    event = "source_disconnected", error = %problem.primary(), detail, hint, retry_in = ?pause,
                    "source connection lost; reconnecting"
                );
            } else {
                tracing::warn!(
                    event = "source_unavailable", error = %problem.primary(), detail, hint, retry_in = ?pause,
                    "cannot connect to the source; retrying"
                );
            }
            tokio::select! {
                biased;
                _ = self.phase.wait_for(|phase| *phase != Phase::Running) => return Err(error),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Whether everything appended is published or durable, according to the last checkpoint.
    fn is_all_noted(&self) -> bool {
        let ledger = self.ledger.lock();
        let noted = ledger.known();
        noted.watermark.frame.max(noted.durable.frame) >= ledger.tail().mark.frame
    }

    /// One attempt: checks the database like a start does, and receives until the connection ends.
    async fn attempt(&mut self) -> Outcome {
        let mut phase = self.phase.clone();
        let (ledger, appended) = (self.ledger.clone(), self.appender.last_seen());
        let known = || {
            let mut known = ledger.lock().known();
            known.last_seen = ledger::highest(known.last_seen, appended);
            known
        };
        let Connected { source, timeline, end, expect } = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase != Phase::Running) => return Ok(()),
            connected = self.connector.connect(known) => connected?,
        };
        self.responded = true;
        let connection = self.ledger.lock().connect(timeline, end);
        self.status.ingest(|part| {
            let now = Moment::now();
            (part.connected, part.last_received, part.error) = (Some(now), Some(now.at), None);
        });
        let proof = self.appender.withhold(expect);
        if let Some(proof) = &proof {
            tracing::info!(
                event = "publishing_withheld", expected = %proof.seen(),
                "publishing nothing new until the source has sent the last known transaction again"
            );
        }
        let ingest = Ingest {
            source,
            proof,
            skips: false,
            appender: &mut self.appender,
            ledger: self.ledger.clone(),
            settled: self.settled.clone(),
            phase: self.phase.clone(),
            status: self.status.clone(),
            connection,
        };
        ingest.run().await
    }
}

/// Publishes until the process stops (`Ok`).
///
/// # Errors
/// A failure that retries cannot help, so that a person must act.
pub async fn publish_loop(mut publish: Publish<impl Destination>) -> Outcome {
    let mut pauses = pauses(publish.seed);
    loop {
        let error = match publish.run().await {
            Err(Failure::Retry(error)) => Failure::Retry(error),
            other => return other,
        };
        let pause = pauses.failed();
        meters::restarted("publish");
        tracing::warn!(event = "publishing_restarted", %error, retry_in = ?pause, "publishing failed; restarting it");
        tokio::select! {
            biased;
            _ = publish.phase.wait_for(|phase| *phase != Phase::Running) => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}
