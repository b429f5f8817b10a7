//! Rules tried before they are used: fixtures, which need no server, and a preview of what rows of a real database would make.
//!
//! Both make real changes and give them to the real [`Translator`](crate::translate::Translator): what they show is what the
//! daemon would publish. Neither touches the slot, the stream or the buffer.

mod compare;
mod document;
mod fixture;
mod live;
mod newest;
pub mod preview;
mod row;
mod suite;
mod tables;
mod types;

pub use self::suite::{Report, test};
