//! State after an unclean stop: whether records beyond the last seen transaction may have been published.

use crate::position::CommitSeq;

/// How long an earlier process may have published records beyond `last_seen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UncleanStop {
    /// It has not.
    None,
    /// Until a connection to the server shows how far its log reaches.
    UntilConnected,
    /// Until this connection has delivered everything up to this position. The earlier process cannot have
    /// received more.
    UntilReceived(CommitSeq),
}
