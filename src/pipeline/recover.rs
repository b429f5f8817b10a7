//! Start, or refuse: one pure function of what the directory, the slot and the server say.
//!
//! [`recover`] is for process start and may cut the log; [`admit`] is the part of it that every reconnect repeats. Each
//! refusal closes one way in which changes get lost, and each has a way forward (`forebay adopt`).
//!
//! [`alone`] is for a start while the database does not answer: what is held is published at once. That is safe because
//! nothing that the database may say later could take it back. What is held was committed in the history that this directory
//! belongs to, Postgres may have forgotten it, and every answer leads to its being published first: a server that is
//! accepted, and also each refusal, since `adopt` keeps what is held and publishes it before the gap. Where the log is cut
//! does not hang on the server either, unless what is held is damaged; then it is asked first. The directory must already
//! know its stream: that proves one of the two ends, so that a wrong configuration cannot lead one system's events into
//! another's stream. The first connection is then judged as a start is, and a refusal stops the process.

use crate::buffer::checkpoint::{Checkpoint, Mark, Phase};
use crate::failure::Failure;
use crate::position::{FrameNo, Lsn, Transaction};

/// How keys are spread over lanes; lane progress counts only under the same.
pub const LANE_HASH: &str = "md5/256";

/// What this process is configured for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Database name.
    pub database: String,
    /// Slot.
    pub slot: String,
    /// Publication.
    pub publication: String,
    /// CloudEvents source.
    pub source: String,
    /// `confirm_after = "never"` is written in the configuration: an empty directory goes on with the existing slot.
    pub never_written: bool,
    /// Least epoch, for directories that do not survive.
    pub epoch_least: u16,
}

/// What the server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `system_identifier`.
    pub system_id: String,
    /// Timeline it writes, or replays.
    pub timeline: u32,
    /// Where earlier timelines of its history ended: timeline and the LSN of the switch away from it.
    pub switches: Vec<(u32, Lsn)>,
    /// End of its write-ahead log: flushed, or on a standby replayed.
    pub wal_end: Lsn,
    /// A standby.
    pub in_recovery: bool,
    /// Whether the publication exists.
    pub publication_exists: bool,
}

/// What the server says of the slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Everything before it is confirmed and will not be sent again.
    pub confirmed: Lsn,
    /// Why it cannot be used (lost, wrong plug-in, another database), if so.
    pub unusable: Option<String>,
}

impl Slot {
    /// Whether it can be read from. A slot without a confirmed position is still being made.
    ///
    /// # Errors
    /// It cannot, or not yet.
    pub fn check(&self, name: &str) -> Result<(), Refusal> {
        let slot = name.to_owned();
        match &self.unusable {
            Some(why) => Err(Refusal::SlotUnusable { slot, why: why.clone() }),
            None if self.confirmed == Lsn::ZERO => Err(Refusal::SlotInTheMaking { slot }),
            None => Ok(()),
        }
    }
}

/// What was found in the log between `low` and `held`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogState {
    /// The last frame that is readable in a row from `low` on; `low` itself if there is none.
    pub good: Mark,
    /// What is wrong with the next one, if it should be there.
    pub damage: Option<String>,
    /// Whether there are any segments at all.
    pub any: bool,
}

/// Begin like this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Publication and slot have to be made.
    pub create: bool,
    /// Everything in the log beyond this frame is cut.
    pub cut_after: FrameNo,
    /// The checkpoint to go on from; it must be written before anything is received if it differs from the one found.
    pub checkpoint: Checkpoint,
    /// See [`Admitted`].
    pub expect: Option<Transaction>,
}

/// A connection may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Nothing may be confirmed on this connection until it has delivered this very transaction; if it passes its LSN
    /// without it, the server has another history.
    pub expect: Option<Transaction>,
}

/// Why not, and what may be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A standby has not replayed as far as this directory has already seen; it will.
    #[error("the standby has replayed up to {wal_end}, this directory has seen {seen}: waiting for it")]
    StandbyBehind {
        /// Where the standby is.
        wal_end: Lsn,
        /// What has been seen.
        seen: Lsn,
    },
    /// An empty directory, but the slot or the publication is there.
    #[error(
        "the buffer directory is empty, but {what} exists: it was used before, or made by hand. Events between its last \
         confirmed position and now may have been published or not; look into it, then take it over with \
         `forebay adopt --reason \"…\"`"
    )]
    UsedBefore {
        /// What exists.
        what: String,
    },
    /// A log without a checkpoint.
    #[error(
        "the buffer directory has log segments but no checkpoint file: it was damaged or copied in part. Restore the \
         checkpoint, or give the segments up and start over with `forebay adopt --reason \"…\"`"
    )]
    CheckpointMissing,
    /// The directory belongs to something else.
    #[error(
        "the buffer directory belongs to another {what}: it says {found:?}, now it is {now:?}. If this is the wrong \
         directory or database, correct the configuration; if it is meant, `forebay adopt --reason \"…\"` begins a new epoch"
    )]
    Identity {
        /// Which part of the identity.
        what: &'static str,
        /// In the checkpoint.
        found: String,
        /// Now.
        now: String,
    },
    /// No slot.
    #[error(
        "the replication slot {slot} is missing: changes since {told} may be lost. If a failover has left it behind, bring \
         it back; else `forebay adopt --reason \"…\"` makes a new one and publishes the gap"
    )]
    SlotMissing {
        /// Its name.
        slot: String,
        /// What was last confirmed.
        told: Lsn,
    },
    /// A slot that gives nothing any more.
    #[error(
        "the replication slot {slot} cannot be used: {why}. If it is somebody else's, choose another name with source.slot; if it \
         may be dropped, `forebay adopt --reason \"…\" --recreate-slot {slot}` makes a new one and publishes the gap"
    )]
    SlotUnusable {
        /// Its name.
        slot: String,
        /// Why.
        why: String,
    },
    /// A session, perhaps of a process of ours that has ended, is still making the slot.
    #[error(
        "the replication slot {slot} is still being made, which waits for running transactions to end: waiting for it. If no \
         session makes it, drop it with pg_drop_replication_slot"
    )]
    SlotInTheMaking {
        /// Its name.
        slot: String,
    },
    /// Someone else has confirmed on our slot.
    #[error(
        "the replication slot {slot} stands at {confirmed}, but this directory has only ever confirmed {told}: changes between \
         them went elsewhere. `forebay adopt --reason \"…\"` goes on from the slot and publishes the gap"
    )]
    SlotAhead {
        /// Its name.
        slot: String,
        /// Where it stands.
        confirmed: Lsn,
        /// What we have confirmed.
        told: Lsn,
    },
    /// The server is a restored or lagging copy, and log sequence numbers will be used again.
    #[error(
        "the server has another history: {what}, but this directory has seen {seen}. It was restored from an older copy, or a \
         standby that lagged was promoted; log sequence numbers are used again, so nothing can be skipped safely. \
         `forebay adopt --reason \"…\"` goes on in the new history and loses nothing of it"
    )]
    OtherHistory {
        /// What shows it.
        what: String,
        /// Highest LSN seen.
        seen: Lsn,
    },
    /// Held frames cannot be read, and Postgres has forgotten them.
    #[error(
        "the log is damaged: {damage}. Frames {first} to {last} are held and not published, and the slot stands at {confirmed}, \
         beyond the last readable change ({good}): Postgres does not have them any more. Restore the directory, or \
         `forebay adopt --reason \"…\"` publishes the gap and goes on"
    )]
    Damaged {
        /// What is wrong.
        damage: String,
        /// First missing frame.
        first: FrameNo,
        /// Last missing frame.
        last: FrameNo,
        /// The last readable position.
        good: String,
        /// Where the slot stands.
        confirmed: Lsn,
    },
}

impl Refusal {
    /// Whether it passes by itself.
    pub const fn passes(&self) -> bool {
        matches!(self, Self::StandbyBehind { .. } | Self::SlotInTheMaking { .. })
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        if refusal.passes() { Self::retry(refusal) } else { Self::stop(refusal) }
    }
}

/// Decides how a process starts. `checkpoint` and `log` are what the directory says, `slot` and `server` what the
/// database says.
///
/// # Errors
/// Starting would lose or overtake something, or cannot be told from it.
pub fn recover(
    wanted: &Wanted,
    checkpoint: Option<&Checkpoint>,
    log: &LogState,
    slot: Option<&Slot>,
    server: &Server,
) -> Result<Start, Refusal> {
    let Some(found) = checkpoint else { return first_start(wanted, log, slot, server) };
    check_system(found, server)?;
    check_identity(wanted, found)?;
    let mut next = with_lanes_of_this_hash(found);
    if found.phase == Phase::Creating {
        // The intent is ours, and nothing was received yet: whatever of the two exists by now, this process's predecessor made,
        // or its session still makes: that goes on when the process has gone.
        slot.map_or(Ok(()), |slot| slot.check(&wanted.slot))?;
        return Ok(Start { create: true, cut_after: FrameNo(0), checkpoint: next, expect: None });
    }
    let admitted = admit(found, found.tip, slot, server)?;
    let confirmed = slot.map_or(Lsn::ZERO, |slot| slot.confirmed);
    cut_damage(&mut next, log, confirmed)?;
    next.identity.timeline = server.timeline;
    let cut_after = cut(&mut next);
    Ok(Start { create: false, cut_after, checkpoint: next, expect: admitted.expect })
}

/// Decides whether a process may begin to publish what is held while the database does not answer; `None` if it must wait.
/// [`admit`] has the last word when it does.
///
/// # Errors
/// The directory belongs to something else, whatever the database will say.
pub fn alone(
    wanted: &Wanted,
    checkpoint: Option<&Checkpoint>,
    log: &LogState,
) -> Result<Option<Start>, Refusal> {
    let Some(found) = checkpoint else { return Ok(None) };
    check_identity(wanted, found)?;
    let stream_is_known = found.identity.stream.is_some();
    if found.phase != Phase::Running || !stream_is_known || is_damaged(found, log) {
        return Ok(None);
    }
    let mut next = with_lanes_of_this_hash(found);
    let cut_after = cut(&mut next);
    Ok(Some(Start { create: false, cut_after, checkpoint: next, expect: None }))
}

fn with_lanes_of_this_hash(found: &Checkpoint) -> Checkpoint {
    let mut next = found.clone();
    if found.identity.lane_hash != LANE_HASH {
        LANE_HASH.clone_into(&mut next.identity.lane_hash);
        next.lanes.clear();
        next.answered.clear();
    }
    next
}

/// Where the log is cut, and lane progress beyond it with it.
fn cut(next: &mut Checkpoint) -> FrameNo {
    let (low, cut_after) = (next.low.frame, next.low.frame.max(next.held.frame));
    next.lanes.retain_mut(|(_, frame)| {
        *frame = (*frame).min(cut_after);
        *frame > low
    });
    next.answered.retain(|(frame, _)| *frame <= cut_after);
    cut_after
}

/// Whether something of what is held and not published cannot be read.
fn is_damaged(found: &Checkpoint, log: &LogState) -> bool {
    found.held.frame > found.low.frame && log.good.frame < found.held.frame
}

/// Decides whether a connection may be used, at start and at every reconnect. `tip` is the checkpoint's, or the higher one
/// of a living process's own tail.
///
/// # Errors
/// As [`recover`].
pub fn admit(
    found: &Checkpoint,
    tip: Option<Transaction>,
    slot: Option<&Slot>,
    server: &Server,
) -> Result<Admitted, Refusal> {
    check_system(found, server)?;
    let seen = found.told.max(tip.map_or(Lsn::ZERO, |tip| tip.commit));
    check_history(found, seen, server)?;
    let Some(slot) = slot else {
        return Err(Refusal::SlotMissing { slot: found.identity.slot.clone(), told: found.told });
    };
    slot.check(&found.identity.slot)?;
    if slot.confirmed > found.told {
        return Err(Refusal::SlotAhead {
            slot: found.identity.slot.clone(),
            confirmed: slot.confirmed,
            told: found.told,
        });
    }
    // Postgres sends every transaction whose commit record starts at or after the confirmed position.
    Ok(Admitted { expect: tip.filter(|tip| slot.confirmed <= tip.commit) })
}

fn check_history(found: &Checkpoint, seen: Lsn, server: &Server) -> Result<(), Refusal> {
    let ours = found.identity.timeline;
    if server.timeline < ours {
        if server.in_recovery {
            return Err(Refusal::StandbyBehind { wal_end: server.wal_end, seen });
        }
        let what = format!("it is on timeline {}, older than {ours}", server.timeline);
        return Err(Refusal::OtherHistory { what, seen });
    }
    if server.timeline > ours {
        match server.switches.iter().find(|(timeline, _)| *timeline == ours) {
            None => {
                let what = format!("its timeline {} does not descend from timeline {ours}", server.timeline);
                return Err(Refusal::OtherHistory { what, seen });
            }
            Some((_, at)) if *at < seen => {
                let what = format!("it left timeline {ours} at {at}");
                return Err(Refusal::OtherHistory { what, seen });
            }
            Some(_) => {}
        }
    }
    if server.wal_end < seen {
        if server.in_recovery {
            return Err(Refusal::StandbyBehind { wal_end: server.wal_end, seen });
        }
        let what = format!("its write-ahead log ends at {}", server.wal_end);
        return Err(Refusal::OtherHistory { what, seen });
    }
    Ok(())
}

fn check_system(found: &Checkpoint, server: &Server) -> Result<(), Refusal> {
    let (found, now) = (&found.identity.system_id, &server.system_id);
    if found == now {
        return Ok(());
    }
    let what = "database cluster (system identifier)";
    Err(Refusal::Identity { what, found: found.clone(), now: now.clone() })
}

fn check_identity(wanted: &Wanted, found: &Checkpoint) -> Result<(), Refusal> {
    let identity = &found.identity;
    for (what, found, now) in [
        ("database", &identity.database, &wanted.database),
        ("slot", &identity.slot, &wanted.slot),
        ("publication", &identity.publication, &wanted.publication),
        ("source (name)", &identity.source, &wanted.source),
    ] {
        if found != now {
            return Err(Refusal::Identity { what, found: found.clone(), now: now.clone() });
        }
    }
    Ok(())
}

fn first_start(
    wanted: &Wanted,
    log: &LogState,
    slot: Option<&Slot>,
    server: &Server,
) -> Result<Start, Refusal> {
    if log.any {
        return Err(Refusal::CheckpointMissing);
    }
    let fresh = |phase, told| Checkpoint::fresh(wanted.identity(server), phase, wanted.epoch_least, told);
    match slot {
        None if !server.publication_exists => Ok(Start {
            create: true,
            cut_after: FrameNo(0),
            checkpoint: fresh(Phase::Creating, Lsn::ZERO),
            expect: None,
        }),
        Some(slot) if wanted.never_written => slot.check(&wanted.slot).map(|()| Start {
            create: false,
            cut_after: FrameNo(0),
            checkpoint: fresh(Phase::Running, slot.confirmed),
            expect: None,
        }),
        Some(_) => Err(Refusal::UsedBefore { what: format!("the replication slot {}", wanted.slot) }),
        None => Err(Refusal::UsedBefore {
            what: format!("the publication {} (without its slot)", wanted.publication),
        }),
    }
}

/// Lowers `held` to what can be read, if Postgres still has the rest.
fn cut_damage(next: &mut Checkpoint, log: &LogState, confirmed: Lsn) -> Result<(), Refusal> {
    let (low, held) = (next.low, next.held);
    if !is_damaged(next, log) {
        return Ok(());
    }
    let good = if log.good.frame > low.frame { log.good } else { low };
    // The missing changes come after `good`; Postgres sends again every transaction that committed at or after `confirmed`.
    if good.position.is_some_and(|position| position.epoch == next.epoch && confirmed <= position.commit) {
        next.held = good;
        // What was confirmed beyond the cut stands on this slot again. Should one come that stands further (a failover, and
        // back), it does not have what is missing here: it is ahead of us.
        next.told = next.told.min(confirmed);
        return Ok(());
    }
    Err(Refusal::Damaged {
        damage: log.damage.clone().unwrap_or_else(|| "the log ends early".to_owned()),
        first: good.frame.next(),
        last: held.frame,
        good: good.position.map_or_else(|| "none".to_owned(), |position| position.to_string()),
        confirmed,
    })
}

impl Wanted {
    /// The identity of a directory that begins with this configuration on this server.
    pub fn identity(&self, server: &Server) -> crate::buffer::checkpoint::Identity {
        crate::buffer::checkpoint::Identity {
            system_id: server.system_id.clone(),
            timeline: server.timeline,
            database: self.database.clone(),
            slot: self.slot.clone(),
            publication: self.publication.clone(),
            source: self.source.clone(),
            stream: None,
            lane_hash: LANE_HASH.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
