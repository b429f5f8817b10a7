//! Integration tests: real Postgres, real Kinesis implementations, the built daemon.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a failing test may panic, and says why"
)]

mod model;
