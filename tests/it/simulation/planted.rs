//! What the simulation does wrong on purpose, at the two ends: each must be found.

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The source lets its server discard what it has delivered, settled or not.
    ConfirmsWhatIsNotSettled,
    /// The destination acknowledges records, and stores them seconds later: newer ones of the key overtake.
    AcknowledgesBeforeStoring,
    /// The connector does not ask whether the server has the last transaction that was seen.
    IgnoresTheHistory,
    /// The connector does not say that a transaction must come again: what comes before it is published at once.
    PublishesUnproven,
}
