//! Dead letters: records that could not be published, in one file of the buffer directory.
//!
//! [`entry`] is the only code that knows the JSON of a line; [`file`](mod@file) appends lines and
//! [`line_reader`] reads them; [`overview`] knows the state of every letter, [`index`] everything about some
//! of them; [`request`] passes the operator's decisions to the daemon.

pub mod entry;
pub mod file;
pub mod index;
pub mod line_reader;
pub mod overview;
pub mod request;

pub use self::file::{DeadLetterError, DeadLetterFile, FILE_NAME, line_at};
