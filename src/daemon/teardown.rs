//! `forebay teardown`: stops for good, and leaves no replication slot that would retain WAL.
//!
//! The plan depends on both sides: the directory (what is not published) and the server (the slot, the WAL
//! that it retains, the publication). It is refused while a daemon uses the directory, while the log has
//! unpublished changes, and for a slot that does not belong to this directory. The operator's options are
//! written to the audit file before the slot is dropped. The directory stays, because it has the dead
//! letters. A later start from it is refused, because its slot does not exist.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::buffer::checkpoint::Checkpoint;
use crate::buffer::disk::{Directory, DirectoryLock, DirectoryRoom};
use crate::buffer::stat::{self, Stat};
use crate::config::Config;
use crate::daemon::audit::AUDIT_FILE;
use crate::daemon::start::Database;
use crate::failure::{Explain, Failure};
use crate::position::CommitSeq;
use crate::source::postgres::admit::{self, SourceRefusal, Wanted};
use crate::source::postgres::create;
use crate::source::postgres::inspect::{self, Seen};
use crate::source::postgres::session::Session;
use crate::source::postgres::slot::{self, SlotReader};

/// How long to wait while a session still reads the slot. The walsender of a daemon that has just ended
/// closes within this time.
const READER_GRACE: Duration = Duration::from_secs(10);
const READER_PAUSE: Duration = Duration::from_millis(500);

/// The operator's options.
#[derive(Clone, Copy, Debug)]
pub struct TeardownOrder {
    /// Whether to drop the publication too.
    pub drop_publication: bool,
    /// Whether to discard the changes in the directory that are not published.
    pub discard_unpublished: bool,
    /// Time of the teardown, microseconds since the Unix epoch.
    pub at: i64,
}

/// The findings and the steps of a teardown.
#[derive(Debug)]
pub struct TeardownPlan {
    /// The buffer directory, if it exists.
    pub directory: Option<PathBuf>,
    /// Number of unpublished changes in the log; `None`: the directory does not exist, or cannot be read.
    pub unpublished: Option<u64>,
    /// Name of the slot, and bytes of WAL that the server retains for it; `None`: there is no slot.
    pub slot: Option<(String, u64)>,
    /// Bytes of WAL after the last confirmed position.
    pub not_received: u64,
    /// Name of the publication, if it exists.
    pub publication: Option<String>,
    /// Whether the source is polled. It then has neither slot nor publication.
    pub polled: bool,
}

/// Why a teardown is refused. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum TeardownError {
    /// The log has unpublished changes.
    #[error("the buffer directory has unpublished changes: {changes}")]
    Unpublished {
        /// Number of unpublished changes.
        changes: u64,
    },
    /// The directory or its checkpoint does not exist, or cannot be read.
    #[error("it is unknown which changes were published from the buffer directory: {why}")]
    Unreadable {
        /// The reason.
        why: String,
    },
    /// The slot does not belong to this directory.
    #[error("the buffer directory belongs to {what} \"{found}\", and the configuration leads to \"{now}\"")]
    OtherSource {
        /// The part of the identity that differs.
        what: &'static str,
        /// Its value in the directory.
        found: String,
        /// Its value in the configuration or on the server.
        now: String,
    },
    /// A session reads the slot.
    #[error("replication slot \"{slot}\" is read by another session")]
    SlotRead {
        /// The slot's name.
        slot: String,
        /// The session.
        reader: SlotReader,
    },
    /// The slot is not a logical slot of this database.
    #[error("replication slot \"{slot}\" is not Forebay's: {why}")]
    ForeignSlot {
        /// The slot's name.
        slot: String,
        /// What it is instead.
        why: String,
    },
}

impl Explain for TeardownError {
    fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unpublished { .. } => "teardown_unpublished",
            Self::Unreadable { .. } => "teardown_unreadable",
            Self::OtherSource { .. } => "teardown_other_source",
            Self::SlotRead { .. } => "teardown_slot_read",
            Self::ForeignSlot { .. } => "teardown_foreign_slot",
        })
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::SlotRead { reader, .. } => Some(reader.to_string()),
            Self::Unpublished { .. }
            | Self::Unreadable { .. }
            | Self::OtherSource { .. }
            | Self::ForeignSlot { .. } => None,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unpublished { .. } => "Stop the writers, let `forebay run` publish until `forebay status` shows no backlog, stop it, and \
                 run this again. Or add --discard-unpublished to give these changes up."
                .to_owned(),
            Self::Unreadable { .. } => {
                "Correct buffer.dir if it names another directory. `forebay buffer verify` says what is damaged. To drop the slot all the \
                 same, and lose what was not published, add --discard-unpublished."
                    .to_owned()
            }
            Self::OtherSource { .. } => {
                "Use the configuration with which the daemon ran. Nothing was dropped.".to_owned()
            }
            Self::SlotRead { .. } => "Stop the daemon that reads it, and run this again.".to_owned(),
            Self::ForeignSlot { .. } => "Correct source.slot and source.url.".to_owned(),
        })
    }
}

impl From<TeardownError> for Failure {
    fn from(error: TeardownError) -> Self {
        Self::stop(error)
    }
}

/// A teardown that may begin. It holds the directory's lock.
#[derive(Debug)]
pub struct Teardown {
    plan: TeardownPlan,
    wanted: Wanted,
    session: Option<Session>,
    room: Option<(Directory, DirectoryLock)>,
    /// Why it is unknown what was published; `None` if it is known.
    unreadable: Option<String>,
}

impl Teardown {
    /// Examines the directory and the server. Changes nothing.
    ///
    /// # Errors
    /// A daemon uses the directory, the directory belongs to another source, or the server does not respond.
    pub async fn prepare(config: &Config) -> Result<Self, Failure> {
        let Database { settings, wanted, polled, .. } = Database::new(config)?;
        let room = room(&config.buffer.dir)?;
        let (found, unreadable) = match room.as_ref().map(|(directory, _)| stat::stat(directory)) {
            None => (None, Some("it does not exist".to_owned())),
            // Nothing proves that the slot belongs to this directory.
            Some(Ok(found)) if found.checkpoint.is_none() => (None, Some("it has no checkpoint".to_owned())),
            Some(Ok(found)) => (Some(found), None),
            Some(Err(error)) => (None, Some(error.to_string())),
        };
        let mut plan = TeardownPlan {
            directory: room.as_ref().map(|(directory, _)| directory.path().to_owned()),
            unpublished: found.as_ref().map(unpublished),
            slot: None,
            not_received: 0,
            publication: None,
            polled: polled.is_some(),
        };
        if plan.polled {
            return Ok(Self { plan, wanted, session: None, room, unreadable });
        }
        let mut session = Session::open(&settings).await?;
        let seen = inspect::glance(&mut session, &wanted).await?;
        if let Some(checkpoint) = found.as_ref().and_then(|found| found.checkpoint.as_ref()) {
            check_source(&wanted, checkpoint, &seen)?;
        }
        if let Some(facts) = &seen.slot_facts {
            facts
                .is_of(&wanted.database)
                .map_err(|why| TeardownError::ForeignSlot { slot: wanted.slot.clone(), why })?;
            let since =
                |from: Option<CommitSeq>| from.map_or(0, |from| seen.server.wal_end.distance_from(from));
            plan.slot = Some((wanted.slot.clone(), since(facts.restart_lsn)));
            plan.not_received = since(facts.confirmed_flush);
        }
        plan.publication = seen.publication.is_some().then(|| wanted.publication.clone());
        Ok(Self { plan, wanted, session: Some(session), room, unreadable })
    }

    /// What the teardown would do.
    pub const fn plan(&self) -> &TeardownPlan {
        &self.plan
    }

    /// Writes the options to the audit file, drops the slot, then the publication if requested.
    ///
    /// # Errors
    /// The directory has unpublished changes, a session reads the slot, or the role lacks a permission.
    /// Completed steps stay done, and the same teardown may be repeated.
    pub async fn carry_out(mut self, order: TeardownOrder) -> Result<TeardownPlan, Failure> {
        if !order.discard_unpublished {
            if let Some(changes) = self.plan.unpublished.filter(|changes| *changes > 0) {
                return Err(TeardownError::Unpublished { changes }.into());
            }
            if let Some(why) = self.unreadable.take().filter(|_| self.plan.slot.is_some()) {
                return Err(TeardownError::Unreadable { why }.into());
            }
        }
        let slot = &self.wanted.slot;
        if let Some(session) = self.session.as_mut().filter(|_| self.plan.slot.is_some()) {
            wait_for_reader(session, slot).await?;
        }
        if let Some((directory, _)) = &self.room {
            let line = serde_json::json!({
                "at": order.at,
                "reason": "forebay teardown",
                "dropped_slot": self.plan.slot.as_ref().map(|(name, _)| name),
                "dropped_publication": self.plan.publication.as_ref().filter(|_| order.drop_publication),
                "changes_not_published": self.plan.unpublished,
            });
            directory.append_line(AUDIT_FILE, &line.to_string())?;
        }
        if let Some(session) = &mut self.session {
            if self.plan.slot.is_some() {
                create::drop_slot(session, slot).await?;
            }
            if let Some(name) = self.plan.publication.as_ref().filter(|_| order.drop_publication) {
                create::drop_publication(session, name).await?;
            }
        }
        Ok(self.plan)
    }
}

/// The directory and its lock, if it exists. A missing directory is not created.
fn room(path: &Path) -> Result<Option<(Directory, DirectoryLock)>, Failure> {
    let Some(directory) = DirectoryRoom::look(path)?.directory else { return Ok(None) };
    let lock = DirectoryLock::acquire(&directory)?;
    Ok(Some((directory, lock)))
}

/// Number of changes after the watermark. It includes those that lanes have published beyond it, so it is an
/// upper limit.
const fn unpublished(found: &Stat) -> u64 {
    let watermark = match &found.checkpoint {
        Some(checkpoint) => checkpoint.watermark.frame.0,
        None => 0,
    };
    found.tail.0.saturating_sub(watermark)
}

/// Checks the source: a slot of the same name on another server must not be dropped.
fn check_source(wanted: &Wanted, checkpoint: &Checkpoint, seen: &Seen) -> Result<(), Failure> {
    match admit::check_identity(wanted, &checkpoint.identity) {
        Ok(()) => {}
        // Like in a start, but without its hint, because nothing is adopted here.
        Err(SourceRefusal::Identity { what, found, now }) => {
            return Err(TeardownError::OtherSource { what, found, now }.into());
        }
        Err(error) => return Err(error.into()),
    }
    let (known, now) = (checkpoint.identity.source.system_id(), &seen.server.system_id);
    // A role without permission to read the control file does not see it.
    if now.is_empty() || known == now {
        return Ok(());
    }
    let what = "database cluster";
    Err(TeardownError::OtherSource { what, found: known.to_owned(), now: now.clone() }.into())
}

/// Waits for a session that reads the slot to end.
async fn wait_for_reader(session: &mut Session, slot: &str) -> Result<(), Failure> {
    let deadline = Instant::now() + READER_GRACE;
    while let Some(reader) = session.look(async |client| slot::reader(client, slot).await).await? {
        if Instant::now() >= deadline {
            return Err(TeardownError::SlotRead { slot: slot.to_owned(), reader }.into());
        }
        sleep(READER_PAUSE).await;
    }
    Ok(())
}
