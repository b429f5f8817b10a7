//! Integration tests: real Postgres, real Kinesis implementations, the built daemon.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    unreachable_pub,
    reason = "a failing test may panic, also in its helpers, and says what it sees"
)]

mod applications;
mod archive;
mod audit;
mod buffer;
mod catalog;
mod check;
mod client;
mod codegen;
mod configuration;
mod connections;
mod consumers;
mod contracts;
mod crash;
mod credentials;
mod disclosure;
mod disk;
mod dlq;
mod e2e;
mod encodings;
mod generated;
mod history;
mod hostile;
mod http;
mod init;
mod isolation;
mod json;
mod lanes;
mod mistakes;
mod model;
mod names;
mod outage;
mod outbox;
mod overload;
mod page;
mod personal;
mod polling;
mod postgres;
mod process;
mod readme;
mod refusals;
mod report;
mod rules;
mod samples;
mod scale;
mod sessions;
mod simulation;
mod soak;
mod sql;
mod status;
#[expect(dead_code, reason = "a workshop holds tools that no test uses today")]
mod support;
mod tables;
mod teardown;
mod tidy;
mod workshop;
