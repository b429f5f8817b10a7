//! More than a shard bears: the rate of each shard follows what it takes, the others do not wait for it, and nobody is
//! asked more often than he can answer.
//!
//! `OVERLOAD_SECONDS=n` overloads for longer, `SEED=n` repeats the choices.

mod daemon;
mod service;
mod simulation;
