//! Determines up to which transaction id the end of every transaction is durable on the server. Does no I/O.
//!
//! To a snapshot, a transaction that was rolled back, or runs with `synchronous_commit = off`, ends before
//! its record is flushed. After a crash the server assigns such an id again, to another transaction whose
//! rows would seem to be read already. So a window ends no later than what is flushed. A standby replays only
//! what is flushed.

use super::server::PolledServer;

/// The oldest running transaction at the last time whose WAL is known to be flushed.
#[derive(Clone, Copy, Debug, Default)]
pub struct FlushedHorizon {
    proven: u64,
    waiting: Option<WaitingHorizon>,
}

/// A horizon that is proven once the WAL is flushed up to a position.
#[derive(Clone, Copy, Debug)]
struct WaitingHorizon {
    horizon: u64,
    end: u64,
    /// The server's clock when it was seen.
    seen: i64,
}

impl FlushedHorizon {
    /// Notes the state of the server. Returns where a window may end.
    pub fn observe(&mut self, server: &PolledServer) -> u64 {
        let Some(wal) = server.wal else { return server.oldest_running };
        // A crash ends all sessions of the server. A pooler may hide that from our connection, but the new
        // session is younger.
        self.waiting.take_if(|waiting| server.session_since > waiting.seen);
        if let Some(waiting) = self.waiting.take_if(|waiting| wal.flushed >= waiting.end) {
            self.proven = self.proven.max(waiting.horizon);
        }
        if wal.flushed >= wal.end() {
            self.proven = self.proven.max(server.oldest_running);
            self.waiting = None;
        } else if self.waiting.is_none() {
            self.waiting =
                Some(WaitingHorizon { horizon: server.oldest_running, end: wal.end(), seen: server.now });
        }
        // Another server may be at this address.
        self.proven.min(server.oldest_running)
    }
}

#[cfg(test)]
mod tests {
    use super::super::server::WalPosition;
    use super::*;

    #[test]
    fn window_ends_at_what_was_flushed() {
        let mut flushed = FlushedHorizon::default();
        let at = |oldest, inserted, flushed| PolledServer {
            oldest_running: oldest,
            wal: Some(WalPosition { inserted, flushed }),
            ..PolledServer::default()
        };
        for (server, expected) in [
            (at(100, 9_000, 8_900), 0),
            (at(105, 9_500, 8_999), 0),
            (at(110, 9_900, 9_000), 100),
            (at(111, 9_950, 9_900), 110),
            (at(120, 9_950, 9_950), 120),
            // A page, and a segment, with only their header.
            (at(130, 2 * 8_192 + 24, 2 * 8_192), 130),
            (at(131, (1 << 24) + 40, 1 << 24), 131),
            // The end of a record that began on the page before.
            (at(132, (1 << 24) + 8_192 + 32, (1 << 24) + 8_192), 131),
            // A server that was restored from a copy.
            (at(90, (1 << 24) + 9_000, (1 << 24) + 8_500), 90),
        ] {
            assert_eq!(flushed.observe(&server), expected, "{server:?}");
        }
        let standby = PolledServer { oldest_running: 90, ..PolledServer::default() };
        assert_eq!(flushed.observe(&standby), 90);
    }

    /// A pooler keeps our connection across a crash, with a new session.
    #[test]
    fn horizon_of_before_a_crash_is_forgotten() {
        for (session_since, expected) in [(40, 100), (51, 0)] {
            let mut flushed = FlushedHorizon::default();
            let at = |now, session_since, oldest_running, (inserted, flushed)| PolledServer {
                now,
                session_since,
                oldest_running,
                wal: Some(WalPosition { inserted, flushed }),
                ..PolledServer::default()
            };
            assert_eq!(flushed.observe(&at(50, 10, 100, (9_000, 8_900))), 0);
            assert_eq!(flushed.observe(&at(60, session_since, 101, (9_100, 9_050))), expected);
        }
    }
}
