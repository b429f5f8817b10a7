//! Faults that can be planted, each a way in which changes get lost, or a start is refused for nothing.

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    ConfirmBeforeTheCheckpoint,
    ToldNotRaised,
    ReleaseBeforeTheCheckpoint,
    LanesBeyondTheCut,
    FoundTailIsHeld,
    DedupeByLsn,
    ReaderOutlivesItsAttempt,
    LowBeforeAcceptance,
    TipIgnored,
    StagedNotInTip,
    OldEpochInTip,
    StaleTimeline,
    PromotionUnnoticed,
    ConfirmOnAnyConnection,
    KeepaliveInsideCounts,
    PublishesUnproven,
}
