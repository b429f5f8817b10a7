//! Positions in the history of a source: commit sequences, positions of changes, resume points, frame
//! numbers.
//!
//! [`Position`] is the identity, the order and the de-duplication of a change. Nothing here depends on the
//! kind of source, on a wire format or a disk.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A source's number for a commit, which orders its transactions: the LSN of the commit record with
/// replication, the horizon with polling. Printed in two halves, `16/B374D848`, like an LSN in PostgreSQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitSeq(u64);

impl CommitSeq {
    /// Before every commit.
    pub const ZERO: Self = Self(0);

    /// The commit with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The distance from `earlier` to here; 0 if `earlier` is not earlier. With replication, it is in bytes
    /// of WAL.
    pub const fn distance_from(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for CommitSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// The text is not of the form `16/B374D848`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of the form 16/B374D848")]
pub struct NotACommitSeq(String);

impl FromStr for CommitSeq {
    type Err = NotACommitSeq;

    fn from_str(text: &str) -> Result<Self, NotACommitSeq> {
        let halves = text.split_once('/').and_then(|(high, low)| {
            let well_formed = |half: &str| {
                (1..=8).contains(&half.len()) && half.bytes().all(|digit| digit.is_ascii_hexdigit())
            };
            if !well_formed(high) || !well_formed(low) {
                return None;
            }
            Some((u64::from_str_radix(high, 16).ok()?, u64::from_str_radix(low, 16).ok()?))
        });
        let (high, low) = halves.ok_or_else(|| NotACommitSeq(text.to_owned()))?;
        Ok(Self(high << 32 | low))
    }
}

impl Serialize for CommitSeq {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CommitSeq {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The position of a change in one source's history. It orders everything that Forebay does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Number of the history. `forebay adopt` begins a new one. Printed as four hex digits.
    pub epoch: u16,
    /// The transaction's commit.
    pub commit: CommitSeq,
    /// Index of the change in its transaction, counted over everything delivered, before translation.
    pub index: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.epoch, self.commit, self.index)
    }
}

/// A position up to which a source may remove its log, or from which it resumes. It is ordered, and opaque to
/// all but the source that created it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "StoredResumePoint", into = "StoredResumePoint")]
pub struct ResumePoint {
    seq: CommitSeq,
    /// A token that the source needs to resume, at most [`ResumePoint::TOKEN_MAX`] bytes. The checkpoint
    /// stores it.
    token: Option<Arc<str>>,
}

impl ResumePoint {
    /// Largest token in bytes.
    pub const TOKEN_MAX: usize = 4096;

    /// For a source that needs only the sequence.
    pub const fn at(seq: CommitSeq) -> Self {
        Self { seq, token: None }
    }

    /// For a source that also needs a token; `None` if it is longer than [`TOKEN_MAX`](Self::TOKEN_MAX).
    pub fn with_token(seq: CommitSeq, token: &str) -> Option<Self> {
        (token.len() <= Self::TOKEN_MAX).then(|| Self { seq, token: Some(token.into()) })
    }

    /// The sequence, which is compared first.
    pub const fn seq(&self) -> CommitSeq {
        self.seq
    }

    /// The source's token.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }
}

impl From<CommitSeq> for ResumePoint {
    fn from(seq: CommitSeq) -> Self {
        Self::at(seq)
    }
}

impl fmt::Display for ResumePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.seq.fmt(f)
    }
}

/// The form in the checkpoint: only the sequence if there is no token, as in format 1.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StoredResumePoint {
    Seq(CommitSeq),
    Token { seq: CommitSeq, token: Arc<str> },
}

impl From<StoredResumePoint> for ResumePoint {
    fn from(stored: StoredResumePoint) -> Self {
        match stored {
            StoredResumePoint::Seq(seq) => Self::at(seq),
            StoredResumePoint::Token { seq, token } => Self { seq, token: Some(token) },
        }
    }
}

impl From<ResumePoint> for StoredResumePoint {
    fn from(point: ResumePoint) -> Self {
        match point.token {
            None => Self::Seq(point.seq),
            Some(token) => Self::Token { seq: point.seq, token },
        }
    }
}

/// Number of a frame in the buffer's log. Frames are numbered from 1 without gaps; 0 means "before the
/// first".
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

/// Identifies a committed transaction, even among those with the same commit sequence in another history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Transaction {
    /// Its commit sequence.
    pub commit: CommitSeq,
    /// Transaction id, 32 bits as the source gives it.
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
    fn commit_sequence_reads_what_it_prints() {
        for (text, address) in [("0/0", 0), ("16/B374D848", 0x16_B374_D848), ("FFFFFFFF/FFFFFFFF", u64::MAX)]
        {
            assert_eq!(text.parse(), Ok(CommitSeq::new(address)));
            assert_eq!(CommitSeq::new(address).to_string(), text);
        }
    }

    #[test]
    fn malformed_commit_sequence_is_refused() {
        for text in ["", "/", "1", "1/", "/1", "1/G", "+1/2", "1/2/3", "123456789/0", " 1/2"] {
            assert!(text.parse::<CommitSeq>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn resume_point_without_token_is_stored_as_its_sequence() {
        let plain = ResumePoint::at(CommitSeq::new(7));
        assert_eq!(serde_json::to_string(&plain).unwrap(), "\"0/7\"");
        let token = ResumePoint::with_token(CommitSeq::new(7), "{\"h\":9}").unwrap();
        for point in [plain, token.clone()] {
            let text = serde_json::to_string(&point).unwrap();
            assert_eq!(serde_json::from_str::<ResumePoint>(&text).unwrap(), point);
        }
        assert!(token > ResumePoint::at(CommitSeq::new(7)) && token < ResumePoint::at(CommitSeq::new(8)));
        assert_eq!(ResumePoint::with_token(CommitSeq::ZERO, &"x".repeat(ResumePoint::TOKEN_MAX + 1)), None);
    }

    #[test]
    fn positions_sort_by_epoch_then_commit_then_index() {
        let at = |epoch, commit, index| Position { epoch, commit: CommitSeq::new(commit), index };
        let sorted = [at(0, 9, 9), at(1, 1, 5), at(1, 2, 0), at(1, 2, 1), at(2, 0, 0)];
        assert!(sorted.is_sorted());
    }
}
