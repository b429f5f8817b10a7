//! Fixtures: rules tested without a server. Rows of text become changes for the real
//! [`Translator`](crate::translate::Translator), so that a test makes the same events as the daemon.

mod compare;
mod document;
mod fixture;
mod row;
mod suite;
mod tables;
mod types;

pub use self::fixture::On;
pub use self::row::{OwnedChange, Values};
pub use self::suite::{FixtureReport, HMAC_KEY, test};
