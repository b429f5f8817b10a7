//! Rules tried before they are used: fixtures, which need no server. Rows of text become real changes, and go to the real
//! [`Translator`](crate::translate::Translator): what they make is what the daemon would publish.

mod compare;
mod document;
mod fixture;
mod row;
mod suite;
mod tables;
mod types;

pub use self::fixture::On;
pub use self::row::{Made, Values};
pub use self::suite::{HMAC_KEY, Report, test};
