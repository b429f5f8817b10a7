//! Where changes come from. The trait [`Source`] is one of the program's two network ends.

pub mod postgres;

use std::future::Future;

use crate::buffer::Settled;
use crate::change::Delivery;
use crate::failure::Failure;

/// One connection to a stream of changes. It lives for one attempt of the ingest loop.
pub trait Source {
    /// Waits until [`take`](Self::take) has something to give. Cancel-safe. Answers the server's keepalive requests, and
    /// sends status unasked often enough that the server does not hang up.
    fn receive(&mut self) -> impl Future<Output = Result<(), Failure>>;

    /// The next delivery of what has been received, without waiting; `None` when it is used up.
    ///
    /// # Errors
    /// As [`receive`](Self::receive): what was wrong with the stream itself. A change that cannot be read is a delivery.
    fn take(&mut self) -> Result<Option<Delivery<'_>>, Failure>;

    /// Tells the server what it may forget. Never goes back, and never exceeds what this connection delivered.
    fn confirm(&mut self, settled: Settled) -> impl Future<Output = Result<(), Failure>>;

    /// Sends status unasked, as long as the loop does not [`receive`](Self::receive) (the log is full).
    fn keep_alive(&mut self) -> impl Future<Output = Result<(), Failure>>;

    /// Ends the stream in order, after a last confirm.
    fn close(&mut self) -> impl Future<Output = Result<(), Failure>>;
}
