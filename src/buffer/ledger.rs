//! Who stands where: received, held, published, settled.

use crate::position::Lsn;

/// Proof that everything received before this LSN is settled and that the checkpoint says so. Only the buffer makes one,
/// so that confirming too early does not compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    lsn: Lsn,
}

impl Settled {
    /// What may be confirmed.
    pub const fn lsn(&self) -> Lsn {
        self.lsn
    }
}
