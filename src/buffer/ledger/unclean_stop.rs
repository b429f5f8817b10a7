//! After an unclean stop: whether records beyond the last seen transaction may have been published.

use crate::position::CommitSeq;

/// How long something beyond `last_seen` may have been published by an earlier process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UncleanStop {
    /// It cannot have.
    None,
    /// Until the server is connected to.
    UntilConnected,
    /// Until this connection has delivered everything up to here, which the earlier process cannot have passed.
    UntilReceived(CommitSeq),
}
