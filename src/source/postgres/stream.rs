//! Opens the replication stream, and defines its settings.

use std::sync::{Arc, Mutex};

use super::connection::Connection;
use super::conninfo::Settings;
use super::error::Error;
use super::lsn::Lsn;
use super::status::{Patience, SILENCE_MAX};
use super::tables::RELATIONS_MAX;

/// Default limit of a row: 16 MiB. Kinesis accepts records up to 10 MiB, and the text form of a row in
/// PostgreSQL can be larger than its event. It is also at most a quarter of Forebay's memory.
pub const MAX_ROW_SIZE: usize = 16 << 20;

/// Bytes before a pgoutput message: kind, start, end, time.
pub(super) const WAL_HEADER: usize = 25;

/// The slot, the publication and the position of a stream.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Name of the replication slot, which must exist.
    pub slot: String,
    /// Name of the publication, which must be older than the slot.
    pub publication: String,
    /// Position to begin at, or the slot's confirmed position if that is higher. [`Lsn::ZERO`]: the slot's
    /// position.
    pub from: Lsn,
    /// The slot's confirmed position when it was read; [`Lsn::ZERO`]: unknown.
    pub reached: Lsn,
    /// Largest row message in bytes; default [`MAX_ROW_SIZE`]. Of a larger one, only the beginning is kept.
    pub max_row_size: usize,
    /// Number of announced tables from which dropped ones are forgotten; default [`RELATIONS_MAX`].
    pub relations_max: usize,
    /// How long the server may be silent in spite of requests before the connection is closed.
    pub patience: Arc<Mutex<Patience>>,
    /// Creates the slot for this connection only: the server drops it with the connection.
    pub temporary: bool,
}

impl Stream {
    /// Opens a connection for this stream, without starting it.
    ///
    /// # Errors
    /// The same as those of [`Connection::connect`].
    pub async fn connect(&self, settings: &Settings) -> Result<Connection, Error> {
        Connection::connect(settings, self.max_row_size + WAL_HEADER).await
    }

    /// A stream of this slot and publication from the slot's position, with the default limits.
    pub fn new(slot: impl Into<String>, publication: impl Into<String>) -> Self {
        Self {
            slot: slot.into(),
            publication: publication.into(),
            from: Lsn::ZERO,
            reached: Lsn::ZERO,
            max_row_size: MAX_ROW_SIZE,
            relations_max: RELATIONS_MAX,
            patience: Arc::new(Mutex::new(Patience::new(SILENCE_MAX))),
            temporary: false,
        }
    }
}
