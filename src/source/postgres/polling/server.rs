//! The server that is polled, and whether it continues what was read before. Does no I/O.

use tokio_postgres::SimpleQueryRow;

use crate::failure::{Explain, Failure};
use crate::identity::PollingIdentity;
use crate::source::postgres::encoding::Encoding;

use super::progress::{PollProgress, ServerMark};

/// How far the server has written and flushed its WAL, as byte positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalPosition {
    /// Where the next record begins: here, or after the header of this page.
    pub inserted: u64,
    /// Everything before this position is flushed.
    pub flushed: u64,
}

/// Usual sizes of a WAL page, a segment, and their headers. With other sizes, the last row of an idle server
/// waits for the next record.
const PAGE: u64 = 8192;
const PAGE_HEADER: u64 = 24;
const SEGMENT: u64 = 1 << 24;
const SEGMENT_HEADER: u64 = 40;

impl WalPosition {
    /// Where the last record ends. If the position is directly after a header, the record ended before the
    /// header.
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

/// The state of the server in one poll.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolledServer {
    /// The oldest running transaction. All transactions before it have ended.
    pub oldest_running: u64,
    /// The first transaction id that the snapshot cannot see, whatever its state.
    pub visible_end: u64,
    /// The next transaction id to be assigned; on a standby, the next one after all that it has seen.
    pub next_id: u64,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// `system_identifier`.
    pub system_id: String,
    /// Timeline that it writes, or on a standby replays.
    pub timeline: u32,
    /// Its clock, microseconds since the Unix epoch.
    pub now: i64,
    /// The primary's clock; on a standby, the time of the last replayed commit.
    pub primary: Option<i64>,
    /// `server_version_num`.
    pub version: i32,
    /// Database name.
    pub database: String,
    /// Encoding of the database.
    pub encoding: String,
    /// How far it has written and flushed; `None` on a standby.
    pub wal: Option<WalPosition>,
    /// How far it has replayed; on a promoted server, where its timeline begins. `None`: it has replayed
    /// nothing since its start.
    pub replayed: Option<u64>,
    /// When it was started, microseconds of its clock.
    pub started: i64,
    /// When our session began, microseconds of its clock.
    pub session_since: i64,
}

/// Whether and how a server continues what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerAdmission {
    /// It is on the known timeline.
    Continues,
    /// It is a standby that has not replayed everything that was read.
    Behind,
    /// It is on a later timeline that contains everything that was read.
    Follows,
}

impl PolledServer {
    /// Parses the row of [`SERVER`](super::query::SERVER).
    pub fn read(row: &SimpleQueryRow) -> Option<Self> {
        let visible_end = number(row, 1)?;
        // The age is that of transaction 3, the first one, as a signed 32-bit number.
        let next = 3_u32.wrapping_add(row.get(15)?.parse::<i32>().ok()?.cast_unsigned());
        let low = u32::try_from(visible_end % (1 << 32)).ok()?;
        Some(Self {
            oldest_running: number(row, 0)?,
            visible_end,
            next_id: visible_end + u64::from(next.wrapping_sub(low)),
            in_recovery: row.get(2)? == "t",
            system_id: row.get(3)?.to_owned(),
            timeline: number(row, 4)?.try_into().ok()?,
            now: row.get(5)?.parse().ok()?,
            primary: row.get(6).and_then(|micros| micros.parse().ok()),
            version: row.get(7)?.parse().ok()?,
            database: row.get(8)?.to_owned(),
            encoding: row.get(9)?.to_owned(),
            wal: number(row, 10)
                .zip(number(row, 11))
                .map(|(inserted, flushed)| WalPosition { inserted, flushed }),
            replayed: number(row, 12),
            started: row.get(13)?.parse().ok()?,
            session_since: row.get(14)?.parse().ok()?,
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

    /// Checks that it can be polled at all.
    ///
    /// # Errors
    /// It is too old, or its texts cannot be converted to UTF-8.
    pub fn check(&self) -> Result<(), PollRefusal> {
        if self.version < VERSION_MIN {
            return Err(PollRefusal::Version { version: self.version });
        }
        if Encoding::named(&self.encoding).is_none() {
            return Err(PollRefusal::Encoding { encoding: self.encoding.clone() });
        }
        Ok(())
    }

    /// A WAL position beyond the end of every transaction below `oldest_running`. A standby may be replaying
    /// the record that begins at its replay position.
    fn reach(&self) -> u64 {
        self.wal.map_or_else(|| self.replayed.map_or(u64::MAX, |replayed| replayed + 1), WalPosition::end)
    }

    /// A mark that proves later that a server contains everything that this one contains. While nothing more
    /// is read, the position stays.
    pub fn mark(&self, known: Option<ServerMark>, opens: bool) -> ServerMark {
        let wal = known.filter(|_| !opens).map_or_else(|| self.reach(), |known| known.wal);
        ServerMark { started: self.started, wal }
    }

    /// Whether it continues what was read before.
    ///
    /// # Errors
    /// It has another history, or may have one.
    pub fn admit(
        &self,
        known: &PollingIdentity,
        progress: &PollProgress,
    ) -> Result<ServerAdmission, PollRefusal> {
        let needs = progress.needs();
        for (what, known, now) in [
            ("database cluster (system identifier)", &known.system_id, &self.system_id),
            ("database", &known.database, &self.database),
        ] {
            if known != now {
                return Err(PollRefusal::Identity { what, known: known.clone(), now: now.clone() });
            }
        }
        // The control file of a standby lags: it may have an earlier timeline, but never one that is not
        // reached.
        if self.timeline > known.timeline {
            let proven = progress.server.is_some_and(|mark| self.has_all(known.timeline, mark));
            if proven && self.oldest_running >= needs {
                return Ok(ServerAdmission::Follows);
            }
            return Err(PollRefusal::Timeline { known: known.timeline, now: self.timeline });
        }
        if self.timeline < known.timeline && !self.in_recovery {
            return Err(PollRefusal::Timeline { known: known.timeline, now: self.timeline });
        }
        if self.oldest_running >= needs {
            return Ok(ServerAdmission::Continues);
        }
        if self.in_recovery {
            return Ok(ServerAdmission::Behind);
        }
        Err(PollRefusal::HorizonBack { known: needs, now: self.oldest_running })
    }

    /// Whether its history contains everything that was read, although its timeline is a later one. That is
    /// so if it is the last polled server and was not restarted; or if it was promoted, not restarted since,
    /// and had replayed the known timeline beyond everything that was read. The next timeline can only branch
    /// off the known one, unless a copy of an earlier one was restored.
    fn has_all(&self, timeline: u32, mark: ServerMark) -> bool {
        let was_promoted = !self.in_recovery && self.timeline == timeline + 1;
        mark.started == self.started
            || (was_promoted && self.replayed.is_some_and(|replayed| replayed >= mark.wal))
    }
}

fn number(row: &SimpleQueryRow, at: usize) -> Option<u64> {
    row.get(at)?.parse().ok()
}

/// Oldest version with tests.
const VERSION_MIN: i32 = 120_000;

/// Why a server cannot be polled, or not any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PollRefusal {
    /// The server is too old.
    #[error("the server is PostgreSQL {}, and polling needs 12 or later", version / 10_000)]
    Version {
        /// `server_version_num`.
        version: i32,
    },
    /// Its texts cannot be converted to UTF-8.
    #[error("the encoding of the database is {encoding}, which has no conversion to UTF-8")]
    Encoding {
        /// The encoding.
        encoding: String,
    },
    /// The directory belongs to another source.
    #[error("the buffer directory belongs to a different {what}")]
    Identity {
        /// The part of the identity that differs.
        what: &'static str,
        /// Its value in the checkpoint.
        known: String,
        /// Its value now.
        now: String,
    },
    /// The directory belongs to a replication slot.
    #[error("the buffer directory belongs to a different kind of source (source.mode)")]
    OtherKind {
        /// The slot in the checkpoint.
        known: String,
    },
    /// The server is on another timeline after a failover.
    #[error("the server is on timeline {now}, and the buffer directory knows timeline {known}")]
    Timeline {
        /// Timeline in the checkpoint.
        known: u32,
        /// Timeline now.
        now: u32,
    },
    /// The primary was restored from an older copy.
    #[error("the transactions of the server have gone back")]
    HorizonBack {
        /// All transactions before this id were read.
        known: u64,
        /// The server's oldest running transaction.
        now: u64,
    },
    /// The checkpoint was not written by polling.
    #[error("the buffer directory cannot be polled from")]
    Checkpoint {
        /// What is wrong with it.
        reason: String,
    },
    /// `buffer.dir` is lost on a restart.
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
    /// The window has more rows than can be numbered.
    #[error("a window has more than {} rows", u32::MAX)]
    WindowTooLarge,
}

/// The hint after another history.
pub const ADOPT: &str = "Run forebay adopt --reason \"…\": it begins a new epoch with a gap event, and publishes again the rows that the last million \
     transactions wrote, so that none of before is missed. Add --rewind all to publish all rows again.";

impl Explain for PollRefusal {
    fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::Version { .. } => "server_too_old",
            Self::Encoding { .. } => "encoding_not_polled",
            Self::Identity { .. } | Self::OtherKind { .. } | Self::Checkpoint { .. } => {
                "directory_of_other_source"
            }
            Self::Timeline { .. } => "timeline_changed",
            Self::HorizonBack { .. } => "horizon_went_back",
            Self::Volatile { .. } => "directory_volatile",
            Self::KeyTooLong { .. } => "polled_key_too_long",
            Self::WindowTooLarge => "window_too_large",
        })
    }

    fn detail(&self) -> Option<String> {
        Some(match self {
            Self::OtherKind { known } => format!("The checkpoint has {known:?}. It is now \"polling\"."),
            Self::Identity { known, now, .. } => format!("The checkpoint has {known:?}. It is now {now:?}."),
            Self::Timeline { .. } => {
                "It is not proven that the server has everything that was read: it was not polled before its promotion, or was \
                 restarted since. A failover may have lost transactions that were published. Their ids are given out again, so rows \
                 with such ids would be taken for rows that were read."
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
            Self::Encoding { .. } => "Move the data to a database in UTF8.".to_owned(),
            Self::OtherKind { .. } | Self::Checkpoint { .. } => {
                "Correct the configuration if it names the wrong directory. Otherwise move buffer.dir away, set source.epoch above the \
                 epoch of the old directory, and start."
                    .to_owned()
            }
            Self::Identity { .. } => {
                format!("Correct the configuration if it names the wrong directory or database. Otherwise: {ADOPT}")
            }
            Self::Timeline { .. } | Self::HorizonBack { .. } => ADOPT.to_owned(),
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
            replayed: None,
            started: 3,
            session_since: 4,
        }
    }

    #[test]
    fn server_continues_its_own_history_only() {
        let known = server().identity();
        let standby = PolledServer { in_recovery: true, ..server() };
        for (server, needs, expected) in [
            (server(), 100, Ok(ServerAdmission::Continues)),
            (server(), 0, Ok(ServerAdmission::Continues)),
            (server(), 101, Err("horizon_went_back")),
            (standby.clone(), 101, Ok(ServerAdmission::Behind)),
            (PolledServer { timeline: 1, ..standby.clone() }, 100, Ok(ServerAdmission::Continues)),
            (PolledServer { timeline: 1, ..server() }, 100, Err("timeline_changed")),
            (PolledServer { timeline: 3, ..standby.clone() }, 100, Err("timeline_changed")),
            (PolledServer { system_id: "8".to_owned(), ..server() }, 100, Err("directory_of_other_source")),
            (PolledServer { database: "x".to_owned(), ..standby }, 100, Err("directory_of_other_source")),
        ] {
            let admitted = server.admit(&known, &PollProgress::first(Some(needs)));
            assert_eq!(admitted.map_err(|refusal| refusal.code().unwrap()), expected, "{server:?}");
        }
    }

    /// A later timeline is followed only if it contains everything that was read.
    #[test]
    fn later_timeline_is_followed_only_if_proven() {
        let known = server().identity();
        let mark = ServerMark { started: 3, wal: 5_000 };
        let promoted = PolledServer { timeline: 3, ..server() };
        let other = PolledServer { started: 9, replayed: Some(5_000), ..promoted.clone() };
        for (server, mark, follows) in [
            (promoted.clone(), Some(mark), true),
            (PolledServer { in_recovery: true, ..promoted.clone() }, Some(mark), true),
            (promoted.clone(), None, false),
            (PolledServer { oldest_running: 99, ..promoted.clone() }, Some(mark), false),
            (PolledServer { started: 9, ..promoted }, Some(mark), false),
            (other.clone(), Some(mark), true),
            (PolledServer { replayed: Some(4_999), ..other.clone() }, Some(mark), false),
            (PolledServer { timeline: 4, ..other.clone() }, Some(mark), false),
            (PolledServer { in_recovery: true, ..other }, Some(mark), false),
        ] {
            let progress = PollProgress { server: mark, ..PollProgress::first(Some(100)) };
            let expected = if follows { Ok(ServerAdmission::Follows) } else { Err("timeline_changed") };
            let admitted = server.admit(&known, &progress).map_err(|refusal| refusal.code().unwrap());
            assert_eq!(admitted, expected, "{server:?}");
        }
    }

    #[test]
    fn mark_keeps_its_position_while_nothing_is_read() {
        let wal = Some(WalPosition { inserted: 9_000, flushed: 8_000 });
        let primary = PolledServer { wal, ..server() };
        let mark = primary.mark(None, false);
        assert_eq!(mark, ServerMark { started: 3, wal: 9_000 });
        let standby = PolledServer { started: 7, replayed: Some(9_500), ..server() };
        assert_eq!(standby.mark(Some(mark), false), ServerMark { started: 7, wal: 9_000 });
        assert_eq!(standby.mark(Some(mark), true), ServerMark { started: 7, wal: 9_501 });
    }
}
