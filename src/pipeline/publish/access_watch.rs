//! Decides when to ask whether records may be sent at all: an idle database would hide a missing right until its first event.

use std::time::Duration;

use tokio::time::Instant;

use crate::failure::Problem;
use crate::sink::PutError;

/// How long nothing has been sent before it is asked. A request with records shows it better.
const QUIET: Duration = Duration::from_secs(2);
/// Pause before it is asked again, while it is denied and nothing is sent.
const AGAIN: Duration = Duration::from_secs(5);
/// Shortest time between two log lines.
const WARN_EVERY: Duration = Duration::from_mins(1);

/// News about the right to send.
pub(super) enum PutAccess {
    /// It is missing.
    Denied(Problem),
    /// It was missing, and is there.
    Allowed,
}

/// When to ask, and what was said last.
#[derive(Debug)]
pub(super) struct AccessWatch {
    /// `None`: it is known, or a request with records will show it.
    due: Option<Instant>,
    denied: bool,
    warned: Option<Instant>,
}

impl AccessWatch {
    pub(super) fn new() -> Self {
        Self { due: Some(Instant::now() + QUIET), denied: false, warned: None }
    }

    /// Whether it is to be asked now.
    pub(super) fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    /// A request with records was sent.
    pub(super) const fn sent(&mut self) {
        self.due = None;
    }

    /// The response, if it says something new: why records are denied, or that they no longer are.
    pub(super) fn asked(&mut self, result: Result<(), PutError>, stream: &str) -> Option<PutAccess> {
        self.due?;
        let now = Instant::now();
        let Err(error) = result else {
            self.due = None;
            let was_denied = std::mem::take(&mut self.denied);
            if was_denied {
                tracing::info!(event = "put_allowed", stream, "sending to the stream is allowed now");
            }
            return was_denied.then_some(PutAccess::Allowed);
        };
        let problem = Problem::from(error);
        (self.due, self.denied) = (Some(now + AGAIN), true);
        if self.warned.is_none_or(|last| now.duration_since(last) >= WARN_EVERY) {
            self.warned = Some(now);
            tracing::warn!(
                event = "put_denied",
                stream,
                error = problem.primary(),
                hint = problem.hint(),
                "sending to the stream is denied; nothing has been sent yet"
            );
        }
        Some(PutAccess::Denied(problem))
    }
}
