//! Events on their way from a change to the log: what is published, under which key.

use md5::{Digest as _, Md5};

/// First 64 bits of MD5(partition key), Kinesis's own hash. Two keys with one hash are treated as one key: they are only
/// ordered more strictly than needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub u64);

impl KeyHash {
    /// The hash of a partition key.
    pub fn of(partition_key: &str) -> Self {
        let digest: [u8; 16] = Md5::digest(partition_key).into();
        let high = u128::from_be_bytes(digest) >> 64;
        Self(u64::try_from(high).unwrap_or_default())
    }

    /// Which of the 256 equal ranges of the hash it falls into. A shard is a run of lanes.
    pub const fn lane(self) -> u8 {
        self.0.to_be_bytes()[0]
    }
}

/// What kind of record leaves for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// An event for the stream.
    Event,
    /// A dead letter: the change could not be translated. It goes to the dead-letter file when its turn comes.
    DeadLetter,
}

/// One record: an event (one CloudEvents line ending in `\n`) or a dead letter (one JSON line), under its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Event or dead letter.
    pub kind: RecordKind,
    /// Hash of the key.
    pub hash: KeyHash,
    /// Kinesis partition key, 1 to 256 characters.
    pub key: &'a str,
    /// The event's `type`; for the books.
    pub event_type: &'a str,
    /// What is sent, byte for byte.
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

/// All records of one change, in a buffer that is used again and again.
#[derive(Debug, Default)]
pub struct Records {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

impl Records {
    /// Forgets the records, keeps the memory (but not more than 1 MiB of it: one huge row must not stay for ever).
    pub fn clear(&mut self) {
        const KEEP: usize = 1 << 20;
        self.bytes.clear();
        self.bytes.shrink_to(KEEP);
        self.spans.clear();
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Bytes of all of them: types, keys and lines.
    pub const fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a record, whose line `write` appends to the buffer it is given. If `write` fails, nothing is added.
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
    fn the_lane_is_the_top_byte_of_md5() {
        // md5("a") = 0cc175b9c0f1b6a8…
        let hash = KeyHash::of("a");
        assert_eq!(hash, KeyHash(0x0cc1_75b9_c0f1_b6a8));
        assert_eq!(hash.lane(), 0x0c);
    }

    #[test]
    fn records_come_back_as_they_were_pushed_and_a_failed_one_leaves_no_trace() {
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
