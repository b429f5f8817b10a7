//! A request in flight, and the ticket that stands for its records meanwhile.

use std::time::Duration;

use tokio::time::Instant;

use super::types::ReaderId;
use crate::sink::Outgoing;

/// One request: send `records`, then return the ticket with the result.
#[derive(Debug)]
pub struct Request {
    /// For [`Lanes::settle`](super::Lanes::settle).
    pub ticket: Ticket,
    /// What to send, oldest first, no two of one key.
    pub records: Vec<Outgoing>,
    /// How long the complete response may take; after that the request is settled as unanswered.
    pub timeout: Duration,
}

/// Stands for the records of a request in flight. It cannot be copied, so a request is settled once.
#[derive(Debug)]
#[must_use = "the records of an unsettled request, and their keys, wait forever"]
pub struct Ticket {
    pub(super) sent: Vec<Sent>,
    pub(super) bytes: usize,
    pub(super) probe: bool,
    pub(super) content: RequestContent,
    /// Whether it contains records of catch-up readers.
    pub(super) catch_up: bool,
    /// When it was filled.
    pub(super) at: Instant,
    /// Bytes that had been acknowledged when it was filled.
    pub(super) acknowledged_before: u64,
}

impl Ticket {
    /// Records of the request; of a control none.
    pub fn records(&self) -> usize {
        self.sent.len()
    }

    /// Whether it is a published record that is sent once more, to find out whether the stream accepts others than one that fails.
    pub fn is_control(&self) -> bool {
        self.content == RequestContent::Control
    }

    /// When it was filled, and left.
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

/// Which records a request holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestContent {
    /// Any that may leave.
    Publish,
    /// Suspects alone.
    Suspects,
    /// One that is published already.
    Control,
}

/// One record of a request: its reader, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) reader: ReaderId,
    pub(super) seq: u64,
}
