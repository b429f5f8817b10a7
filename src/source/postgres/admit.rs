//! Decides whether to start, to reconnect or to refuse: whether PostgreSQL continues the history that a
//! buffer directory knows. Pure functions of the checkpoint, the slot and the server's state.
//!
//! [`judge`] is for the start of a process, [`admit`] for every connection. Each refusal prevents one way in
//! which changes get lost, and each has a remedy (`forebay adopt`).

mod refusal;

pub use self::refusal::SourceRefusal;
use crate::buffer::checkpoint::{Checkpoint, Phase};
use crate::identity::{Identity, ReplicationIdentity, SourceIdentity};
use crate::position::{CommitSeq, Transaction};
use crate::source::Resumption;

/// The configured identity of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Database name.
    pub database: String,
    /// Name of the replication slot.
    pub slot: String,
    /// Name of the publication.
    pub publication: String,
    /// The `source` attribute of CloudEvents.
    pub source: String,
    /// Whether the configuration sets `confirm_after = "never"`. An empty directory then continues with the
    /// existing slot.
    pub never_written: bool,
    /// Lowest epoch, for directories that are lost on a restart.
    pub epoch_least: u16,
    /// Time of the decision, microseconds since the Unix epoch.
    pub at: i64,
}

/// Facts about the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `system_identifier`.
    pub system_id: String,
    /// Timeline that it writes, or on a standby replays.
    pub timeline: u32,
    /// Earlier timelines of its history, each with the LSN at which it ended.
    pub switches: Vec<(u32, CommitSeq)>,
    /// End of its WAL: flushed, or on a standby replayed.
    pub wal_end: CommitSeq,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// Whether the publication exists.
    pub publication_exists: bool,
}

/// Facts about the slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicationSlot {
    /// Changes before this position are confirmed and will not be sent again.
    pub confirmed: CommitSeq,
    /// Why the slot cannot be used (lost, wrong plug-in, another database); `None` if it can.
    pub unusable: Option<String>,
}

impl ReplicationSlot {
    /// Checks that the slot can be read. A slot without a confirmed position is still being created.
    ///
    /// # Errors
    /// It cannot be read, or cannot be read yet.
    pub fn check(&self, name: &str) -> Result<(), SourceRefusal> {
        let slot = name.to_owned();
        match &self.unusable {
            Some(why) => Err(SourceRefusal::SlotUnusable { slot, why: why.clone() }),
            None if self.confirmed == CommitSeq::ZERO => Err(SourceRefusal::SlotInTheMaking { slot }),
            None => Ok(()),
        }
    }
}

/// The connection may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Nothing may be confirmed on this connection until it has delivered exactly this transaction. If it
    /// passes the transaction's LSN without it, the server has another history.
    pub expect: Option<Transaction>,
}

/// Decides whether a process may start. `known` is the history of the directory, including that of its log.
///
/// # Errors
/// A start could lose or reorder changes.
pub fn judge(
    wanted: &Wanted,
    known: Option<&Checkpoint>,
    slot: Option<&ReplicationSlot>,
    server: &Server,
) -> Result<Resumption, SourceRefusal> {
    let Some(known) = known else { return first_start(wanted, slot, server) };
    check_system(slot_of(&known.identity.source)?, server)?;
    check_identity(wanted, &known.identity)?;
    let mut admission = Resumption {
        source: known.identity.source.clone(),
        name: wanted.source.clone(),
        create: known.phase == Phase::Creating,
        resumes_at: slot.map_or(CommitSeq::ZERO, |slot| slot.confirmed),
        expect: None,
        unproven: None,
        epoch_least: wanted.epoch_least,
    };
    if admission.create {
        // Nothing was received yet. This directory notes the position of a slot before it creates the slot.
        // So a slot at another position was created or moved by another client.
        if let Some(slot) = slot {
            slot.check(&wanted.slot)?;
            if slot.confirmed != known.ever_confirmed.seq() {
                let slot_name = wanted.slot.clone();
                return Err(SourceRefusal::UsedBefore { slot: slot_name, confirmed: slot.confirmed });
            }
        }
        return Ok(admission);
    }
    match admit(known, known.last_seen, slot, server) {
        Ok(admitted) => {
            admission.expect = admitted.expect;
            let least = wanted.least_epoch(server);
            if wanted.never_written && known.epoch < least {
                admission.epoch_least = least;
                admission.unproven = Some(format!(
                    "an instance without this directory would have begun epoch {least}: it may have published later events"
                ));
            }
        }
        // Confirmed changes must be in the server's history. The slot delivers the rest again, in the new
        // epoch.
        Err(refusal) if !known.clean && refusal.is_of_history() => {
            admit(&Checkpoint { clean: true, ..known.clone() }, None, slot, server)?;
            admission.unproven = Some(refusal.as_reason());
        }
        Err(refusal) => return Err(refusal),
    }
    admission.source.set_timeline(server.timeline);
    Ok(admission)
}

/// Decides whether a connection may be used, at the start and at every reconnect. `last_seen` is that of the
/// checkpoint, or a higher one in the tail of a running process. If `found.clean`, nothing beyond it was
/// published.
///
/// # Errors
/// The server may lack a transaction that was seen.
pub fn admit(
    found: &Checkpoint,
    last_seen: Option<Transaction>,
    slot: Option<&ReplicationSlot>,
    server: &Server,
) -> Result<Admitted, SourceRefusal> {
    let identity = slot_of(&found.identity.source)?;
    check_system(identity, server)?;
    let (known, now) = (identity.timeline, server.timeline);
    let unproven = !found.clean && known != now;
    // The last seen transaction may belong to a timeline that is not in the checkpoint yet.
    let seen = last_seen.filter(|_| !unproven).map_or(CommitSeq::ZERO, |last_seen| last_seen.commit);
    check_history(known, found.ever_confirmed.seq().max(seen), server)?;
    let Some(slot) = slot else {
        return Err(SourceRefusal::SlotMissing {
            slot: identity.slot.clone(),
            ever_confirmed: found.ever_confirmed.seq(),
        });
    };
    slot.check(&identity.slot)?;
    if slot.confirmed > found.ever_confirmed.seq() {
        return Err(SourceRefusal::SlotAhead {
            slot: identity.slot.clone(),
            confirmed: slot.confirmed,
            ever_confirmed: found.ever_confirmed.seq(),
        });
    }
    if unproven {
        return Err(SourceRefusal::Unproven { known, now });
    }
    // PostgreSQL sends every transaction whose commit record starts at or after the confirmed position.
    Ok(Admitted { expect: last_seen.filter(|last_seen| slot.confirmed <= last_seen.commit) })
}

fn check_history(ours: u32, seen: CommitSeq, server: &Server) -> Result<(), SourceRefusal> {
    if server.timeline < ours {
        if server.in_recovery {
            return Err(SourceRefusal::StandbyBehind { wal_end: server.wal_end, seen });
        }
        let what = format!("it is on timeline {}, older than {ours}", server.timeline);
        return Err(SourceRefusal::OtherHistory { what, seen });
    }
    if server.timeline > ours {
        match server.switches.iter().find(|(timeline, _)| *timeline == ours) {
            None => {
                let what = format!("its timeline {} does not descend from timeline {ours}", server.timeline);
                return Err(SourceRefusal::OtherHistory { what, seen });
            }
            Some((_, at)) if *at < seen => {
                let what = format!("it left timeline {ours} at {at}");
                return Err(SourceRefusal::OtherHistory { what, seen });
            }
            Some(_) => {}
        }
    }
    if server.wal_end < seen {
        if server.in_recovery {
            return Err(SourceRefusal::StandbyBehind { wal_end: server.wal_end, seen });
        }
        let what = format!("its write-ahead log ends at {}", server.wal_end);
        return Err(SourceRefusal::OtherHistory { what, seen });
    }
    Ok(())
}

/// The slot that a directory belongs to.
fn slot_of(source: &SourceIdentity) -> Result<&ReplicationIdentity, SourceRefusal> {
    match source {
        SourceIdentity::Replication(identity) => Ok(identity),
        SourceIdentity::Polling(_) => Err(SourceRefusal::Identity {
            what: "kind of source (source.mode)",
            found: source.mode().to_owned(),
            now: "replication".to_owned(),
        }),
    }
}

fn check_system(found: &ReplicationIdentity, server: &Server) -> Result<(), SourceRefusal> {
    let (found, now) = (&found.system_id, &server.system_id);
    if found == now {
        return Ok(());
    }
    let what = "database cluster (system identifier)";
    Err(SourceRefusal::Identity { what, found: found.clone(), now: now.clone() })
}

/// Checks that a directory belongs to the configured source.
///
/// # Errors
/// It belongs to another one.
pub fn check_identity(wanted: &Wanted, found: &Identity) -> Result<(), SourceRefusal> {
    let identity = slot_of(&found.source)?;
    for (what, found, now) in [
        ("database", &identity.database, &wanted.database),
        ("slot", &identity.slot, &wanted.slot),
        ("publication", &identity.publication, &wanted.publication),
        ("source (name)", &found.name, &wanted.source),
    ] {
        if found != now {
            return Err(SourceRefusal::Identity { what, found: found.clone(), now: now.clone() });
        }
    }
    Ok(())
}

fn first_start(
    wanted: &Wanted,
    slot: Option<&ReplicationSlot>,
    server: &Server,
) -> Result<Resumption, SourceRefusal> {
    let admission = |create, resumes_at| Resumption {
        source: wanted.identity(server),
        name: wanted.source.clone(),
        create,
        resumes_at,
        expect: None,
        unproven: None,
        epoch_least: wanted.epoch_least,
    };
    let epoch_least = wanted.least_epoch(server);
    match slot {
        None if server.publication_exists && wanted.never_written => Err(SourceRefusal::OnlySlotMissing {
            slot: wanted.slot.clone(),
            publication: wanted.publication.clone(),
        }),
        // Without a slot, the publication was never read.
        None => Ok(Resumption { epoch_least, ..admission(true, CommitSeq::ZERO) }),
        // It is unknown what was published. So the epoch follows the timeline, which never decreases.
        Some(slot) if wanted.never_written => {
            slot.check(&wanted.slot).map(|()| Resumption { epoch_least, ..admission(false, slot.confirmed) })
        }
        Some(slot) => Err(SourceRefusal::UsedBefore { slot: wanted.slot.clone(), confirmed: slot.confirmed }),
    }
}

/// The epoch for a timeline. The first timeline is 1.
fn epoch_of(timeline: u32) -> u16 {
    u16::try_from(timeline.saturating_sub(1)).unwrap_or(u16::MAX)
}

impl Wanted {
    /// The lowest epoch in which an empty directory may begin. Several directories that are lost on a restart
    /// must agree on it without communication, so it follows the timeline.
    pub fn least_epoch(&self, server: &Server) -> u16 {
        let of_timeline = if self.never_written { epoch_of(server.timeline) } else { 0 };
        self.epoch_least.max(of_timeline)
    }

    /// The identity of the source for a directory that begins with this configuration on this server.
    pub fn identity(&self, server: &Server) -> SourceIdentity {
        SourceIdentity::Replication(ReplicationIdentity {
            system_id: server.system_id.clone(),
            timeline: server.timeline,
            database: self.database.clone(),
            slot: self.slot.clone(),
            publication: self.publication.clone(),
        })
    }
}
