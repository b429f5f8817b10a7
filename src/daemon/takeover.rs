//! A second instance: with a directory that need not survive (`confirm_after = "never"` is written), it waits while another one reads
//! the replication slot, and then begins as an empty directory does.
//!
//! What the first instance confirms meanwhile, and which timeline the server is on in the end, decide how the second one begins.
//! So it decides and writes nothing before the slot is free, and a directory that has received nothing counts as an empty one. Two
//! that find the slot free at the same time: the server lets one of them read it, and the other stops when it is passed.

use std::time::Duration;

use crate::buffer::checkpoint::Checkpoint;
use crate::failure::Failure;
use crate::pipeline::start::{LockedDirectory, recover};
use crate::source::postgres::admit::Wanted;
use crate::source::postgres::conninfo::Settings;
use crate::source::postgres::inspect::{self, Seen};
use crate::source::postgres::session::Session;
use crate::source::postgres::slot::slot_facts;

/// How long the slot is free before this is noticed, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whether a directory with this history may begin with the slot as it is.
pub fn begins_anew(wanted: &Wanted, known: Option<&Checkpoint>) -> bool {
    wanted.never_written && known.is_none_or(Checkpoint::has_received_nothing)
}

/// The same of a directory, its log included.
pub fn directory_begins_anew(wanted: &Wanted, directory: &LockedDirectory) -> bool {
    let known = recover::known(directory.checkpoint.as_ref(), &directory.log_state());
    known.is_ok_and(|known| begins_anew(wanted, known.as_ref()))
}

/// Looks at the database; if this directory would take over a slot that another process reads, once that is free.
///
/// # Errors
/// The connection broke, or the database cannot be used.
pub async fn look_in_turn(
    (session, settings): (&mut Session, &Settings),
    wanted: &Wanted,
    directory: &LockedDirectory,
    report_wait: &dyn Fn(String),
) -> Result<Seen, Failure> {
    let seen = inspect::look(session, settings, wanted).await?;
    seen.check(wanted)?;
    if !directory_begins_anew(wanted, directory)
        || !until_slot_is_free(session, wanted, &seen, report_wait).await?
    {
        return Ok(seen);
    }
    let seen = inspect::look(session, settings, wanted).await?;
    seen.check(wanted)?;
    Ok(seen)
}

/// Waits while another process reads the slot. Returns whether it had to: what was seen before is then old.
async fn until_slot_is_free(
    session: &mut Session,
    wanted: &Wanted,
    seen: &Seen,
    report_wait: &dyn Fn(String),
) -> Result<bool, Failure> {
    let mut reader = seen.slot_facts.as_ref().and_then(|facts| facts.active_pid);
    let mut logged = None;
    while let Some(pid) = reader {
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
        tokio::time::sleep(LOOK_EVERY).await;
        let facts = session.look(async |client| slot_facts(client, &wanted.slot).await).await?;
        reader = facts.and_then(|facts| facts.active_pid);
    }
    if logged.is_some() {
        tracing::info!(
            event = "taking_over",
            slot = wanted.slot,
            "the replication slot is free; taking over"
        );
    }
    Ok(logged.is_some())
}
