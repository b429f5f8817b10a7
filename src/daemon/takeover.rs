//! A second instance waits until the first one has ended, and takes over.
//!
//! With one directory for both, it waits for the directory's lock, and then continues like any start.
//!
//! With a directory of its own that is lost on a restart (`confirm_after = "never"`), it waits while another
//! process reads the replication slot, and then begins like an empty directory. What the first instance
//! confirms in the meantime, and the server's timeline at the end, decide how the second one begins. So it
//! decides and writes nothing before the slot has been free for a while, and a directory that has received
//! nothing counts as an empty one. If two processes find the slot free at the same time, the server lets only
//! one of them read it. The other one stops when the slot is ahead of it, and its next start waits.

use std::path::Path;
use std::time::Duration;

use crate::buffer::checkpoint::{Checkpoint, CheckpointFile};
use crate::buffer::disk::{Directory, DirectoryLock, LockError};
use crate::failure::Failure;
use crate::identity::Identity;
use crate::pipeline::start::{LockedDirectory, SourceTurn, recover};
use crate::source::postgres::admit::Wanted;
use crate::source::postgres::conninfo::Settings;
use crate::source::postgres::inspect::{self, Seen};
use crate::source::postgres::session::Session;
use crate::source::postgres::slot::slot_facts;
use crate::time;

/// How often the lock and the slot are checked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a slot that another process has read must be free. That process may only have lost its
/// connection, or its server was restarted, and it returns.
const FREE_FOR: Duration = Duration::from_secs(10);

/// Creates the directory if it does not exist, and locks it. Waits while another process uses it, unless the
/// directory belongs to another source (`is_ours`).
///
/// # Errors
/// Two configurations use the same directory, or the lock cannot be used.
pub async fn lock_in_turn(
    path: &Path,
    is_ours: impl Fn(&Identity) -> bool,
    report_wait: impl Fn(&str),
) -> Result<(Directory, DirectoryLock), Failure> {
    let mut logged = None;
    loop {
        // Opened for each check, because it may have been deleted and created again.
        let directory = Directory::create(path)?;
        let error = match DirectoryLock::acquire(&directory) {
            Ok(lock) => {
                if logged.is_some() {
                    tracing::info!(
                        event = "taking_over",
                        directory = %path.display(),
                        "the buffer directory is free; taking over"
                    );
                }
                return Ok((directory, lock));
            }
            Err(error) => error,
        };
        let LockError::InUse { pid, .. } = &error else { return Err(error.into()) };
        // The checkpoint may be unreadable while it is being written. The next check will read it.
        let known = CheckpointFile::peek(&directory).ok().and_then(|peeked| peeked.checkpoint);
        if known.is_some_and(|known| !is_ours(&known.identity)) {
            return Err(error.into());
        }
        let pid = pid.as_deref().unwrap_or("unknown");
        if logged.as_deref() != Some(pid) {
            logged = Some(pid.to_owned());
            report_wait(&format!(
                "waiting to take over: another process (PID {pid}) uses the buffer directory"
            ));
            tracing::info!(
                event = "waiting_to_take_over",
                directory = %path.display(),
                pid,
                "another process uses the buffer directory; waiting to take over"
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether a directory with this history may begin with the slot as it is.
pub fn begins_anew(wanted: &Wanted, known: Option<&Checkpoint>) -> bool {
    wanted.never_written && known.is_none_or(Checkpoint::has_received_nothing)
}

/// The same for a directory, including its log.
pub fn directory_begins_anew(wanted: &Wanted, directory: &LockedDirectory) -> bool {
    let known = recover::known(directory.checkpoint.as_ref(), &directory.log_state());
    known.is_ok_and(|known| begins_anew(wanted, known.as_ref()))
}

/// Examines the database. If this directory would take over a slot that another process reads, waits until
/// that slot is free.
///
/// # Errors
/// The connection broke, or the database cannot be used.
pub async fn look_in_turn(
    (session, settings): (&mut Session, &Settings),
    wanted: &Wanted,
    directory: &mut LockedDirectory,
    report_wait: &dyn Fn(String),
) -> Result<Seen, Failure> {
    let seen = inspect::look(session, settings, wanted).await?;
    seen.check(wanted)?;
    let reader = seen.slot_facts.as_ref().and_then(|facts| facts.active_pid);
    if reader.is_some() && directory_begins_anew(wanted, directory) {
        directory.turn = SourceTurn::Waits;
    }
    if directory.turn == SourceTurn::Own {
        return Ok(seen);
    }
    until_slot_is_free(session, wanted, reader, report_wait).await?;
    let seen = inspect::look(session, settings, wanted).await?;
    seen.check(wanted)?;
    directory.turn = SourceTurn::Own;
    Ok(seen)
}

/// Waits until no process has read the slot for [`FREE_FOR`].
async fn until_slot_is_free(
    session: &mut Session,
    wanted: &Wanted,
    mut reader: Option<i32>,
    report_wait: &dyn Fn(String),
) -> Result<(), Failure> {
    let (mut logged, mut free_since) = (None, None);
    loop {
        if let Some(pid) = reader {
            free_since = None;
            if logged != reader {
                logged = reader;
                report_wait(format!(
                    "waiting to take over: the replication slot is read by another process (PID {pid})"
                ));
                tracing::info!(
                    event = "waiting_to_take_over",
                    slot = wanted.slot,
                    pid,
                    "the replication slot is read by another process; waiting to take over"
                );
            }
        } else {
            let now = time::now();
            if now.duration_since(*free_since.get_or_insert(now)) >= FREE_FOR {
                tracing::info!(
                    event = "taking_over",
                    slot = wanted.slot,
                    "the replication slot is free; taking over"
                );
                return Ok(());
            }
            report_wait(format!("waiting to take over: the replication slot must be free for {FREE_FOR:?}"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
        let facts = session.look(async |client| slot_facts(client, &wanted.slot).await).await?;
        reader = facts.and_then(|facts| facts.active_pid);
    }
}
