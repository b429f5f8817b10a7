//! The server that is polled, and whether it continues what was read before. Pure.

use tokio_postgres::SimpleQueryRow;

use crate::failure::{Explain, Failure};
use crate::identity::PollingIdentity;

/// How far the server writes, and how far it has flushed: byte positions of the write-ahead log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalPosition {
    /// The next record is written here, or behind the header of this page.
    pub inserted: u64,
    /// Everything before it is flushed.
    pub flushed: u64,
}

/// Usual sizes of a WAL page and of a segment, and those of their headers. With other sizes, the last row of an idle server waits
/// for the next record.
const PAGE: u64 = 8192;
const PAGE_HEADER: u64 = 24;
const SEGMENT: u64 = 1 << 24;
const SEGMENT_HEADER: u64 = 40;

impl WalPosition {
    /// Where the last record ends: directly behind a header, it ended before that.
    pub const fn end(self) -> u64 {
        let Self { inserted, .. } = self;
        if inserted % PAGE == PAGE_HEADER {
            inserted - PAGE_HEADER
        } else if inserted % SEGMENT == SEGMENT_HEADER {
            inserted - SEGMENT_HEADER
        } else {
            inserted
        }
    }
}

/// The server as one poll sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolledServer {
    /// The oldest transaction that is running: all before it have ended.
    pub oldest_running: u64,
    /// The first transaction that this snapshot does not see, whatever became of it.
    pub visible_end: u64,
    /// The first transaction id that was not given out; on a standby, that it has not heard of.
    pub next_id: u64,
    /// A standby.
    pub in_recovery: bool,
    /// `system_identifier`.
    pub system_id: String,
    /// Timeline that it writes, or replays.
    pub timeline: u32,
    /// Its clock, microseconds since the Unix epoch.
    pub now: i64,
    /// The primary's clock: on a standby, at the last replayed commit.
    pub primary: Option<i64>,
    /// `server_version_num`.
    pub version: i32,
    /// Database name.
    pub database: String,
    /// Encoding of the database.
    pub encoding: String,
    /// How far it writes and flushes; `None`: a standby.
    pub wal: Option<WalPosition>,
}

impl PolledServer {
    /// Reads the row of [`SERVER`](super::query::SERVER).
    pub fn read(row: &SimpleQueryRow) -> Option<Self> {
        let visible_end = number(row, 1)?;
        // The age is that of transaction 3, the first one, in 32 bits with a sign.
        let next = 3_u32.wrapping_add(row.get(2)?.parse::<i32>().ok()?.cast_unsigned());
        let low = u32::try_from(visible_end % (1 << 32)).ok()?;
        Some(Self {
            oldest_running: number(row, 0)?,
            visible_end,
            next_id: visible_end + u64::from(next.wrapping_sub(low)),
            in_recovery: row.get(3)? == "t",
            system_id: row.get(4)?.to_owned(),
            timeline: number(row, 5)?.try_into().ok()?,
            now: row.get(6)?.parse().ok()?,
            primary: row.get(7).and_then(|micros| micros.parse().ok()),
            version: row.get(8)?.parse().ok()?,
            database: row.get(9)?.to_owned(),
            encoding: row.get(10)?.to_owned(),
            wal: number(row, 11)
                .zip(number(row, 12))
                .map(|(inserted, flushed)| WalPosition { inserted, flushed }),
        })
    }

    /// The identity of a directory that begins with this server.
    pub fn identity(&self) -> PollingIdentity {
        PollingIdentity {
            system_id: self.system_id.clone(),
            timeline: self.timeline,
            database: self.database.clone(),
        }
    }

    /// Whether it can be polled at all.
    ///
    /// # Errors
    /// It is too old, or its texts need not be UTF-8.
    pub fn check(&self) -> Result<(), PollRefusal> {
        if self.version < VERSION_MIN {
            return Err(PollRefusal::Version { version: self.version });
        }
        if self.encoding != "UTF8" {
            return Err(PollRefusal::Encoding { encoding: self.encoding.clone() });
        }
        Ok(())
    }

    /// Whether it has come as far as what was read before; `false`: a standby that has not yet.
    ///
    /// # Errors
    /// It has another history.
    pub fn admit(&self, known: &PollingIdentity, needs: u64) -> Result<bool, PollRefusal> {
        for (what, known, now) in [
            ("database cluster (system identifier)", &known.system_id, &self.system_id),
            ("database", &known.database, &self.database),
        ] {
            if known != now {
                return Err(PollRefusal::Identity { what, known: known.clone(), now: now.clone() });
            }
        }
        // The control file of a standby lags: it may name an earlier timeline, but never one that is not reached.
        if self.timeline > known.timeline || (self.timeline < known.timeline && !self.in_recovery) {
            return Err(PollRefusal::Timeline { known: known.timeline, now: self.timeline });
        }
        if self.oldest_running >= needs {
            return Ok(true);
        }
        if self.in_recovery {
            return Ok(false);
        }
        Err(PollRefusal::HorizonBack { known: needs, now: self.oldest_running })
    }
}

fn number(row: &SimpleQueryRow, at: usize) -> Option<u64> {
    row.get(at)?.parse().ok()
}

/// Oldest version that is tested.
const VERSION_MIN: i32 = 140_000;

/// Why a server cannot be polled, or not any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PollRefusal {
    /// Too old.
    #[error("the server is PostgreSQL {}, and polling needs 14 or later", version / 10_000)]
    Version {
        /// `server_version_num`.
        version: i32,
    },
    /// Texts need not be UTF-8.
    #[error("the encoding of the database is {encoding}, and only UTF8 can be polled")]
    Encoding {
        /// The encoding.
        encoding: String,
    },
    /// Another source.
    #[error("the buffer directory belongs to a different {what}")]
    Identity {
        /// Which part of the identity.
        what: &'static str,
        /// In the checkpoint.
        known: String,
        /// Now.
        now: String,
    },
    /// After a failover.
    #[error("the server is on timeline {now}, and the buffer directory knows timeline {known}")]
    Timeline {
        /// In the checkpoint.
        known: u32,
        /// Now.
        now: u32,
    },
    /// A primary that was restored from an older copy.
    #[error("the transactions of the server have gone back")]
    HorizonBack {
        /// All before it were read.
        known: u64,
        /// Its oldest running transaction.
        now: u64,
    },
    /// The checkpoint is not one of polling.
    #[error("the buffer directory cannot be polled from")]
    Checkpoint {
        /// Why.
        reason: String,
    },
    /// `buffer.dir` does not survive a restart.
    #[error("buffer.dir is on {kind}, and polling needs a disk that outlives the process")]
    Volatile {
        /// The kind of file system.
        kind: String,
    },
    /// The key of a row is too long for the checkpoint.
    #[error("the key of a row of {table} is too long")]
    KeyTooLong {
        /// The table.
        table: String,
    },
    /// More rows than can be numbered.
    #[error("a window has more than {} rows", u32::MAX)]
    WindowTooLarge,
}

/// The way forward after another history.
pub const BEGIN_AGAIN: &str = "Decide what to do about rows that this directory missed. Then move buffer.dir away, set source.epoch above the epoch of the old \
     directory, and start: start = \"now\" continues with new rows, start = \"beginning\" publishes all rows again.";

impl Explain for PollRefusal {
    fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::Version { .. } => "server_too_old",
            Self::Encoding { .. } => "encoding_not_polled",
            Self::Identity { .. } | Self::Checkpoint { .. } => "directory_of_other_source",
            Self::Timeline { .. } => "timeline_changed",
            Self::HorizonBack { .. } => "horizon_went_back",
            Self::Volatile { .. } => "directory_volatile",
            Self::KeyTooLong { .. } => "polled_key_too_long",
            Self::WindowTooLarge => "window_too_large",
        })
    }

    fn detail(&self) -> Option<String> {
        Some(match self {
            Self::Identity { known, now, .. } => format!("The checkpoint has {known:?}. It is now {now:?}."),
            Self::Timeline { .. } => {
                "A failover may have lost transactions that were published. Their ids are given out again, so rows with such ids \
                 would be taken for rows that were read."
                    .to_owned()
            }
            Self::HorizonBack { known, now } => format!(
                "Everything before transaction {known} was read, and the oldest running transaction is {now}. The server was \
                 restored from an older copy: ids are given out again, so rows with such ids would be taken for rows that were read."
            ),
            Self::Checkpoint { reason } => format!("{reason}."),
            Self::Volatile { .. } => {
                "A poll cannot read the same rows again, so Forebay publishes only what is durable.".to_owned()
            }
            Self::KeyTooLong { .. } => "The checkpoint names the last row that was read, in at most 4096 bytes.".to_owned(),
            Self::Version { .. } | Self::Encoding { .. } | Self::WindowTooLarge => return None,
        })
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Version { .. } => "Upgrade the server.".to_owned(),
            Self::Encoding { .. } => {
                "Use source.mode = \"replication\", which converts other encodings.".to_owned()
            }
            Self::Identity { .. } | Self::Checkpoint { .. } => {
                format!(
                    "Correct the configuration if it names the wrong directory or database. Otherwise: {BEGIN_AGAIN}"
                )
            }
            Self::Timeline { .. } | Self::HorizonBack { .. } => BEGIN_AGAIN.to_owned(),
            Self::Volatile { .. } => {
                "Put buffer.dir on a disk. If it is one, set buffer.confirm_after = \"0s\" to say so."
                    .to_owned()
            }
            Self::KeyTooLong { table } => format!("Remove {table} from source.tables."),
            Self::WindowTooLarge => "Begin with start = \"now\".".to_owned(),
        })
    }
}

impl From<PollRefusal> for Failure {
    fn from(refusal: PollRefusal) -> Self {
        Self::stop(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> PolledServer {
        PolledServer {
            oldest_running: 100,
            visible_end: 105,
            next_id: 108,
            in_recovery: false,
            system_id: "7".to_owned(),
            timeline: 2,
            now: 5,
            primary: Some(5),
            version: 150_000,
            database: "lab".to_owned(),
            encoding: "UTF8".to_owned(),
            wal: None,
        }
    }

    #[test]
    fn server_continues_its_own_history_only() {
        let known = server().identity();
        let standby = PolledServer { in_recovery: true, ..server() };
        for (server, needs, expected) in [
            (server(), 100, Ok(true)),
            (server(), 0, Ok(true)),
            (server(), 101, Err("horizon_went_back")),
            (standby.clone(), 101, Ok(false)),
            (PolledServer { timeline: 1, ..standby.clone() }, 100, Ok(true)),
            (PolledServer { timeline: 1, ..server() }, 100, Err("timeline_changed")),
            (PolledServer { timeline: 3, ..standby.clone() }, 100, Err("timeline_changed")),
            (PolledServer { system_id: "8".to_owned(), ..server() }, 100, Err("directory_of_other_source")),
            (PolledServer { database: "x".to_owned(), ..standby }, 100, Err("directory_of_other_source")),
        ] {
            let admitted = server.admit(&known, needs).map_err(|refusal| refusal.code().unwrap());
            assert_eq!(admitted, expected, "{server:?}");
        }
    }
}
