//! `forebay adopt`: the way forward from every refusal.
//!
//! A person says that what the database, the slot and the stream are *now* is right. The gap is printed, written to the
//! audit file, and published as `forebay.gap.v1`; everything received from here on belongs to a new epoch, so that nothing
//! of it can be taken for something seen before. What the log still holds is kept and published.

use std::path::Path;

use crate::buffer::checkpoint::{Checkpoint, Injection, Phase};
use crate::buffer::disk;
use crate::config::Config;
use crate::failure::Failure;
use crate::pipeline::database::{self, Seen};
use crate::pipeline::recover::{Server, Slot, Wanted};
use crate::pipeline::start::{self, Directory};
use crate::position::{Lsn, Position};
use crate::source::postgres::conninfo::Settings;
use crate::source::postgres::sql::Session;

/// Name of the audit file in the buffer directory: one JSON line for each adoption.
pub const AUDIT_FILE: &str = "adoptions.jsonl";

/// What the person said.
#[derive(Clone, Debug)]
pub struct Order {
    /// Why.
    pub reason: String,
    /// Drop and make again this slot.
    pub recreate_slot: Option<String>,
    /// When, microseconds since the Unix epoch.
    pub at: i64,
}

/// What was adopted; for the person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// The epoch that begins.
    pub epoch: u16,
    /// Last position of the old history that is kept.
    pub from: Option<Position>,
    /// What was last confirmed, if the directory knew.
    pub told: Option<Lsn>,
    /// Where the slot begins.
    pub to: Lsn,
    /// Held frames that are kept and will be published.
    pub kept: u64,
    /// Held frames that cannot be read and are given up.
    pub lost: u64,
}

/// The order does not fit what is there.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// `--recreate-slot` names another slot than the configuration.
    #[error(
        "--recreate-slot names {named:?}, but the configuration's slot is {slot:?}: name the slot that is to be dropped"
    )]
    OtherSlot {
        /// What was named.
        named: String,
        /// What is configured.
        slot: String,
    },
    /// The slot cannot be used, and dropping it was not ordered.
    #[error(
        "{why}\nIf it is to be dropped and made again, which gives up what it still holds, add --recreate-slot {slot}"
    )]
    SlotUnusable {
        /// Why.
        why: String,
        /// Its name.
        slot: String,
    },
    /// The slot is older than the publication that would be made.
    #[error(
        "the publication {publication:?} is missing, but the slot {slot:?} exists: a slot that is older than its publication cannot \
         read what was written between them. Add --recreate-slot {slot}, which gives up what the slot still holds"
    )]
    PublicationMissing {
        /// Its name.
        publication: String,
        /// The slot's name.
        slot: String,
    },
    /// The audit file could not be read.
    #[error("cannot read the audit file {path}")]
    Audit {
        /// The file.
        path: String,
        /// What the disk said.
        source: std::io::Error,
    },
}

impl From<AdoptError> for Failure {
    fn from(error: AdoptError) -> Self {
        match error {
            AdoptError::OtherSlot { .. }
            | AdoptError::SlotUnusable { .. }
            | AdoptError::PublicationMissing { .. }
            | AdoptError::Audit { .. } => Self::stop(error),
        }
    }
}

/// Adopts what is there now. The daemon must not run: the directory's lock says so.
///
/// # Errors
/// Nothing was adopted; the slot may have been made or made again.
pub async fn adopt(config: &Config, settings: &Settings, order: &Order) -> Result<Adopted, Failure> {
    let wanted = start::wanted(config, settings);
    if let Some(named) = order.recreate_slot.as_ref().filter(|named| **named != wanted.slot) {
        return Err(AdoptError::OtherSlot { named: named.clone(), slot: wanted.slot }.into());
    }
    let mut directory = Directory::open_to_adopt(config)?;
    let mut session = Session::open(settings).await?;
    let seen = database::look(&mut session, settings, &wanted).await?;
    seen.check(&wanted)?;
    let confirmed = slot(config, &mut session, &seen, &wanted, order).await?;
    let lost = directory.salvage(&config.buffer.dir)?;
    let audited = audited_epoch(&config.buffer.dir)?;
    let (checkpoint, adopted) = plan(&directory, &wanted, &seen.server, (confirmed, audited, lost), order);
    audit(&config.buffer.dir, &adopted, order)?;
    directory.file.write(&checkpoint)?;
    Ok(adopted)
}

/// The slot to go on with: the one that is there, or a new one.
async fn slot(
    config: &Config,
    session: &mut Session,
    seen: &Seen,
    wanted: &Wanted,
    order: &Order,
) -> Result<Lsn, Failure> {
    let found = match (&seen.slot, &order.recreate_slot) {
        (Some(_), Some(name)) => {
            start::drop_slot(session, name).await?;
            None
        }
        (Some(Slot { unusable: Some(why), .. }), None) => {
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
    if let Some(found) = found {
        found.check(&wanted.slot)?;
    }
    start::make(config, session, seen.publication.is_some(), found).await
}

/// The checkpoint that begins the new epoch, at this position of the slot and with so many held frames given up.
fn plan(
    directory: &Directory,
    wanted: &Wanted,
    server: &Server,
    (confirmed, audited, lost): (Lsn, u16, u64),
    order: &Order,
) -> (Checkpoint, Adopted) {
    let fresh = Checkpoint::fresh(wanted.identity(server), Phase::Running, 0, Lsn::ZERO);
    let old = directory.checkpoint.as_ref();
    let mut next = old.cloned().unwrap_or_else(|| {
        // Without a checkpoint nobody knows what was published: all of the log is sent again.
        let (low, held) = (directory.scan.low, directory.scan.good.mark());
        let epoch = held.position.map_or(0, |position| position.epoch);
        Checkpoint { epoch, low, held, ..fresh.clone() }
    });
    let from =
        if next.held.frame > next.low.frame { directory.scan.good.position } else { next.low.position };
    next.identity = fresh.identity;
    next.phase = Phase::Running;
    next.epoch = next.epoch.max(audited).saturating_add(1).max(wanted.epoch_least);
    next.told = confirmed;
    next.tip = None;
    for injection in &mut next.injections {
        if let Injection::Retry(retry) = injection {
            // Its frame may be among those given up: a repeat is better than a loss.
            retry.frame = retry.frame.filter(|_| retry.settled);
        }
    }
    next.injections.push(Injection::Gap {
        epoch: next.epoch,
        from,
        to: confirmed,
        reason: order.reason.clone(),
        at: order.at,
    });
    let adopted = Adopted {
        epoch: next.epoch,
        from,
        told: old.map(|old| old.told),
        to: confirmed,
        kept: next.held.frame.0.saturating_sub(next.low.frame.0).saturating_sub(lost),
        lost,
    };
    (next, adopted)
}

/// The highest epoch of the audit file: a checkpoint that is lost cannot tell it, and an epoch that comes again would sort
/// new events before old ones.
fn audited_epoch(directory: &Path) -> Result<u16, AdoptError> {
    let path = directory.join(AUDIT_FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(source) => return Err(AdoptError::Audit { path: path.display().to_string(), source }),
    };
    let epoch = |line: &str| {
        let entry: serde_json::Value = serde_json::from_str(line).ok()?;
        u16::try_from(entry.get("epoch")?.as_u64()?).ok()
    };
    Ok(text.lines().filter_map(epoch).max().unwrap_or(0))
}

fn audit(directory: &Path, adopted: &Adopted, order: &Order) -> Result<(), Failure> {
    let path = directory.join(AUDIT_FILE);
    let line = serde_json::json!({
        "at": order.at,
        "reason": order.reason,
        "recreated_slot": order.recreate_slot,
        "epoch": adopted.epoch,
        "last_position": adopted.from.map(|position| position.to_string()),
        "last_confirmed": adopted.told.map(|told| told.to_string()),
        "resumes_at": adopted.to.to_string(),
        "frames_kept": adopted.kept,
        "frames_lost": adopted.lost,
    });
    disk::append_line(&path, &line.to_string())?;
    Ok(())
}

#[cfg(test)]
mod tests {
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
    fn a_damaged_checkpoint_is_adopted_and_the_epoch_does_not_come_again() {
        let root = tempfile::tempdir().unwrap();
        let config = config(root.path());
        let wanted = Wanted {
            database: "lab".into(),
            slot: "s".into(),
            publication: "p".into(),
            source: "urn:forebay:lab".into(),
            never_written: false,
            epoch_least: 0,
        };
        let server = Server {
            system_id: "7".into(),
            timeline: 1,
            switches: Vec::new(),
            wal_end: Lsn::new(900),
            in_recovery: false,
            publication_exists: true,
        };
        let order = Order { reason: "x".into(), recreate_slot: None, at: 0 };
        let adopt = || -> u16 {
            let mut directory = Directory::open_to_adopt(&config).unwrap();
            let audited = audited_epoch(&config.buffer.dir).unwrap();
            let (next, adopted) = plan(&directory, &wanted, &server, (Lsn::new(500), audited, 0), &order);
            audit(&config.buffer.dir, &adopted, &order).unwrap();
            directory.file.write(&next).unwrap();
            adopted.epoch
        };
        assert_eq!((adopt(), adopt()), (1, 2));
        let checkpoint = config.buffer.dir.join("checkpoint");
        std::fs::write(&checkpoint, vec![0; 4 << 20]).unwrap();
        assert!(Directory::open(&config).is_err(), "a daemon does not go on");
        assert_eq!(adopt(), 3);
        assert_eq!(Directory::open(&config).unwrap().checkpoint.map(|found| found.epoch), Some(3));
    }
}
