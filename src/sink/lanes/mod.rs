//! The bounded window between the log and the requests: which records may be sent, which are in flight, and
//! which are finished.
//!
//! It does no I/O, and the time is a parameter. `pipeline::publish` drives it:
//!
//! ```text
//!  log ──admit──▶ window ──fill──▶ Request ──▶ destination ──settle──▶ window ──progress──▶ checkpoint
//!                   └──next_dead_letter──▶ dead-letter file ──finish──▶┘
//! ```
//!
//! A *lane* is a 256th of the hash of the partition key. It is divided into *sections* where a shard begins
//! or ends within it. Each section is served by one *reader*, which reads the log into a *window* of its own:
//!
//! ```text
//!  hash      0                                                           2^64
//!  shards    |         A         |     B     |              C              |
//!  lanes     |   0   |   1   |   2   |   3   |   4   |   5   |  …  |  255  |
//!  sections  |   0   |   1   | 2 |256|   3   |   4   |   5   |  …  |  255  |
//!  reader    |   0   |   0   | 0 | 1 |   1   |   0   |   0   |  …  |   0   |
//!
//!  log       …  71 72 73 74 75 76 77 78 79 80 81 82 83 84 85 86 87 88  …   frames
//!  reader 1       └── window ──┘                catches up: shard B is slow
//!  reader 0                               └──── window ────┘   the main: reads what is new
//! ```
//!
//! A window ends on the left at its reader's *watermark* and on the right at its *head*. Here the shards A
//! and B meet within lane 2, so it is divided into sections 2 and 256, and only the sections of B have left
//! the main reader. Usually the *main reader* is the only one. A *catch-up reader* serves sections that
//! cannot keep up, so that they delay only themselves, until it has caught up with the main reader.
//!
//! The work is shared between four parts, and [`Lanes`] connects them:
//!
//! - `Readers`: the readers, their windows, and which of them serves each section;
//! - `Dispatch`: which records may be sent and when, and what a result means for the service, a shard or a
//!   record;
//! - `Isolation`: which sections leave a reader, and when they return;
//! - `EventCounts`: outcomes of events, by type.
//!
//! PutRecords guarantees no order, and a partial failure lets later records overtake earlier ones. These
//! rules need no guarantee from the service, and hold over all readers together:
//!
//! 1. **At most one record of a key (by its 64-bit hash) is in flight.** Records of a key form a chain. Only
//!    the first one may be sent or quarantined; the next one becomes ready when the first is finished. A
//!    rejected record stays first, so it is retried before anything else of its key, while other keys
//!    continue. A record may contain several events, which are one link of the chain: see `pack`.
//! 2. **The watermark never passes an unfinished frame**, and a frame is finished when all of its records
//!    are.
//! 3. **Nothing is dropped.** A request without a response, or with the wrong number of results, is sent
//!    again.
//! 4. **Memory follows [`window_bytes`](Lanes::window_bytes)**: a reader with a full window reads nothing
//!    more.
//!
//! [`pacing`](super::pacing) describes when requests are sent, [`throttle`](super::throttle) when records are
//! retried.

mod audit;
mod begin;
mod control;
mod counts;
mod detaching;
mod dispatch;
mod divide;
mod facade;
mod finished;
mod former;
mod hot;
mod isolation;
mod load;
mod paced;
mod pack;
mod progress;
mod reader;
mod readers;
mod ready;
mod rejected_keys;
mod stuck;
mod suspects;
mod ticket;
mod types;
mod unacknowledged;
mod unpublished;
mod watch;
mod window;

pub use self::facade::Lanes;
pub use self::finished::Start;
pub use self::former::FormerCounts;
pub use self::hot::HotKey;
pub use self::progress::{Detail, Progress};
pub use self::ticket::{Request, Ticket};
pub use self::types::{
    Admission, Cause, Change, DeadLetter, DeadReason, FailedAlone, Frame, Lag, Outcome, ReaderId, Settlement,
    Violation,
};
pub use self::unpublished::{BeyondCounts, UnpublishedCounts};

#[cfg(test)]
mod tests;
