//! Decides whether to start or to refuse. PostgreSQL's part is [`admit`]; the directory's part follows from
//! that (`pipeline::start::recover`). Does no I/O, and has a table of tests.

use crate::buffer::checkpoint::Checkpoint;
use crate::daemon::takeover;
use crate::failure::{Explain, Failure};
use crate::pipeline::start::recover::{self, LogRefusal, LogState, Start};
use crate::source::postgres::admit::{self, ReplicationSlot, Server, SourceRefusal, Wanted};

/// Why a start is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartRefusal {
    /// The source is the reason.
    #[error(transparent)]
    Source(#[from] SourceRefusal),
    /// The content of the directory is the reason.
    #[error(transparent)]
    Log(#[from] LogRefusal),
}

impl StartRefusal {
    /// Whether it may pass without the operator.
    pub const fn passes(&self) -> bool {
        matches!(self, Self::Source(refusal) if refusal.passes())
    }
}

impl Explain for StartRefusal {
    fn code(&self) -> Option<&'static str> {
        match self {
            Self::Source(refusal) => refusal.code(),
            Self::Log(refusal) => refusal.code(),
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::Source(refusal) => refusal.detail(),
            Self::Log(refusal) => refusal.detail(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Source(refusal) => refusal.hint(),
            Self::Log(refusal) => refusal.hint(),
        }
    }
}

impl From<StartRefusal> for Failure {
    fn from(refusal: StartRefusal) -> Self {
        match refusal {
            StartRefusal::Source(refusal) => refusal.into(),
            StartRefusal::Log(refusal) => refusal.into(),
        }
    }
}

/// Decides how a process starts. `checkpoint` and `log` are the state of the directory, `slot` and `server`
/// that of the database.
///
/// # Errors
/// A start could lose or reorder changes.
pub fn recover(
    wanted: &Wanted,
    checkpoint: Option<&Checkpoint>,
    log: &LogState,
    slot: Option<&ReplicationSlot>,
    server: &Server,
) -> Result<Start, StartRefusal> {
    let known = recover::known(checkpoint, log)?;
    if let Some(found) = &known
        && slot.is_some_and(|slot| found.ever_confirmed.seq() <= slot.confirmed)
        && found.ever_confirmed.seq() <= server.wal_end
        && takeover::begins_anew(wanted, Some(found))
    {
        admit::check_identity(wanted, &found.identity)?;
        let epoch_least = wanted.epoch_least.max(found.epoch);
        let wanted = Wanted { epoch_least, ..wanted.clone() };
        let admission = admit::judge(&wanted, None, slot, server)?;
        return Ok(recover::recover(None, log, admission, wanted.at)?);
    }
    let admission = admit::judge(wanted, known.as_ref(), slot, server)?;
    Ok(recover::recover(known, log, admission, wanted.at)?)
}

/// Decides whether a process may begin to publish durable changes while the database does not respond; `None`
/// if it must wait. When the database responds, [`admit`](admit::admit) decides.
///
/// # Errors
/// The directory belongs to another source or stream.
pub fn alone(
    wanted: &Wanted,
    checkpoint: Option<&Checkpoint>,
    log: &LogState,
) -> Result<Option<Start>, StartRefusal> {
    if let Some(found) = checkpoint {
        admit::check_identity(wanted, &found.identity)?;
    }
    Ok(recover::alone(checkpoint, log))
}

#[cfg(test)]
mod tests;
