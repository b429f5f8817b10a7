//! Forebay: change data capture from PostgreSQL to Amazon Kinesis, as versioned domain events.
//!
//! ```text
//!  postgres ──Change──▶ translate ──Records──▶ buffer ──batch──▶ kinesis
//!     ▲                                          │ ▲               │
//!     └────── confirm(Settled) ──────────────────┘ └─ checkpoint ◀─┘
//!     └────────────── ingest ────────────────────┘  └── publish ───┘
//! ```
//!
//! Two loops and one buffer between them; nothing else is shared. From the bottom up, where a lower floor never imports
//! a higher one:
//!
//! - nouns: [`position`], [`types`], [`change`], [`event`], [`failure`], [`rules`] (what the rule files say)
//! - [`translate`]: a row becomes events; [`buffer`]: the log and the checkpoint
//! - [`contracts`]: what is published, described, locked and compared: offline
//! - [`source`]: where changes come from; [`sink`]: where events go
//! - [`pipeline`]: the two loops, recovery, start and stop
//! - [`observe`]: metrics and health; [`preview`]: what rows would make; [`config`]; [`cli`]: one file per subcommand

pub mod buffer;
pub mod change;
pub mod cli;
pub mod config;
pub mod contracts;
pub mod event;
pub mod failure;
pub mod observe;
pub mod pipeline;
pub mod position;
pub mod preview;
pub mod rules;
pub mod sink;
pub mod source;
pub mod translate;
pub mod types;
