//! Opens the replication stream, and its settings.

use std::sync::{Arc, Mutex};

use super::connection::Connection;
use super::conninfo::Settings;
use super::error::Error;
use super::lsn::Lsn;
use super::status::{Patience, SILENCE_MAX};
use super::tables::RELATIONS_MAX;

/// 16 MiB: above the 10 MiB of the largest record that Kinesis takes, whose row in Postgres's text form can be larger
/// than its event; and no more than a quarter of what Forebay may use of memory.
pub const MAX_ROW_SIZE: usize = 16 << 20;

/// Kind, start, end, time: what stands before a pgoutput message.
pub(super) const WAL_HEADER: usize = 25;

/// The slot and publication to stream, and the position.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Replication slot; must exist.
    pub slot: String,
    /// Publication; must exist since before the slot.
    pub publication: String,
    /// Position to begin at; the slot's confirmed position if that is further. [`Lsn::ZERO`]: the slot's.
    pub from: Lsn,
    /// The slot's confirmed position when it was read; [`Lsn::ZERO`]: unknown.
    pub reached: Lsn,
    /// Largest row message in bytes, [`MAX_ROW_SIZE`] by default; of a larger one only the beginning is kept.
    pub max_row_size: usize,
    /// Announced tables that are described before those that were dropped are forgotten, [`RELATIONS_MAX`] by default.
    pub relations_max: usize,
    /// How long the server may send nothing, although asked, before the connection is given up.
    pub patience: Arc<Mutex<Patience>>,
    /// Makes the slot for this connection alone: the server drops it with the connection.
    pub temporary: bool,
}

impl Stream {
    /// Connects for this stream, which does not begin yet.
    ///
    /// # Errors
    /// As [`Connection::connect`].
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
