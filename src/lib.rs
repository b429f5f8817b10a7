//! Forebay: change data capture from PostgreSQL to Amazon Kinesis, as versioned domain events.
//!
//! ```text
//!  postgres ──Change──▶ translate ──Records──▶ buffer ──batch──▶ kinesis
//!     ▲                                          │ ▲               │
//!     └────── confirm(Settled) ──────────────────┘ └─ checkpoint ◀─┘
//!     └────────────── ingest ────────────────────┘  └── publish ───┘
//! ```
//!
//! Two loops share one buffer and nothing else. These are the layers from the bottom up. A lower layer never
//! imports a higher one:
//!
//! - types and values: [`backoff`], [`position`], [`identity`], [`time`], [`types`], [`json`], [`change`],
//!   [`event`], [`letter_id`], [`failure`], [`diagnosis`], [`visible`], [`small_file`], [`config`], [`rules`]
//! - [`expression`]: the SQL subset of rules
//! - [`translate`]: row changes to events; [`buffer`]: the log and the checkpoint
//! - [`dead_letter`]: changes and events that cannot be published
//! - [`contracts`]: describes, locks and compares what is published, offline
//! - [`source`]: where changes come from; [`sink`]: where events go
//! - [`pipeline`]: the two loops, dead letters, status
//! - [`daemon`]: the process: PostgreSQL and Kinesis as the ends of a pipeline, recovery, start and stop
//! - [`observe`]: metrics and health; [`preview`]: the events that rows would make; [`audit`]: whether the
//!   database and the archive agree
//! - [`cli`]: one file per subcommand

pub mod audit;
pub mod backoff;
pub mod buffer;
pub mod change;
pub mod cli;
pub mod config;
pub mod contracts;
pub mod daemon;
pub mod dead_letter;
pub mod diagnosis;
pub mod event;
pub mod expression;
pub mod failure;
pub mod identity;
pub mod json;
pub mod letter_id;
pub mod observe;
pub mod pipeline;
pub mod position;
pub mod preview;
pub mod rules;
pub mod sink;
pub mod small_file;
pub mod source;
pub mod time;
pub mod translate;
pub mod types;
pub mod visible;
