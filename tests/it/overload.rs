//! More than a shard bears: the rate of each shard follows what it takes, the others do not wait for it, and nobody is
//! asked more often than he can answer.
//!
//! `OVERLOAD_SECONDS=n` overloads for longer, `SEED=n` repeats the choices.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts of a test are small and not negative"
)]

mod daemon;
mod service;
mod simulation;
