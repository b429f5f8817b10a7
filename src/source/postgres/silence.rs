//! How long a silent server is tolerated, over all connections.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::conninfo::Settings;
use super::error::Error;
use super::lsn::Lsn;
use super::session::Session;
use super::slot;
use super::status::{Heartbeat, Patience};
use super::stream::Stream;

fn lock(patience: &Mutex<Patience>) -> MutexGuard<'_, Patience> {
    patience.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The limit of a connection that begins now.
pub(super) fn limit(stream: &Stream) -> Duration {
    lock(&stream.patience).limit(stream.reached)
}

/// Judges the silence of one connection.
pub(super) struct Silence {
    settings: Settings,
    target: String,
    slot: String,
    patience: Arc<Mutex<Patience>>,
    /// Where the connection began.
    reached: Lsn,
    /// Asks whether the silent server is at work.
    probe: Option<Pin<Box<dyn Future<Output = bool>>>>,
}

impl Silence {
    pub(super) fn new(settings: &Settings, stream: &Stream) -> Self {
        Self {
            settings: settings.clone(),
            target: settings.target(),
            slot: stream.slot.clone(),
            patience: Arc::clone(&stream.patience),
            reached: stream.reached,
            probe: None,
        }
    }

    /// Decides about a server that has been silent for too long: one that is at work is waited for. Cancel-safe.
    ///
    /// # Errors
    /// The connection is given up.
    pub(super) async fn bear(
        &mut self,
        heartbeat: &mut Heartbeat,
        after: Duration,
        delivered: Lsn,
    ) -> Result<(), Error> {
        let probe =
            self.probe.get_or_insert_with(|| Box::pin(is_busy(self.settings.clone(), self.slot.clone())));
        let is_busy = probe.await;
        self.probe = None;
        if is_busy && heartbeat.is_busy(Instant::now()) {
            tracing::info!(
                event = "walsender_busy",
                silent_seconds = after.as_secs(),
                "PostgreSQL sends nothing, but its walsender is busy; waiting for it"
            );
            return Ok(());
        }
        // It may have delivered nothing.
        lock(&self.patience).exhausted(delivered.max(self.reached));
        Err(Error::Silent { target: self.target.clone(), after })
    }
}

/// Whether the walsender of a silent stream is at work, as another session sees it. A server that does not say so is not.
async fn is_busy(settings: Settings, slot: String) -> bool {
    let asked = async {
        let mut session = Session::open(&settings).await?;
        session.run(async |client| slot::is_walsender_busy(client, &slot).await).await
    };
    asked.await.unwrap_or(false)
}
