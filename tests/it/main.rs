//! Integration tests: real Postgres, real Kinesis implementations, the built daemon.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test may panic")]

mod lanes;

mod json;
