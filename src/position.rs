//! Where a change stands in the history of its database: log sequence numbers, positions, frame numbers.
//!
//! [`Position`] is the identity, the order and the de-duplication of a change. Nothing here knows of a wire or a disk.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A PostgreSQL log sequence number: a byte address in the write-ahead log. Printed as Postgres does, `16/B374D848`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

impl Lsn {
    /// Postgres's "invalid" LSN: no record starts there.
    pub const ZERO: Self = Self(0);

    /// The LSN at a byte address.
    pub const fn new(address: u64) -> Self {
        Self(address)
    }

    /// The byte address.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Bytes of write-ahead log from `earlier` to here; 0 if `earlier` is not earlier.
    pub const fn bytes_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// The text is not an LSN of the form `16/B374D848`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a log sequence number of the form 16/B374D848")]
pub struct NotAnLsn(String);

impl FromStr for Lsn {
    type Err = NotAnLsn;

    fn from_str(text: &str) -> Result<Self, NotAnLsn> {
        let halves = text.split_once('/').and_then(|(high, low)| {
            let well_formed = |half: &str| {
                (1..=8).contains(&half.len()) && half.bytes().all(|digit| digit.is_ascii_hexdigit())
            };
            if !well_formed(high) || !well_formed(low) {
                return None;
            }
            Some((u64::from_str_radix(high, 16).ok()?, u64::from_str_radix(low, 16).ok()?))
        });
        let (high, low) = halves.ok_or_else(|| NotAnLsn(text.to_owned()))?;
        Ok(Self(high << 32 | low))
    }
}

impl Serialize for Lsn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The place of a change in one source's history; the order of everything Forebay does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Counts the histories: `forebay adopt` begins a new one. Printed in four hex digits.
    pub epoch: u16,
    /// LSN of the transaction's commit record.
    pub commit: Lsn,
    /// Ordinal of the change in its transaction, counted over everything delivered, before translation.
    pub index: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.epoch, self.commit, self.index)
    }
}

/// Number of a frame in the buffer's log. Frames are numbered from 1 without gaps; 0 means "before the first".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FrameNo(pub u64);

impl FrameNo {
    /// The frame after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for FrameNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What tells one committed transaction from every other, also from one that uses the same LSN in another history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Transaction {
    /// LSN of the commit record.
    pub commit: Lsn,
    /// Transaction id, 32 bits as the protocol sends it.
    pub xid: u32,
    /// Commit time, microseconds since the Unix epoch.
    pub time: i64,
}

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "transaction {} committed at {}", self.xid, self.commit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_lsn_reads_what_it_prints() {
        for (text, address) in [("0/0", 0), ("16/B374D848", 0x16_B374_D848), ("FFFFFFFF/FFFFFFFF", u64::MAX)]
        {
            assert_eq!(text.parse(), Ok(Lsn::new(address)));
            assert_eq!(Lsn::new(address).to_string(), text);
        }
    }

    #[test]
    fn what_is_not_an_lsn_is_refused() {
        for text in ["", "/", "1", "1/", "/1", "1/G", "+1/2", "1/2/3", "123456789/0", " 1/2"] {
            assert!(text.parse::<Lsn>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn positions_sort_by_epoch_then_commit_then_index() {
        let at = |epoch, commit, index| Position { epoch, commit: Lsn::new(commit), index };
        let sorted = [at(0, 9, 9), at(1, 1, 5), at(1, 2, 0), at(1, 2, 1), at(2, 0, 0)];
        assert!(sorted.is_sorted());
    }
}
