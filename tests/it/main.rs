//! Integration tests: real Postgres, real Kinesis implementations, the built daemon.

mod postgres;
