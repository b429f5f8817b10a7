//! The built daemon from end to end: each Kinesis that nobody here wrote, each Postgres, each operation, and its memory.

mod implementations;
mod memory;
mod operations;
mod shape;
