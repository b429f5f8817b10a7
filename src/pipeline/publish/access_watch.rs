//! Decides when to check the permission to send records. Without the check, an idle database would hide a
//! missing permission until its first event.

use std::time::Duration;

use tokio::time::Instant;

use crate::failure::Problem;
use crate::sink::PutError;

/// Nothing must have been sent for this long before the permission is checked. A request with records is the
/// better check.
const QUIET: Duration = Duration::from_secs(2);
/// Pause between checks while the permission is missing and nothing is sent.
const AGAIN: Duration = Duration::from_secs(5);
/// Shortest time between two log lines.
const WARN_EVERY: Duration = Duration::from_mins(1);

/// A change of the permission to send.
pub(super) enum PutAccess {
    /// It is missing.
    Denied(Problem),
    /// It was missing, and is granted now.
    Allowed,
}

/// When to check the permission, and the last known result.
#[derive(Debug)]
pub(super) struct AccessWatch {
    /// Time of the next check. `None`: the permission is known, or a request with records will show it.
    due: Option<Instant>,
    denied: bool,
    warned: Option<Instant>,
}

impl AccessWatch {
    pub(super) fn new() -> Self {
        Self { due: Some(Instant::now() + QUIET), denied: false, warned: None }
    }

    /// Whether a check is due.
    pub(super) fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    /// A request with records was sent.
    pub(super) const fn sent(&mut self) {
        self.due = None;
    }

    /// Handles the result of a check. Returns a change of the permission, or why it is still missing.
    pub(super) fn checked(&mut self, result: Result<(), PutError>, stream: &str) -> Option<PutAccess> {
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
