//! The state of the stream: whether it is still the same one, whether it can be described, and whether it
//! accepts records. The state is reported in the log, in metrics and on `/health/ready`.

use std::time::Duration;

use tokio::time::Instant;

use crate::failure::{Explain, Problem};
use crate::pipeline::status::Status;
use crate::sink::lanes::Cause;
use crate::sink::stream_state::StreamState;
use crate::sink::{PutError, StreamFacts};

/// Shortest time between two log lines about a stream that cannot be described.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// The stream cannot be published to: it is not the one that this directory has published to, or it does not
/// keep the order of a key.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamRefusal {
    /// The configuration names another stream, or the stream was recreated.
    #[error("the buffer directory belongs to a different stream")]
    Other {
        /// Full name of the stream in the checkpoint.
        found: String,
        /// Its creation time, milliseconds since the Unix epoch.
        found_created: i64,
        /// Full name of the configured stream.
        now: String,
        /// Its creation time, milliseconds since the Unix epoch.
        now_created: i64,
    },
    /// `RecordDistributionStrategy` is `AUTO`.
    #[error("stream {0} ignores partition keys, so it would reorder the events of a key")]
    IgnoresKeys(String),
}

impl Explain for StreamRefusal {
    fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::Other { .. } => "directory_of_other_stream",
            Self::IgnoresKeys(_) => "stream_ignores_keys",
        })
    }

    fn detail(&self) -> Option<String> {
        Some(match self {
            Self::Other { found, found_created, now, now_created } => format!(
                "Checkpoint: {found}, created at {found_created}. Configured: {now}, created at {now_created}. The stream was \
                 recreated, or the configuration names another one."
            ),
            Self::IgnoresKeys(_) => "Its RecordDistributionStrategy is AUTO.".to_owned(),
        })
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Other { .. } => {
                "Correct kinesis.stream. If the new stream is intended, run `forebay adopt --reason \"…\"` to begin a new epoch; events \
                 published to the old stream are not repeated."
                    .to_owned()
            }
            Self::IgnoresKeys(_) => {
                "Set it to USER_PARTITION_KEY (aws kinesis update-stream-record-distribution-strategy), then start again.".to_owned()
            }
        })
    }
}

/// The state of one stream.
#[derive(Debug)]
pub(super) struct StreamWatch {
    facts: StreamFacts,
    status: Status,
    state: StreamState,
    /// Error of the last request, if all its records failed because of the stream.
    refused: Option<Problem>,
    /// Why the stream cannot be described; `None` if it can.
    undescribed: Option<Problem>,
    /// When the last warning about that was logged.
    last_warned: Option<Instant>,
}

impl StreamWatch {
    /// Starts with a stream that was just described and is the expected one.
    pub(super) fn new(facts: StreamFacts, status: Status) -> Self {
        let watch = Self {
            facts,
            status,
            state: StreamState::new(Instant::now()),
            refused: None,
            undescribed: None,
            last_warned: None,
        };
        watch.status.publish(|part| (part.begun, part.described) = (true, true));
        watch.report_availability();
        watch
    }

    /// Full name of the stream.
    pub(super) fn name(&self) -> &str {
        &self.facts.name
    }

    /// Whether records may be sent.
    pub(super) fn may_send(&self) -> bool {
        self.state.may_send(Instant::now())
    }

    /// When waiting records may be sent even without a description; `None` if none wait.
    pub(super) fn wait_until(&self) -> Option<Instant> {
        self.state.wait_until(Instant::now())
    }

    /// When the next description is due.
    pub(super) const fn due(&self) -> Instant {
        self.state.due()
    }

    /// Notes that a description was requested.
    pub(super) fn note_request(&mut self) {
        self.state.note_request(Instant::now());
    }

    /// Makes a description due now: an operator's retry needs it.
    pub(super) fn request_description(&mut self) {
        self.state.request(Instant::now());
    }

    /// Notes that records are ready to be sent.
    pub(super) fn wants_to_send(&mut self) {
        self.state.wants_to_send(Instant::now());
    }

    /// Handles a request that was sent at `sent` and was acknowledged, or failed as a whole. A record that
    /// fails on its own does not make the stream unavailable.
    pub(super) fn settled(&mut self, sent: Instant, failure: Option<(&PutError, Cause)>) {
        match failure {
            None => {
                self.state.acknowledged(sent);
                self.refused = None;
            }
            Some((_, Cause::Record)) => return,
            Some((error, Cause::Unknown)) => self.state.failed(error, Instant::now()),
            Some((error, Cause::Stream)) => {
                self.state.failed(error, Instant::now());
                self.refused = Some(Problem::of(error));
            }
        }
        self.report_availability();
    }

    /// Handles the check of the permission: the problem, or `None` if records may be sent.
    pub(super) fn denied(&mut self, problem: Option<Problem>) {
        self.refused = problem;
        self.report_availability();
    }

    /// Handles a description of the expected stream, or its failure.
    pub(super) fn described(&mut self, result: Result<StreamFacts, PutError>) {
        self.state.described(&result, Instant::now());
        self.status.publish(|part| part.described = result.is_ok());
        self.undescribed = match result {
            Ok(facts) => {
                let closed = closed(&facts);
                self.log_changes(&facts);
                self.facts = facts;
                closed
            }
            Err(error) => Some(error.into()),
        };
        self.log_description();
        self.report_availability();
    }

    fn log_changes(&self, now: &StreamFacts) {
        let before = &self.facts;
        if (before.max_record_size, before.shards, &before.mode)
            != (now.max_record_size, now.shards, &now.mode)
        {
            tracing::info!(
                event = "stream_settings_changed",
                stream = now.name,
                shards = now.shards,
                mode = now.mode,
                max_record_size = now.max_record_size,
                "stream settings changed"
            );
        }
    }

    fn log_description(&mut self) {
        let Some(error) = &self.undescribed else {
            if self.last_warned.take().is_some() {
                tracing::info!(
                    event = "stream_described",
                    stream = self.facts.name,
                    "stream described again; it is the same stream"
                );
            }
            return;
        };
        // While every request fails, the lines about retried records report the outage.
        if !self.state.is_unverified() && self.refused.is_some() {
            return;
        }
        let now = Instant::now();
        if self.last_warned.is_some_and(|last| now.duration_since(last) < WARN_EVERY) {
            return;
        }
        self.last_warned = Some(now);
        if self.state.is_unverified() {
            tracing::warn!(
                event = "stream_unverified",
                stream = self.facts.name,
                reason = error.primary(),
                hint = error.hint(),
                "stream unavailable; it may have been recreated, so it is described again before each attempt to send"
            );
        } else {
            tracing::warn!(
                event = "stream_not_described",
                stream = self.facts.name,
                reason = error.primary(),
                hint = error.hint(),
                "stream cannot be described; publishing continues, but a recreated stream would not be detected"
            );
        }
    }

    fn report_availability(&self) {
        let unverified = self.undescribed.as_ref().filter(|_| self.state.is_unverified());
        let reason = unverified.or(self.refused.as_ref());
        self.status.publish(|part| part.unavailable = reason.map(ToString::to_string));
    }
}

/// Why records should not be sent to the stream now; `None` if they may be.
pub(super) fn closed(facts: &StreamFacts) -> Option<Problem> {
    facts.closed.map(|why| format!("the stream {} is {why}", facts.name).into())
}
