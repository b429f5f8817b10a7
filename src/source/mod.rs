//! The source of changes. The traits [`Connector`] and [`Source`] are one of the program's two network ends.

pub mod postgres;

use std::future::Future;
use std::time::Instant;

use crate::buffer::Settled;
use crate::buffer::checkpoint::Checkpoint;
use crate::change::{ChangePlace, Delivery, Message, Operation, Relation};
use crate::failure::Failure;
use crate::identity::SourceIdentity;
use crate::position::{CommitSeq, Transaction};

/// Opens the connections to a source, one for each attempt of the ingest loop.
pub trait Connector {
    /// A connection.
    type Source: Source;

    /// Connects, and checks against the checkpoint that the source continues the known history. `known` returns the checkpoint as
    /// it would be written now; confirmations of earlier connections may raise it while this one is opened.
    fn connect(
        &mut self,
        known: impl Fn() -> Checkpoint,
    ) -> impl Future<Output = Result<Connected<Self::Source>, Failure>>;
}

/// A connection that continues the known history.
#[derive(Debug)]
pub struct Connected<S> {
    /// Delivers the changes.
    pub source: S,
    /// Timeline of the source, for the checkpoint; 0 for a source without timelines.
    pub timeline: u32,
    /// End of the source's log when it was read. Everything received on earlier connections is below.
    pub end: CommitSeq,
    /// The last transaction that is known, if the source delivers it again. It fails if it passes it without it.
    pub expect: Option<Transaction>,
}

/// Admission by the source: it continues the history of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumption {
    /// The identity of the source, for the checkpoint.
    pub source: SourceIdentity,
    /// CloudEvents source.
    pub name: String,
    /// The source has to make something before it can be read: nothing was received yet.
    pub create: bool,
    /// The source delivers every transaction again whose commit is here or later.
    pub resumes_at: CommitSeq,
    /// The last transaction that is known, if the source delivers it again.
    pub expect: Option<Transaction>,
    /// Why it is not proven that the source continues the known history: a new epoch begins.
    pub unproven: Option<String>,
    /// The least number of an epoch that begins.
    pub epoch_least: u16,
}

/// One connection to a stream of changes. It lives for one attempt of the ingest loop.
pub trait Source {
    /// Waits until [`take`](Self::take) returns a delivery. Cancel-safe. Responds to keepalive requests, and sends status
    /// messages often enough that the server does not close the connection.
    fn receive(&mut self) -> impl Future<Output = Result<(), Failure>>;

    /// The next received delivery, without waiting; `None` if everything received was taken.
    ///
    /// # Errors
    /// As [`receive`](Self::receive): errors of the stream itself. An unreadable change is a delivery, not an error.
    fn take(&mut self) -> Result<Option<Delivery<'_>>, Failure>;

    /// Time of the last message from the server. While the loop [`receive`](Self::receive)s, a live server sends one at least
    /// every 10 s, because the client requests it.
    fn last_received(&self) -> Instant;

    /// Confirms a position to the server, which may then discard WAL. Never decreases, and never exceeds what this connection
    /// delivered.
    fn confirm(&mut self, settled: &Settled) -> impl Future<Output = Result<(), Failure>>;

    /// Sends status messages while the loop does not [`receive`](Self::receive), because the log is full.
    fn keep_alive(&mut self) -> impl Future<Output = Result<(), Failure>>;

    /// Ends the stream cleanly after the last confirmation.
    fn close(&mut self) -> impl Future<Output = Result<(), Failure>>;
}

/// Reads changes that the source captured before: those of dead letters.
pub trait Redecode: Send + Sync + std::fmt::Debug {
    /// Decodes a captured change of a row of so many columns, and hands it to `then`.
    ///
    /// # Errors
    /// It is not the change of a row, or it is malformed: the reason, without row values.
    fn row(&self, raw: &[u8], columns: usize, then: &mut dyn FnMut(Operation<'_>)) -> Result<(), String>;

    /// Decodes a captured logical message.
    ///
    /// # Errors
    /// It is none, or it is malformed.
    fn message<'a>(&self, place: ChangePlace, raw: &'a [u8]) -> Result<Message<'a>, String>;

    /// Other descriptions of the same table, the likeliest first: the one that a dead letter keeps may not be the one that its
    /// row was written under.
    fn descriptions(&self, relation: &Relation) -> Vec<Relation>;
}
