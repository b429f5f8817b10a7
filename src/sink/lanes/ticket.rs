//! A request in flight, and the ticket that represents its records in the meantime.

use std::time::Duration;

use tokio::time::Instant;

use super::types::ReaderId;
use crate::sink::Outgoing;

/// One request: send `records`, then return the ticket with the result.
#[derive(Debug)]
pub struct Request {
    /// To be returned to [`Lanes::settle`](super::Lanes::settle).
    pub ticket: Ticket,
    /// The records to send, oldest first, at most one per key.
    pub records: Vec<Outgoing>,
    /// Timeout of the complete response. After it, the request is settled as unacknowledged.
    pub timeout: Duration,
}

/// Represents the records of a request in flight. It cannot be copied, so a request is settled once.
#[derive(Debug)]
#[must_use = "the records of an unsettled request, and their keys, wait forever"]
pub struct Ticket {
    pub(super) sent: Vec<Sent>,
    pub(super) bytes: usize,
    pub(super) probe: bool,
    pub(super) content: RequestContent,
    /// Whether it contains records of catch-up readers.
    pub(super) catch_up: bool,
    /// When the request was filled.
    pub(super) at: Instant,
    /// Bytes that had been acknowledged at that time.
    pub(super) acknowledged_before: u64,
}

impl Ticket {
    /// Number of records in the request; 0 for a control.
    pub fn records(&self) -> usize {
        self.sent.len()
    }

    /// Whether the request is a control: a published record that is sent once more, to find out whether the
    /// stream accepts records other than the failing one.
    pub fn is_control(&self) -> bool {
        self.content == RequestContent::Control
    }

    /// When the request was filled and sent.
    pub fn sent_at(&self) -> Instant {
        self.at
    }

    /// Bytes of the request, data and keys.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether this is the single record that tests whether the service is available again.
    pub fn is_probe(&self) -> bool {
        self.probe
    }
}

/// Kind of the records in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestContent {
    /// Ready records.
    Publish,
    /// Only suspects.
    Suspects,
    /// A published record as a control.
    Control,
}

/// One record of a request: its reader, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) reader: ReaderId,
    pub(super) seq: u64,
}
