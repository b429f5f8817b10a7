//! Events between a change and the log, with their keys.

use std::hash::Hasher;

use md5::{Digest as _, Md5};

/// The first 64 bits of MD5(partition key), the hash that Kinesis uses. Keys with equal hashes are treated as
/// one key, which only makes their order stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub u64);

impl KeyHash {
    /// The hash of a partition key.
    pub fn of(partition_key: &str) -> Self {
        let digest: [u8; 16] = Md5::digest(partition_key).into();
        let high = u128::from_be_bytes(digest) >> 64;
        Self(u64::try_from(high).unwrap_or_default())
    }

    /// The lane: which of 256 equal ranges contains the hash.
    pub const fn lane(self) -> u8 {
        self.0.to_be_bytes()[0]
    }
}

/// For maps keyed by [`KeyHash`]: the bits of an MD5 are evenly distributed and need no further hashing.
#[derive(Clone, Copy, Debug, Default)]
pub struct PassthroughHasher(u64);

impl Hasher for PassthroughHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

/// The origin of a frame's records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// A change, as it was committed.
    #[default]
    Live,
    /// A row that existed before the first start.
    Backfill,
    /// An event that was published before and requested again.
    Replay,
}

/// The kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// An event for the stream.
    Event,
    /// A dead letter, because the change could not be translated. The publisher writes it to the dead-letter
    /// file in order.
    DeadLetter,
}

/// One record: an event (one CloudEvents line ending in `\n`) or a dead letter (one JSON line), under its
/// key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Event or dead letter.
    pub kind: RecordKind,
    /// Hash of the key.
    pub hash: KeyHash,
    /// Kinesis partition key, 1 to 256 characters.
    pub key: &'a str,
    /// The event's `type`, for the event counts.
    pub event_type: &'a str,
    /// The bytes to send.
    pub line: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
struct Span {
    kind: RecordKind,
    hash: KeyHash,
    type_end: usize,
    key_end: usize,
    line_end: usize,
}

/// All records of one change, in a reusable buffer.
#[derive(Debug)]
pub struct Records {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    /// Length of the longest event type or key, in bytes.
    longest_name: usize,
    limit: usize,
    /// Whether a record was left out because there was no space for it.
    overflowed: bool,
}

impl Default for Records {
    fn default() -> Self {
        Self::with_limit(Self::LIMIT)
    }
}

impl Records {
    /// Largest size of one change's records in bytes: three of the largest records, or the largest record and
    /// the dead letter of the largest row. They can be in memory three times: when they are created, written
    /// and read.
    pub const LIMIT: usize = 32 << 20;
    /// Overhead of a record in a frame, besides its type, key and line, in bytes.
    pub const OVERHEAD: usize = 17;

    /// Records that may take `limit` bytes in a frame. More can be added, but then [`fit`](Self::fit) returns
    /// false.
    pub const fn with_limit(limit: usize) -> Self {
        Self { bytes: Vec::new(), spans: Vec::new(), longest_name: 0, limit, overflowed: false }
    }

    /// The limit in bytes.
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// Whether one frame can hold the records: total bytes, their number, and the length of each type and
    /// key.
    pub const fn fit(&self) -> bool {
        const U16_MAX: usize = u16::MAX as usize;
        !self.overflowed
            && self.bytes.len() + self.spans.len() * Self::OVERHEAD <= self.limit
            && self.spans.len() <= U16_MAX
            && self.longest_name <= U16_MAX
    }

    /// Removes all records. Keeps up to 1 MiB of memory, so that one huge row does not hold memory forever.
    pub fn clear(&mut self) {
        const KEEP: usize = 1 << 20;
        self.bytes.clear();
        self.bytes.shrink_to(KEEP);
        self.spans.clear();
        self.longest_name = 0;
        self.overflowed = false;
    }

    /// Whether there is space for another line of this size. If not, it must not be added, and the records no
    /// longer [`fit`](Self::fit).
    pub const fn has_room(&mut self, line: usize) -> bool {
        self.overflowed |= self.bytes.len() + line > self.limit;
        !self.overflowed
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Total bytes of types, keys and lines.
    pub const fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a record whose line `write` appends to the buffer. If `write` fails, nothing is added.
    pub fn push<E>(
        &mut self,
        kind: RecordKind,
        event_type: &str,
        key: &str,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(event_type.as_bytes());
        let type_end = self.bytes.len();
        self.bytes.extend_from_slice(key.as_bytes());
        let key_end = self.bytes.len();
        if let Err(error) = write(&mut self.bytes) {
            self.bytes.truncate(start);
            return Err(error);
        }
        let line_end = self.bytes.len();
        self.longest_name = self.longest_name.max(event_type.len()).max(key.len());
        self.spans.push(Span { kind, hash: KeyHash::of(key), type_end, key_end, line_end });
        Ok(())
    }

    /// The records in order.
    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        let mut start = 0;
        self.spans.iter().map(move |span| {
            let text = |from, to| {
                let bytes = self.bytes.get(from..to).unwrap_or_default();
                std::str::from_utf8(bytes).unwrap_or_default()
            };
            let record = Record {
                kind: span.kind,
                hash: span.hash,
                event_type: text(start, span.type_end),
                key: text(span.type_end, span.key_end),
                line: self.bytes.get(span.key_end..span.line_end).unwrap_or_default(),
            };
            start = span.line_end;
            record
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lane_is_top_byte_of_md5() {
        // md5("a") = 0cc175b9c0f1b6a8…
        let hash = KeyHash::of("a");
        assert_eq!(hash, KeyHash(0x0cc1_75b9_c0f1_b6a8));
        assert_eq!(hash.lane(), 0x0c);
    }

    #[test]
    fn records_beyond_a_frame_do_not_fit() {
        let long = "x".repeat(usize::from(u16::MAX) + 1);
        let made = |limit, names: &[(&str, &str)]| {
            let mut records = Records::with_limit(limit);
            for (event_type, key) in names {
                records.push(RecordKind::Event, event_type, key, |_| Ok::<(), ()>(())).unwrap();
            }
            records
        };
        let size = "t".len() + "key".len() + Records::OVERHEAD;
        assert!(made(size, &[("t", "key")]).fit());
        assert!(!made(size - 1, &[("t", "key")]).fit());
        assert!(!made(Records::LIMIT, &[(&long, "key")]).fit());
        assert!(!made(Records::LIMIT, &[("t", &long)]).fit());
        let mut many = made(Records::LIMIT, &vec![("t", "key"); usize::from(u16::MAX) + 1]);
        assert!(!many.fit());
        many.clear();
        assert!(many.fit());
    }

    #[test]
    fn record_without_room_is_not_needed_to_see_that_all_do_not_fit() {
        let mut records = Records::with_limit(10);
        assert!(records.has_room(10) && records.fit());
        assert!(!records.has_room(11) && !records.fit() && !records.has_room(1));
        records.clear();
        assert!(records.has_room(10) && records.fit());
    }

    #[test]
    fn pushed_records_round_trip_and_failed_one_is_rolled_back() {
        let mut records = Records::default();
        let line = |text: &'static str| {
            move |out: &mut Vec<u8>| {
                out.extend_from_slice(text.as_bytes());
                Ok::<(), ()>(())
            }
        };
        records.push(RecordKind::Event, "t.v1", "k1", line("one\n")).unwrap();
        records
            .push(RecordKind::Event, "t.v1", "k2", |out| {
                out.push(b'x');
                Err(())
            })
            .unwrap_err();
        records.push(RecordKind::DeadLetter, "u.v1", "k3", line("two\n")).unwrap();
        let seen: Vec<_> = records.iter().map(|r| (r.kind, r.event_type, r.key, r.line)).collect();
        assert_eq!(
            seen,
            [
                (RecordKind::Event, "t.v1", "k1", b"one\n".as_slice()),
                (RecordKind::DeadLetter, "u.v1", "k3", b"two\n".as_slice()),
            ]
        );
    }
}
