//! One frame: all records of one change. Does no I/O; [`log`](super::log) specifies the format.
//!
//! Decoding accepts any bytes: it never panics, and never trusts a length beyond the available bytes.

use bytes::Bytes;

use crate::event::{KeyHash, Origin, RecordKind, Records};
use crate::failure::{Explain, Failure};
use crate::position::{CommitSeq, FrameNo, Position, Transaction};

/// Length and checksum before the body, in bytes.
const PREFIX: usize = 8;
/// The body before its records, in bytes.
const HEAD: usize = 45;
/// A record before its type, key and line, in bytes.
const RECORD_HEAD: usize = Records::OVERHEAD;

/// Largest body of a frame in bytes. The records of one change have at most [`Records::LIMIT`]; earlier
/// releases wrote up to this. A larger length can only be damage.
pub const MAX_BODY: usize = 64 << 20;

/// Whether a frame holds a change of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// The records of a change. It moves the de-duplication tail.
    Change,
    /// Records that are not a change. Its position is that of the boundary where it was injected.
    Injected,
}

/// The head of a frame: everything except its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Its number.
    pub number: FrameNo,
    /// Change or injected.
    pub kind: FrameKind,
    /// Origin of its records.
    pub origin: Origin,
    /// Position of the change.
    pub position: Position,
    /// The transaction it belongs to.
    pub transaction: Transaction,
}

/// Why records cannot be encoded as a frame. The change is the cause, not the disk, and nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// All records of the change together are too large.
    #[error("the size of the records of the change at {position} exceeds the limit")]
    TooLarge {
        /// The change.
        position: Position,
        /// Bytes up to and including the record that exceeded the limit.
        size: usize,
    },
    /// More records than the count field can hold.
    #[error("the number of records of the change at {position} exceeds the limit")]
    TooMany {
        /// The change.
        position: Position,
        /// How many.
        count: usize,
    },
    /// An event type or a key is longer than its length field can hold.
    #[error("the length of a {what} of the change at {position} exceeds the limit")]
    TooLong {
        /// The change.
        position: Position,
        /// "type" or "key".
        what: &'static str,
        /// Its length in bytes.
        length: usize,
    },
}

impl Explain for FrameError {
    fn detail(&self) -> Option<String> {
        let (is, limit) = match self {
            Self::TooLarge { size, .. } => (size, MAX_BODY),
            Self::TooMany { count: is, .. } | Self::TooLong { length: is, .. } => (is, usize::from(u16::MAX)),
        };
        Some(format!("It is {is}. A frame holds at most {limit}."))
    }
}

impl From<FrameError> for Failure {
    fn from(error: FrameError) -> Self {
        // A retry would not help: the same change would produce the same records.
        Self::stop(error)
    }
}

/// Appends the frame to `out`. After an error, `out` is unchanged.
pub fn encode(out: &mut Vec<u8>, head: &FrameHead, records: &Records) -> Result<(), FrameError> {
    let start = out.len();
    let result = encode_body(out, start, head, records);
    if result.is_err() {
        out.truncate(start);
        return result;
    }
    let body = out.get(start + PREFIX..).unwrap_or_default();
    let length = u32::try_from(body.len()).expect("a body has at most MAX_BODY bytes");
    let checksum = crc32c::crc32c(body);
    if let Some(prefix) = out.get_mut(start..).and_then(<[u8]>::first_chunk_mut::<PREFIX>) {
        *prefix = (u64::from(checksum) << 32 | u64::from(length)).to_le_bytes();
    }
    Ok(())
}

fn encode_body(
    out: &mut Vec<u8>,
    start: usize,
    head: &FrameHead,
    records: &Records,
) -> Result<(), FrameError> {
    let FrameHead { number, position, transaction, .. } = *head;
    let count = records.len();
    let count = u16::try_from(count).map_err(|_| FrameError::TooMany { position, count })?;
    out.extend_from_slice(&[0; PREFIX]);
    out.extend_from_slice(&number.0.to_le_bytes());
    out.push(flags(head));
    out.extend_from_slice(&position.epoch.to_le_bytes());
    out.extend_from_slice(&position.commit.get().to_le_bytes());
    out.extend_from_slice(&position.index.to_le_bytes());
    out.extend_from_slice(&transaction.commit.get().to_le_bytes());
    out.extend_from_slice(&transaction.xid.to_le_bytes());
    out.extend_from_slice(&transaction.time.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    for record in records.iter() {
        let too_long = |what, length| FrameError::TooLong { position, what, length };
        let (event_type, key, line) = (record.event_type.as_bytes(), record.key.as_bytes(), record.line);
        let size = out.len() - start - PREFIX + RECORD_HEAD + event_type.len() + key.len() + line.len();
        if size > MAX_BODY {
            return Err(FrameError::TooLarge { position, size });
        }
        let type_length = u16::try_from(event_type.len()).map_err(|_| too_long("type", event_type.len()))?;
        let key_length = u16::try_from(key.len()).map_err(|_| too_long("key", key.len()))?;
        let line_length = u32::try_from(line.len()).map_err(|_| FrameError::TooLarge { position, size })?;
        out.push(match record.kind {
            RecordKind::Event => 0,
            RecordKind::DeadLetter => 1,
        });
        out.extend_from_slice(&record.hash.0.to_le_bytes());
        out.extend_from_slice(&type_length.to_le_bytes());
        out.extend_from_slice(&key_length.to_le_bytes());
        out.extend_from_slice(&line_length.to_le_bytes());
        out.extend_from_slice(event_type);
        out.extend_from_slice(key);
        out.extend_from_slice(line);
    }
    Ok(())
}

/// How keys are hashed: the first 64 bits of MD5, the only way so far.
const HASH_MD5: u8 = 0;

fn flags(head: &FrameHead) -> u8 {
    let kind = match head.kind {
        FrameKind::Change => 0,
        FrameKind::Injected => 1,
    };
    let origin = match head.origin {
        Origin::Live => 0,
        Origin::Backfill => 1,
        Origin::Replay => 2,
    };
    kind | origin << 2 | HASH_MD5 << 4
}

/// Version 1 has kinds only: the other bits are 0, which means live and MD5.
const fn take_flags(flags: u8) -> Option<(FrameKind, Origin)> {
    let kind = match flags & 3 {
        0 => FrameKind::Change,
        1 => FrameKind::Injected,
        _ => return None,
    };
    let origin = match flags >> 2 & 3 {
        0 => Origin::Live,
        1 => Origin::Backfill,
        2 => Origin::Replay,
        _ => return None,
    };
    if flags >> 4 == HASH_MD5 { Some((kind, origin)) } else { None }
}

/// The content at an offset of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A whole frame of `length` bytes, checksum right.
    Whole {
        /// Its head.
        head: FrameHead,
        /// Its length in bytes, prefix included.
        length: usize,
    },
    /// The beginning of a frame: decoding needs at least `needed` bytes in all.
    Incomplete {
        /// Bytes from the frame's beginning.
        needed: usize,
    },
    /// Not a frame, whatever bytes follow.
    Damaged(&'static str),
}

/// Decodes the frame that begins with the first byte.
pub fn decode(bytes: &[u8]) -> Decoded {
    let Some((length, rest)) = take_u32(bytes) else { return Decoded::Incomplete { needed: PREFIX } };
    let length = length as usize;
    if !(HEAD..=MAX_BODY).contains(&length) {
        return Decoded::Damaged("its length is impossible");
    }
    let needed = PREFIX + length;
    let Some((checksum, rest)) = take_u32(rest) else { return Decoded::Incomplete { needed } };
    let Some(body) = rest.get(..length) else { return Decoded::Incomplete { needed } };
    if crc32c::crc32c(body) != checksum {
        return Decoded::Damaged("its checksum is wrong");
    }
    match decode_head(body) {
        Some((head, count, records)) if is_well_formed(count, records) => {
            Decoded::Whole { head, length: needed }
        }
        Some(_) => Decoded::Damaged("its records are malformed"),
        None => Decoded::Damaged("its head is malformed"),
    }
}

/// The unchecked number of a frame that would begin here, to search for frames after damage.
pub(super) fn number_at(bytes: &[u8]) -> Option<u64> {
    take_u64(bytes.get(PREFIX..)?).map(|(number, _)| number)
}

fn decode_head(body: &[u8]) -> Option<(FrameHead, u16, &[u8])> {
    let (number, rest) = take_u64(body)?;
    let (flags, rest) = rest.split_first()?;
    let (kind, origin) = take_flags(*flags)?;
    let (epoch, rest) = take_u16(rest)?;
    let (commit, rest) = take_u64(rest)?;
    let (index, rest) = take_u32(rest)?;
    let (transaction, rest) = take_u64(rest)?;
    let (xid, rest) = take_u32(rest)?;
    let (time, rest) = take_u64(rest)?;
    let (count, rest) = take_u16(rest)?;
    let head = FrameHead {
        number: FrameNo(number),
        kind,
        origin,
        position: Position { epoch, commit: CommitSeq::new(commit), index },
        transaction: Transaction { commit: CommitSeq::new(transaction), xid, time: time.cast_signed() },
    };
    Some((head, count, rest))
}

/// Offsets of a record's parts in the buffer.
struct RecordParts<'a> {
    kind: RecordKind,
    hash: KeyHash,
    event_type: &'a [u8],
    key: &'a [u8],
    line: &'a [u8],
}

fn take_record(bytes: &[u8]) -> Option<(RecordParts<'_>, &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let kind = match kind {
        0 => RecordKind::Event,
        1 => RecordKind::DeadLetter,
        _ => return None,
    };
    let (hash, rest) = take_u64(rest)?;
    let (type_length, rest) = take_u16(rest)?;
    let (key_length, rest) = take_u16(rest)?;
    let (line_length, rest) = take_u32(rest)?;
    let (event_type, rest) = rest.split_at_checked(usize::from(type_length))?;
    let (key, rest) = rest.split_at_checked(usize::from(key_length))?;
    let (line, rest) = rest.split_at_checked(line_length as usize)?;
    Some((RecordParts { kind, hash: KeyHash(hash), event_type, key, line }, rest))
}

fn is_well_formed(count: u16, mut rest: &[u8]) -> bool {
    for _ in 0..count {
        let Some((record, after)) = take_record(rest) else { return false };
        if str::from_utf8(record.event_type).is_err() || str::from_utf8(record.key).is_err() {
            return false;
        }
        rest = after;
    }
    rest.is_empty()
}

fn take_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    bytes.split_first_chunk().map(|(value, rest)| (u16::from_le_bytes(*value), rest))
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    bytes.split_first_chunk().map(|(value, rest)| (u32::from_le_bytes(*value), rest))
}

fn take_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    bytes.split_first_chunk().map(|(value, rest)| (u64::from_le_bytes(*value), rest))
}

/// A whole frame in a shared buffer.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    head: FrameHead,
    count: u16,
    records: &'a [u8],
    owner: &'a Bytes,
    size: usize,
}

/// One record of a frame; key and line are slices of the buffer, without a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LentRecord<'a> {
    /// Event or dead letter.
    pub kind: RecordKind,
    /// Hash of the key.
    pub hash: KeyHash,
    /// The event's `type`.
    pub event_type: &'a str,
    /// Partition key, UTF-8.
    pub key: Bytes,
    /// The bytes to send.
    pub line: Bytes,
}

impl<'a> Frame<'a> {
    /// The frame at `offset` of `owner`, which [`decode`] has called whole, and the offset after it; `None`
    /// at the end.
    pub(super) fn at(owner: &'a Bytes, offset: usize) -> Option<(Self, usize)> {
        let (length, rest) = take_u32(owner.get(offset..)?)?;
        let (_, rest) = take_u32(rest)?;
        let body = rest.get(..length as usize)?;
        let (head, count, records) = decode_head(body)?;
        let size = PREFIX + body.len();
        Some((Self { head, count, records, owner, size }, offset + size))
    }

    /// Its header.
    pub const fn head(&self) -> &FrameHead {
        &self.head
    }

    /// Its bytes in the log.
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Number of its records.
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether it has no records, because the change yielded no event.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Its records in order.
    pub fn records(&self) -> impl Iterator<Item = LentRecord<'a>> + use<'a> {
        let owner = self.owner;
        let mut rest = self.records;
        (0..self.count).map_while(move |_| {
            let (record, after) = take_record(rest)?;
            rest = after;
            Some(LentRecord {
                kind: record.kind,
                hash: record.hash,
                event_type: str::from_utf8(record.event_type).ok()?,
                key: owner.slice_ref(record.key),
                line: owner.slice_ref(record.line),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(number: u64) -> FrameHead {
        FrameHead {
            origin: Origin::Replay,
            number: FrameNo(number),
            kind: FrameKind::Injected,
            position: Position { epoch: 7, commit: CommitSeq::new(0x16_B374_D848), index: 3 },
            transaction: Transaction { commit: CommitSeq::new(0x16_B374_D840), xid: 99, time: -5 },
        }
    }

    fn records(lines: &[(RecordKind, &str, &str, &[u8])]) -> Records {
        let mut records = Records::default();
        for (kind, event_type, key, line) in lines {
            let write = |out: &mut Vec<u8>| {
                out.extend_from_slice(line);
                Ok::<(), ()>(())
            };
            records.push(*kind, event_type, key, write).unwrap();
        }
        records
    }

    fn sample() -> (FrameHead, Records, Vec<u8>) {
        let records = records(&[
            (RecordKind::Event, "t.v1", "ключ", b"{\"a\":1}\n"),
            (RecordKind::DeadLetter, "", "k", b""),
        ]);
        let mut bytes = Vec::new();
        encode(&mut bytes, &head(5), &records).unwrap();
        (head(5), records, bytes)
    }

    #[test]
    fn frame_round_trips_without_copying() {
        let (head, records, bytes) = sample();
        let length = bytes.len();
        assert_eq!(decode(&bytes), Decoded::Whole { head, length });
        let owner = Bytes::from(bytes);
        let (frame, end) = Frame::at(&owner, 0).unwrap();
        assert_eq!(end, length);
        assert_eq!(*frame.head(), head);
        let read: Vec<_> = frame.records().collect();
        assert_eq!(read.len(), records.len());
        for (read, written) in read.iter().zip(records.iter()) {
            assert_eq!(
                (read.kind, read.hash, read.event_type),
                (written.kind, written.hash, written.event_type)
            );
            assert_eq!((&read.key[..], &read.line[..]), (written.key.as_bytes(), written.line));
        }
        assert!(owner.as_ptr_range().contains(&read[0].line.as_ptr()));
    }

    #[test]
    fn frame_prefix_is_incomplete() {
        let (.., bytes) = sample();
        for end in 0..bytes.len() {
            match decode(&bytes[..end]) {
                Decoded::Incomplete { needed } => assert!(needed > end && needed <= bytes.len()),
                other => panic!("{end} bytes: {other:?}"),
            }
        }
    }

    #[test]
    fn flipped_bit_is_never_read_as_frame() {
        let (.., bytes) = sample();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(decode(&bytes), Decoded::Whole { .. }), "bit {bit}");
        }
    }

    #[test]
    fn malformed_body_with_valid_checksum_is_damaged() {
        let (.., good) = sample();
        let body = &good[PREFIX..];
        let count_at = HEAD - 2;
        for (what, at, value) in [
            ("kind", 8, 2),
            ("one record more", count_at, 3),
            ("one less", count_at, 1),
            ("key", HEAD + 21, 0xFF),
        ] {
            let mut body = body.to_vec();
            body[at] = value;
            let mut bytes = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
            bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
            bytes.extend_from_slice(&body);
            assert!(matches!(decode(&bytes), Decoded::Damaged(_)), "{what}");
        }
    }

    #[test]
    fn zeroes_and_impossible_lengths_are_damaged() {
        for bytes in [vec![0; 100], vec![0xFF; 100], vec![44, 0, 0, 0], vec![1, 0, 0, 4]] {
            assert!(matches!(decode(&bytes), Decoded::Damaged(_)), "{:?}", &bytes[..4]);
        }
    }

    #[test]
    fn oversize_frame_is_rolled_back() {
        let long = "k".repeat(65_536);
        let large = vec![b'x'; MAX_BODY / 2];
        let many: Vec<_> = (0..65_536).map(|_| (RecordKind::Event, "", "", &b""[..])).collect();
        let cases = [
            records(&[(RecordKind::Event, "t", &long, b"")]),
            records(&[(RecordKind::Event, &long, "k", b"")]),
            records(&[(RecordKind::Event, "t", "k", &large), (RecordKind::Event, "t", "k", &large)]),
            records(&many),
        ];
        for records in cases {
            let mut out = b"before".to_vec();
            encode(&mut out, &head(1), &records).unwrap_err();
            assert_eq!(out, b"before");
        }
    }
}
