//! Writes the heartbeat into the database (`source.heartbeat`), and measures how long it takes until it is
//! published.
//!
//! At most one is under way, so that a loop that hangs does not accumulate them. A new connection may have
//! lost it, so another one follows there. A heartbeat that cannot be written never stops anything.

use std::time::{Duration, Instant};

use crate::buffer::ledger::SharedLedger;
use crate::pipeline::ingest::heartbeat::{HEARTBEAT_PREFIX, HeartbeatText};
use crate::pipeline::status::{PendingHeartbeat, Status};
use crate::source::postgres::session::Session;
use crate::time;

/// The statement. It is transactional, because only then the message has a position. The commit does not wait
/// for synchronous standbys.
const EMIT: &str = "select set_config('synchronous_commit', 'local', true), pg_logical_emit_message(true, $1::text, $2::text)";

/// The heartbeat of one process.
#[derive(Debug)]
pub struct LoopHeartbeat {
    /// Interval (`source.heartbeat`).
    every: Duration,
    /// Content of the next heartbeat.
    next: HeartbeatText,
    due: Option<Instant>,
    failing: bool,
}

impl LoopHeartbeat {
    /// The heartbeats of the process with this random number.
    pub fn new(every: Duration, source: String, process: u64) -> Self {
        Self { every, next: HeartbeatText { source, process, number: 1, at: 0 }, due: None, failing: false }
    }

    /// Checks whether the last heartbeat is published.
    pub fn look(&self, status: &Status, ledger: &SharedLedger) {
        let published = ledger.lock().watermark().mark.position;
        status.heartbeat(|part| {
            part.every = Some(self.every);
            part.published(published, time::now());
        });
    }

    /// Writes one if it is due and none is under way.
    pub async fn beat(&mut self, session: &mut Session, status: &Status) {
        let now = time::now();
        let connected = status.ingest(|part| part.connected);
        let pending = status.heartbeat(|part| part.under_way);
        let comes = pending.is_some_and(|pending| connected.is_none_or(|since| pending.written >= since.at));
        if comes || self.due.is_some_and(|due| now < due) {
            return;
        }
        self.due = now.checked_add(self.every);
        self.next.at = time::now_micros();
        let Ok(content) = serde_json::to_string(&self.next) else { return };
        // Set before the statement runs, because the heartbeat may be received before the statement returns.
        let (number, since) = (self.next.number, pending.map_or(now, |pending| pending.since));
        status.heartbeat(|part| part.under_way = Some(PendingHeartbeat { number, written: now, since }));
        let written =
            session.run(async |client| client.query(EMIT, &[&HEARTBEAT_PREFIX, &content]).await).await;
        match written {
            Ok(_) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!(event = "heartbeat_written", "the heartbeat is written again");
                }
            }
            Err(error) => {
                status.heartbeat(|part| part.under_way = pending);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(
                        event = "heartbeat_failed", %error,
                        hint = "A standby cannot write it: remove source.heartbeat. On a primary: GRANT EXECUTE ON FUNCTION \
                                pg_logical_emit_message(boolean, text, text) to the role.",
                        "the heartbeat cannot be written; the stream continues"
                    );
                }
            }
        }
        // A heartbeat may have been written although the statement failed.
        self.next.number += 1;
    }
}
