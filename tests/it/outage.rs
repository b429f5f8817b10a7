//! One of the ends goes away, refuses, or goes wrong under load: nothing is lost, nothing overtakes, and Postgres keeps no
//! more than it must.
//!
//! `OUTAGE_SECONDS=n` lets Kinesis be away for longer, `SEED=n` repeats the choices.

mod full;
mod kinesis;
mod order;
mod pack;
mod poison;
mod postgres;
mod refusals;
mod silence;
mod start;
mod states;
mod stop;
