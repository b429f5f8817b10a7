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

/// The limit for a connection that begins now.
pub(super) fn limit(stream: &Stream) -> Duration {
    lock(&stream.patience).limit(stream.reached)
}

/// Decides how long one connection may be silent.
pub(super) struct Silence {
    settings: Settings,
    target: String,
    slot: String,
    patience: Arc<Mutex<Patience>>,
    /// The confirmed position of the slot when the connection began.
    reached: Lsn,
    /// Checks whether the silent server is busy.
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

    /// Decides about a server that has been silent for too long. It waits for a server that is busy.
    /// Cancel-safe.
    ///
    /// # Errors
    /// The server is not busy, or has been for too long: the connection must be closed.
    pub(super) async fn wait_if_busy(
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
        // The connection may have delivered nothing.
        lock(&self.patience).exhausted(delivered.max(self.reached));
        Err(Error::Silent { target: self.target.clone(), after })
    }
}

/// Whether the walsender of a silent stream is busy, according to another session. If that session gets no
/// result, it is not.
async fn is_busy(settings: Settings, slot: String) -> bool {
    let answer = async {
        let mut session = Session::open(&settings).await?;
        session.run(async |client| slot::is_walsender_busy(client, &slot).await).await
    };
    answer.await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No server listens at this port, so nothing shows that the walsender is busy.
    #[tokio::test]
    async fn server_without_a_sign_of_work_is_given_up() {
        let base = Duration::from_secs(2);
        let settings = Settings::from_url("postgres://lab@127.0.0.1:1/lab").unwrap();
        let patience = Arc::new(Mutex::new(Patience::new(base)));
        let stream = Stream { reached: Lsn::new(100), patience, ..Stream::new("slot", "publication") };
        let attempt = async |delivered| {
            let limit = limit(&stream);
            let mut heartbeat = Heartbeat::new(None, limit, Instant::now());
            let given_up =
                Silence::new(&settings, &stream).wait_if_busy(&mut heartbeat, limit, delivered).await;
            (limit, matches!(given_up, Err(Error::Silent { after, .. }) if after == limit))
        };
        assert_eq!(attempt(Lsn::ZERO).await, (base, true));
        assert_eq!(attempt(Lsn::ZERO).await, (base * 2, true), "the one before got no further than it began");
        assert_eq!(attempt(Lsn::new(150)).await, (base * 4, true));
        assert_eq!(attempt(Lsn::ZERO).await, (base * 2, true), "the one before delivered something");
    }
}
