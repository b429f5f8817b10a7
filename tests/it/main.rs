//! Integration tests: real Postgres, real Kinesis implementations, the built daemon.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test may panic")]

mod lanes;

mod json;

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a failing test may panic, also in its helpers, and its numbers are small"
)]

mod buffer;
