//! Adoption of a polled source: the current server is right, whatever its history is.
//!
//! Transaction ids that were read may have been assigned again. So polling goes back, and the rows of the
//! last transactions are read again. Rows that were published before get the same ids. The operator chooses
//! how far it goes back.

use super::{AdoptError, Adopted, Order, audit, begin};
use crate::buffer::checkpoint::epoch_after;
use crate::config::Config;
use crate::daemon::audit::audited_epoch;
use crate::daemon::polled::PolledDatabase;
use crate::failure::Failure;
use crate::identity::SourceIdentity;
use crate::pipeline::start::{LockedDirectory, recover};
use crate::source::postgres::polling::page;
use crate::source::postgres::polling::progress::PollProgress;
use crate::source::postgres::polling::server::{PollRefusal, PolledServer};
use crate::source::postgres::session::Session;

/// Adopts the present server.
///
/// # Errors
/// Nothing was adopted.
pub(super) async fn adopt(
    config: &Config,
    database: &PolledDatabase,
    order: &Order,
) -> Result<Adopted, Failure> {
    let mut locked = LockedDirectory::open_to_adopt(config)?;
    let audited = audited_epoch(&locked.directory)?;
    epoch_after(audited.max(locked.known_epoch())).map_err(AdoptError::from)?;
    let mut session = Session::open(&database.settings).await?;
    let server = session.run(page::look).await?;
    server.check()?;
    let mut known = None;
    if let Some(found) = &locked.checkpoint {
        let SourceIdentity::Polling(identity) = &found.identity.source else {
            return Err(PollRefusal::OtherKind { known: found.identity.source.mode().to_owned() }.into());
        };
        if (&identity.system_id, &identity.database) == (&server.system_id, &server.database) {
            // A checkpoint that cannot be read gives no position.
            known = PollProgress::read(&found.ever_confirmed).ok();
        }
    }
    let progress = rewound(known, &server, order.rewind);
    let resume = progress.resume_point().ok_or_else(|| Failure::stop("the resume point is too long"))?;
    let lost = locked.salvage()?;
    let identity = recover::identity(SourceIdentity::Polling(server.identity()), database.name.clone());
    let least = audited.max(database.epoch_least.saturating_sub(1));
    let (checkpoint, adopted) = begin(&locked, identity, resume, (least, lost), order)?;
    audit(&locked.directory, &adopted, order)?;
    locked.file.write(&checkpoint)?;
    Ok(adopted)
}

/// Where polling continues: before what was read, and before running transactions. Ids of another cluster
/// have no meaning, so all rows are read.
fn rewound(known: Option<PollProgress>, server: &PolledServer, rewind: Option<u64>) -> PollProgress {
    let horizon = known.and_then(|known| {
        let back = known.horizon?.min(server.oldest_running).checked_sub(rewind?)?;
        // Lower ids are never assigned.
        (back > 3).then_some(back)
    });
    PollProgress::first(horizon)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adoption_goes_back_before_both_histories() {
        let server = PolledServer { oldest_running: 5_000, ..PolledServer::default() };
        for (known, rewind, expected) in [
            (Some(4_000), Some(1_000), Some(3_000)),
            (Some(9_000), Some(1_000), Some(4_000)),
            (Some(900), Some(1_000), None),
            (Some(4_000), None, None),
        ] {
            let known = Some(PollProgress::first(known));
            assert_eq!(rewound(known, &server, rewind).horizon, expected);
        }
        assert_eq!(rewound(None, &server, Some(1)).horizon, None);
        assert_eq!(rewound(Some(PollProgress::first(None)), &server, Some(1)).horizon, None);
    }
}
