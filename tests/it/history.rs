//! Databases, slots and directories that contradict each other: refused with a reason and a way out, never skipped; and
//! after `forebay adopt` everything of the new history is published.

mod damage;
mod identity;
mod publication;
mod restored;
mod slot;
mod standby;
mod unsendable;
