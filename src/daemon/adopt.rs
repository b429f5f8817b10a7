//! `forebay adopt`: the remedy after every refusal.
//!
//! The operator declares that the current state of database, slot and stream is right. The gap is printed,
//! written to the audit file, and published as `forebay.gap.v1`. Everything received from then on belongs to
//! a new epoch, so it cannot be mistaken for older events. Changes that are still in the log are kept and
//! published.

mod polled;
mod probe;

use crate::buffer::checkpoint::{Checkpoint, Injection, LastEpoch, Phase, Skipped, epoch_after};
use crate::buffer::disk::Directory;
use crate::config::Config;
use crate::contracts;
use crate::daemon::audit::{AUDIT_FILE, audited_epoch};
use crate::daemon::start::Database;
use crate::failure::{Explain, Failure};
use crate::identity::Identity;
use crate::pipeline::ingest::injection;
use crate::pipeline::start::LockedDirectory;
use crate::pipeline::start::recover;
use crate::position::{CommitSeq, Position, ResumePoint};
use crate::source::postgres::admit::{ReplicationSlot, Server, Wanted};
use crate::source::postgres::conninfo::Settings;
use crate::source::postgres::create;
use crate::source::postgres::inspect::{self, Seen};
use crate::source::postgres::session::Session;
use crate::translate::Translator;

use self::probe::{Probe, SkipError};

/// The operator's options.
#[derive(Clone, Debug)]
pub struct Order {
    /// The reason, for the audit file and the gap event.
    pub reason: String,
    /// Slot to drop and create again.
    pub recreate_slot: Option<String>,
    /// Commit position of a transaction to skip.
    pub skip_transaction: Option<CommitSeq>,
    /// For a polled source, how many transactions are read again; `None`: all.
    pub rewind: Option<u64>,
    /// Time of the adoption, microseconds since the Unix epoch.
    pub at: i64,
}

/// The result, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// The new epoch.
    pub epoch: u16,
    /// Last position of the old history that is kept.
    pub from: Option<Position>,
    /// The last confirmed position; `None` if the directory has none.
    pub ever_confirmed: Option<CommitSeq>,
    /// Position at which the slot begins.
    pub to: CommitSeq,
    /// Durable frames that are kept and will be published.
    pub kept: u64,
    /// Durable frames that cannot be read and are lost.
    pub lost: u64,
    /// The transaction that was skipped.
    pub skipped: Option<Skipped>,
}

/// Why an adoption is refused.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// `--recreate-slot` has another name than the configured slot.
    #[error("--recreate-slot names \"{named}\", but the configuration's slot is \"{slot}\"")]
    OtherSlot {
        /// Name in `--recreate-slot`.
        named: String,
        /// The configured slot.
        slot: String,
    },
    /// The source is polled.
    #[error("a polled source has no replication slot")]
    Polled,
    /// The slot cannot be used, and the options do not drop it.
    #[error("replication slot \"{slot}\" cannot be used: {why}")]
    SlotUnusable {
        /// The reason.
        why: String,
        /// The slot's name.
        slot: String,
    },
    /// The slot is older than the publication that would be created.
    #[error("publication \"{publication}\" does not exist, but replication slot \"{slot}\" does")]
    PublicationMissing {
        /// The publication's name.
        publication: String,
        /// The slot's name.
        slot: String,
    },
    /// The epoch has its highest number.
    #[error(transparent)]
    LastEpoch(#[from] LastEpoch),
}

impl Explain for AdoptError {
    fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::OtherSlot { .. } => "other_slot_named",
            Self::Polled => "polled_source",
            Self::SlotUnusable { .. } => "slot_unusable",
            Self::PublicationMissing { .. } => "publication_missing",
            Self::LastEpoch(error) => return error.code(),
        })
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::PublicationMissing { .. } => Some(
                "A slot that is older than its publication cannot read what was written between them."
                    .to_owned(),
            ),
            Self::LastEpoch(error) => error.detail(),
            Self::OtherSlot { .. } | Self::Polled | Self::SlotUnusable { .. } => None,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::LastEpoch(error) => return error.hint(),
            Self::Polled => "Leave out --recreate-slot and --skip-transaction.".to_owned(),
            Self::OtherSlot { slot, .. } => {
                format!("Use --recreate-slot {slot}, or correct source.slot in the configuration.")
            }
            Self::SlotUnusable { slot, .. } | Self::PublicationMissing { slot, .. } => {
                format!("Add --recreate-slot {slot} to drop and create it. Changes that it retains are lost.")
            }
        })
    }
}

impl From<AdoptError> for Failure {
    fn from(error: AdoptError) -> Self {
        match error {
            AdoptError::OtherSlot { .. }
            | AdoptError::Polled
            | AdoptError::SlotUnusable { .. }
            | AdoptError::PublicationMissing { .. }
            | AdoptError::LastEpoch(_) => Self::stop(error),
        }
    }
}

/// Adopts the current state. Fails while a daemon runs, because it holds the directory's lock. `report_wait`
/// receives the transactions that it waits for.
///
/// # Errors
/// Nothing was adopted. The slot may have been created, or dropped and created again.
pub async fn adopt(config: &Config, order: &Order, report_wait: &dyn Fn(String)) -> Result<Adopted, Failure> {
    let Database { settings, wanted, polled, .. } = Database::new(config)?;
    if let Some(database) = polled {
        if order.recreate_slot.is_some() || order.skip_transaction.is_some() {
            return Err(AdoptError::Polled.into());
        }
        return polled::adopt(config, &database, order).await;
    }
    if let Some(named) = order.recreate_slot.as_ref().filter(|named| **named != wanted.slot) {
        return Err(AdoptError::OtherSlot { named: named.clone(), slot: wanted.slot }.into());
    }
    if order.recreate_slot.is_some() && order.skip_transaction.is_some() {
        return Err(SkipError::InNewSlot.into());
    }
    let mut locked = LockedDirectory::open_to_adopt(config)?;
    let audited = audited_epoch(&locked.directory)?;
    // Checked before a slot is dropped or created.
    epoch_after(audited.max(locked.known_epoch())).map_err(AdoptError::from)?;
    report_wait("connecting to the database".to_owned());
    let mut session = Session::open(&settings).await?;
    let seen = inspect::look(&mut session, &settings, &wanted).await?;
    seen.check(&wanted)?;
    let mut confirmed = slot((config, &settings), (&mut session, report_wait), &seen, &wanted, order).await?;
    let mut skipped = None;
    if seen.slot.is_some() && order.recreate_slot.is_none() {
        let translation = contracts::settings(config).map_err(Failure::stop)?;
        let probe = Probe {
            settings: &settings,
            wanted: &wanted,
            range: (confirmed, seen.server.wal_end),
            translator: Translator::new(&config.source_urn(), 0, translation),
            kept: kept(&locked),
        };
        match order.skip_transaction {
            None => {
                report_wait("reading from the replication slot".to_owned());
                probe.check().await?;
            }
            Some(named) => {
                let (advanced, given_up) = probe.skip((&mut session, report_wait), named).await?;
                (confirmed, skipped) = (advanced, Some(given_up));
            }
        }
    }
    let lost = locked.salvage()?;
    let (mut checkpoint, mut adopted) =
        plan(&locked, &wanted, &seen.server, confirmed, audited, lost, order)?;
    checkpoint.note_skipped(skipped.clone());
    adopted.skipped = skipped;
    audit(&locked.directory, &adopted, order)?;
    locked.file.write(&checkpoint)?;
    Ok(adopted)
}

/// Commit position of the last change that is published or durable.
fn kept(locked: &LockedDirectory) -> CommitSeq {
    let Some(found) = &locked.checkpoint else { return CommitSeq::ZERO };
    let positions = [locked.scan.good.position, found.watermark.position].into_iter().flatten();
    let known = positions.filter(|position| position.epoch == found.epoch).map(|position| position.commit);
    known.max().unwrap_or(CommitSeq::ZERO)
}

/// The slot to continue with: the existing one, or a new one.
async fn slot(
    (config, settings): (&Config, &Settings),
    (session, report_wait): (&mut Session, &dyn Fn(String)),
    seen: &Seen,
    wanted: &Wanted,
    order: &Order,
) -> Result<CommitSeq, Failure> {
    let found = match (&seen.slot, &order.recreate_slot) {
        (Some(_), Some(name)) => {
            create::drop_slot(session, name).await?;
            None
        }
        (Some(ReplicationSlot { unusable: Some(why), .. }), None) => {
            return Err(AdoptError::SlotUnusable { why: why.clone(), slot: wanted.slot.clone() }.into());
        }
        (Some(_), None) if seen.publication.is_none() => {
            return Err(AdoptError::PublicationMissing {
                publication: wanted.publication.clone(),
                slot: wanted.slot.clone(),
            }
            .into());
        }
        (found, _) => found.as_ref(),
    };
    if found.is_none() {
        report_wait("creating the replication slot".to_owned());
    }
    if let Some(found) = found {
        found.check(&wanted.slot)?;
    }
    create::create(&config.source, (session, settings), seen, found, (|_| Ok(()), report_wait)).await
}

/// The checkpoint that begins the new epoch at this position of the slot, with this number of lost frames.
///
/// # Errors
/// The epoch has its highest number.
pub fn plan(
    locked: &LockedDirectory,
    wanted: &Wanted,
    server: &Server,
    confirmed: CommitSeq,
    audited: u16,
    lost: u64,
    order: &Order,
) -> Result<(Checkpoint, Adopted), AdoptError> {
    let identity = recover::identity(wanted.identity(server), wanted.source.clone());
    begin(
        locked,
        identity,
        confirmed.into(),
        (audited.max(wanted.epoch_least.saturating_sub(1)), lost),
        order,
    )
}

/// Like [`plan`], for any source. `audited` is the highest epoch in the audit file.
fn begin(
    locked: &LockedDirectory,
    identity: Identity,
    resume: ResumePoint,
    (audited, lost): (u16, u64),
    order: &Order,
) -> Result<(Checkpoint, Adopted), AdoptError> {
    let confirmed = resume.seq();
    let fresh = Checkpoint::fresh(identity, Phase::Running, 0, CommitSeq::ZERO);
    let old = locked.checkpoint.as_ref();
    let mut next = old.cloned().unwrap_or_else(|| {
        // Without a checkpoint it is unknown what was published, so the whole log is sent again.
        let (watermark, durable) = (locked.scan.watermark, locked.scan.good.mark());
        Checkpoint { epoch: locked.known_epoch(), watermark, durable, ..fresh.clone() }
    });
    let from = if next.durable.frame > next.watermark.frame {
        locked.scan.good.position
    } else {
        next.watermark.position
    };
    next.identity = fresh.identity;
    next.phase = Phase::Running;
    for injection in &mut next.injections {
        if let Injection::Retry(retry) = injection {
            // Its frame may be lost. A repeated event is better than a lost one.
            retry.frame = retry.frame.filter(|_| retry.settled);
        }
    }
    next.begin_epoch(epoch_after(audited)?, from, confirmed, order.reason.clone(), order.at)?;
    next.ever_confirmed = resume;
    let adopted = Adopted {
        epoch: next.epoch,
        from,
        ever_confirmed: old.map(|old| old.ever_confirmed.seq()),
        to: confirmed,
        kept: next.durable.frame.0.saturating_sub(next.watermark.frame.0).saturating_sub(lost),
        lost,
        skipped: None,
    };
    Ok((next, adopted))
}

fn audit(directory: &Directory, adopted: &Adopted, order: &Order) -> Result<(), Failure> {
    let line = serde_json::json!({
        "at": order.at,
        "reason": order.reason,
        "recreated_slot": order.recreate_slot,
        "epoch": adopted.epoch,
        "last_position": adopted.from.map(|position| position.to_string()),
        "last_confirmed": adopted.ever_confirmed.map(|ever_confirmed| ever_confirmed.to_string()),
        "resumes_at": adopted.to.to_string(),
        "frames_kept": adopted.kept,
        "frames_lost": adopted.lost,
        "skipped": adopted.skipped.as_ref().map(injection::skipped),
    });
    directory.append_line(AUDIT_FILE, &line.to_string())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(directory: &Path) -> Config {
        let file = directory.join("forebay.toml");
        let text = format!(
            "name = \"lab\"\nsource.url = \"postgres://u@h/lab\"\nkinesis.stream = \"s\"\nbuffer.dir = {:?}\n",
            directory.join("buffer")
        );
        std::fs::write(&file, text).unwrap();
        Config::read(&file, std::iter::empty()).unwrap()
    }

    #[test]
    fn adopting_damaged_checkpoint_never_reuses_epoch() {
        let root = tempfile::tempdir().unwrap();
        let config = config(root.path());
        let wanted = Wanted {
            database: "lab".into(),
            slot: "s".into(),
            publication: "p".into(),
            source: "urn:forebay:lab".into(),
            never_written: false,
            epoch_least: 0,
            at: 0,
        };
        let server = Server {
            system_id: "7".into(),
            timeline: 1,
            switches: Vec::new(),
            wal_end: CommitSeq::new(900),
            in_recovery: false,
            publication_exists: true,
        };
        let order =
            Order { reason: "x".into(), recreate_slot: None, skip_transaction: None, rewind: None, at: 0 };
        let adopt = || -> u16 {
            let mut locked = LockedDirectory::open_to_adopt(&config).unwrap();
            let audited = audited_epoch(&locked.directory).unwrap();
            let (next, adopted) =
                plan(&locked, &wanted, &server, CommitSeq::new(500), audited, 0, &order).unwrap();
            audit(&locked.directory, &adopted, &order).unwrap();
            locked.file.write(&next).unwrap();
            adopted.epoch
        };
        assert_eq!((adopt(), adopt()), (1, 2));
        let checkpoint = config.buffer.dir.join("checkpoint");
        std::fs::write(&checkpoint, vec![0; 4 << 20]).unwrap();
        assert!(LockedDirectory::open(&config).is_err(), "a daemon does not go on");
        assert_eq!(adopt(), 3);
        assert_eq!(LockedDirectory::open(&config).unwrap().checkpoint.map(|found| found.epoch), Some(3));
        // No epoch can follow the highest one, whether the checkpoint or only the audit file has it.
        for (checkpoint, audited, follows) in [(65_534, 0, true), (65_535, 0, false), (3, 65_535, false)] {
            let mut locked = LockedDirectory::open_to_adopt(&config).unwrap();
            locked.checkpoint.as_mut().unwrap().epoch = checkpoint;
            match plan(&locked, &wanted, &server, CommitSeq::new(500), audited, 0, &order) {
                Ok((next, _)) => assert!(follows && next.epoch == checkpoint + 1),
                Err(error) => {
                    assert!(!follows && error.to_string().contains("no epoch can follow"), "{error}");
                }
            }
        }
    }
}
