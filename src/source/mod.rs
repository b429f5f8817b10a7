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

    /// Opens a connection, and checks that the source continues the known history. `known` returns the
    /// checkpoint as it would be written at the time of the call. While the connection is opened,
    /// confirmations of earlier connections may still raise it.
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
    /// End of the source's log when it was read. Everything received on earlier connections is below it.
    pub end: CommitSeq,
    /// The last seen transaction, if the source will deliver it again. The connection fails if it passes the
    /// transaction's position without delivering it.
    pub expect: Option<Transaction>,
}

/// Admission by the source: it continues the history of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumption {
    /// The identity of the source, for the checkpoint.
    pub source: SourceIdentity,
    /// The `source` attribute of CloudEvents.
    pub name: String,
    /// The source must first create a slot or cursor, because nothing was received yet.
    pub create: bool,
    /// The source delivers every transaction again that was committed here or later.
    pub resumes_at: CommitSeq,
    /// The last seen transaction, if the source will deliver it again.
    pub expect: Option<Transaction>,
    /// Why it is not proven that the source continues the known history; a new epoch begins. `None` if it is
    /// proven.
    pub unproven: Option<String>,
    /// Lowest number of a new epoch.
    pub epoch_least: u16,
}

/// One connection to a stream of changes. It lives for one attempt of the ingest loop.
pub trait Source {
    /// Waits until [`take`](Self::take) returns a delivery. Cancel-safe. Responds to keepalive requests, and
    /// sends status messages often enough that the server does not close the connection.
    fn receive(&mut self) -> impl Future<Output = Result<(), Failure>>;

    /// The next received delivery, without waiting; `None` if everything received was taken.
    ///
    /// # Errors
    /// The errors of the stream, as for [`receive`](Self::receive). An unreadable change is a delivery, not
    /// an error.
    fn take(&mut self) -> Result<Option<Delivery<'_>>, Failure>;

    /// Time of the last message from the server. While the loop [`receive`](Self::receive)s, a live server
    /// sends one at least every 10 s, because the client requests it.
    fn last_received(&self) -> Instant;

    /// Confirms a position to the server, which may then remove its log up to there. The position never
    /// decreases, and never exceeds what this connection delivered.
    fn confirm(&mut self, settled: &Settled) -> impl Future<Output = Result<(), Failure>>;

    /// Sends status messages while the loop does not [`receive`](Self::receive), because the log is full.
    fn keep_alive(&mut self) -> impl Future<Output = Result<(), Failure>>;

    /// Ends the stream cleanly after the last confirmation.
    fn close(&mut self) -> impl Future<Output = Result<(), Failure>>;
}

/// Decodes changes that the source captured earlier, for dead letters.
pub trait Redecode: Send + Sync + std::fmt::Debug {
    /// Decodes the captured change of a row with this number of columns, and passes it to `then`.
    ///
    /// # Errors
    /// It is not the change of a row, or it is malformed. The text is the reason, without row values.
    fn row(&self, raw: &[u8], columns: usize, then: &mut dyn FnMut(Operation<'_>)) -> Result<(), String>;

    /// Decodes a captured logical message.
    ///
    /// # Errors
    /// It is not a logical message, or it is malformed.
    fn message<'a>(&self, place: ChangePlace, raw: &'a [u8]) -> Result<Message<'a>, String>;

    /// Other definitions of the same table, the likeliest first. The definition in a dead letter may not be
    /// the one that its row was written with.
    fn descriptions(&self, relation: &Relation) -> Vec<Relation>;
}
