//! Splits the server's byte stream into messages, in one buffer that is bounded by the largest allowed row.
//!
//! A `CopyData` message above the limit is never buffered whole: its first bytes are kept, the rest is
//! discarded on arrival.

use std::ops::Range;

use bytes::BytesMut;

/// Tag and length.
const HEADER: usize = 5;
/// Size of a read in bytes: eight times the server's send buffer.
const READ_SIZE: usize = 64 * 1024;
/// Bytes that are kept of a message above the limit: enough to identify the table and to show the beginning
/// of the row.
pub(super) const KEPT_SIZE: usize = 64 * 1024;
/// Largest message other than `CopyData` in bytes. A larger one is a protocol violation.
const CONTROL_SIZE_MAX: usize = 1 << 20;
/// Largest message before the log-in in bytes. libpq accepts 2,000 for an authentication request and 30,000
/// for an error.
const LOG_IN_SIZE_MAX: usize = 32 * 1024;
/// Capacity in bytes above which an empty buffer is freed, after it has grown for a large row.
const CAPACITY_KEPT: usize = 4 * READ_SIZE;
const COPY_DATA: u8 = b'd';

/// A message in the buffer. Its bytes stay where they are until the next call of [`Frames::next_frame`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The protocol's tag.
    pub tag: u8,
    /// Range of its body, for [`Frames::bytes`]. For a message above the limit: the kept beginning.
    pub body: Range<usize>,
    /// Length of the whole body in bytes.
    pub size: u64,
}

impl Frame {
    /// Whether only the beginning of the body was kept.
    pub fn is_truncated(&self) -> bool {
        self.size > self.body.len() as u64
    }
}

/// An invalid message length. The rest of the stream cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message {:?} of {length} bytes", char::from(*tag))]
pub struct BadFrame {
    tag: u8,
    length: u32,
}

/// Received bytes, and how many of them were taken.
#[derive(Debug)]
pub struct Frames {
    buffer: BytesMut,
    /// Bytes at the beginning that belong to the last returned message.
    taken: usize,
    /// Largest body of a `CopyData` message that is buffered whole, in bytes.
    limit: usize,
    /// Whether the log-in is not complete: messages are limited to [`LOG_IN_SIZE_MAX`].
    before_log_in: bool,
    /// Bytes still to be discarded of the first message, if it is above the limit.
    skipping: Option<u64>,
}

impl Frames {
    /// A buffer with this limit in bytes for the body of a `CopyData` message.
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::with_capacity(READ_SIZE),
            taken: 0,
            limit: limit.max(KEPT_SIZE),
            before_log_in: false,
            skipping: None,
        }
    }

    /// A buffer for a log-in, which limits every message to the size that a log-in needs.
    pub fn for_log_in() -> Self {
        Self { before_log_in: true, ..Self::new(0) }
    }

    /// Ends the log-in, and sets the limit in bytes for the body of a `CopyData` message.
    pub fn end_log_in(&mut self, limit: usize) {
        self.before_log_in = false;
        self.limit = limit.max(KEPT_SIZE);
    }

    /// The tag of the next message; `None` before its first byte.
    pub fn tag(&mut self) -> Option<u8> {
        self.give_back();
        self.buffer.first().copied()
    }

    /// The bytes after the last returned message.
    pub fn into_rest(mut self) -> BytesMut {
        self.give_back();
        self.buffer
    }

    /// Space to read into. Call [`received`](Self::received) after each read.
    pub fn space(&mut self) -> &mut BytesMut {
        self.give_back();
        if self.buffer.is_empty() && self.buffer.capacity() > CAPACITY_KEPT {
            self.buffer = BytesMut::new();
        }
        self.buffer.reserve(READ_SIZE);
        &mut self.buffer
    }

    /// Discards received bytes of a message above the limit.
    pub fn received(&mut self) {
        let Some(left) = self.skipping.filter(|&left| left > 0) else { return };
        let kept = HEADER + KEPT_SIZE;
        let surplus = self.buffer.len().saturating_sub(kept);
        let thrown = usize::try_from(left).map_or(surplus, |left| left.min(surplus));
        self.buffer.copy_within_tail(kept, thrown);
        self.skipping = Some(left - thrown as u64);
    }

    /// The next message; `None` until it has arrived whole.
    ///
    /// # Errors
    /// A length that the protocol does not allow.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, BadFrame> {
        self.give_back();
        let Some((tag, length)) = self.head() else { return Ok(None) };
        let size = length.checked_sub(4).ok_or(BadFrame { tag, length })?;
        let whole = size as usize;
        if self.before_log_in && whole > LOG_IN_SIZE_MAX {
            return Err(BadFrame { tag, length });
        }
        let kept = if tag == COPY_DATA && whole > self.limit {
            if self.skipping.is_none() {
                self.skipping = Some((whole - KEPT_SIZE) as u64);
                self.received();
            }
            if self.skipping != Some(0) {
                return Ok(None);
            }
            KEPT_SIZE
        } else if tag != COPY_DATA && whole > CONTROL_SIZE_MAX {
            return Err(BadFrame { tag, length });
        } else {
            whole
        };
        if self.buffer.len() < HEADER + kept {
            return Ok(None);
        }
        self.skipping = None;
        self.taken = HEADER + kept;
        Ok(Some(Frame { tag, body: HEADER..HEADER + kept, size: size.into() }))
    }

    /// Whether [`next_frame`](Self::next_frame) would return a message or an error.
    pub fn is_ready(&mut self) -> bool {
        match self.next_frame() {
            Ok(None) => false,
            Ok(Some(frame)) => {
                // Puts the message back. The discarded bytes of a truncated message are gone, so none is left
                // to discard.
                self.taken = 0;
                self.skipping = frame.is_truncated().then_some(0);
                true
            }
            Err(_) => true,
        }
    }

    /// Bytes of the last returned message.
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.buffer.get(range).unwrap_or_default()
    }

    fn head(&self) -> Option<(u8, u32)> {
        let (&tag, rest) = self.buffer.split_first()?;
        let length = rest.first_chunk::<4>()?;
        Some((tag, u32::from_be_bytes(*length)))
    }

    fn give_back(&mut self) {
        bytes::Buf::advance(&mut self.buffer, self.taken);
        self.taken = 0;
    }
}

/// Removes bytes from the middle, which `BytesMut` does not support.
trait RemoveRange {
    fn copy_within_tail(&mut self, at: usize, count: usize);
}

impl RemoveRange for BytesMut {
    fn copy_within_tail(&mut self, at: usize, count: usize) {
        if count == 0 {
            return;
        }
        let length = self.len();
        self.copy_within(at + count..length, at);
        self.truncate(length - count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut message = vec![tag];
        message.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        message.extend(body);
        message
    }

    /// Feeds `stream` in pieces and returns tag, size and kept bytes of each message, and the largest buffer
    /// seen.
    fn feed(stream: &[u8], piece: usize, limit: usize) -> (Vec<(u8, u64, Vec<u8>)>, usize) {
        let mut frames = Frames::new(limit);
        let (mut seen, mut largest) = (Vec::new(), 0);
        for piece in stream.chunks(piece) {
            frames.space().extend_from_slice(piece);
            frames.received();
            largest = largest.max(frames.buffer.len());
            while frames.is_ready() {
                let frame = frames.next_frame().unwrap().unwrap();
                seen.push((frame.tag, frame.size, frames.bytes(frame.body).to_vec()));
            }
        }
        (seen, largest)
    }

    #[test]
    fn fragmented_messages_are_reassembled() {
        let bodies: Vec<Vec<u8>> = (0..40_u8).map(|n| vec![n; usize::from(n) * 37]).collect();
        let stream: Vec<u8> = bodies.iter().flat_map(|body| message(b'd', body)).collect();
        for piece in [1, 2, 5, 6, 4096, stream.len()] {
            let (seen, _) = feed(&stream, piece, 1 << 20);
            assert_eq!(seen.len(), bodies.len());
            for ((tag, size, bytes), body) in seen.iter().zip(&bodies) {
                assert_eq!((*tag, *size, bytes), (b'd', body.len() as u64, body), "piece {piece}");
            }
        }
    }

    #[test]
    fn oversize_message_is_skipped_and_its_head_kept() {
        let limit = 100_000;
        let large: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        let stream = [
            message(b'd', b"before"),
            message(b'd', &large),
            message(b'd', &large[..limit]),
            message(b'd', &large[..=limit]),
            message(b'd', b"after"),
        ]
        .concat();
        for piece in [1000, 8192, 65_536 + 5, 65_536] {
            let (seen, largest) = feed(&stream, piece, limit);
            let sizes: Vec<_> = seen.iter().map(|(_, size, bytes)| (*size, bytes.len())).collect();
            assert_eq!(
                sizes,
                [(6, 6), (1_000_000, KEPT_SIZE), (100_000, limit), (100_001, KEPT_SIZE), (5, 5)],
                "piece {piece}"
            );
            assert_eq!(seen[1].2, large[..KEPT_SIZE]);
            assert_eq!(seen[4].2, b"after");
            assert!(largest <= limit + 2 * piece + HEADER, "{largest}");
        }
    }

    /// A server that has not completed the log-in cannot make us buffer more than a log-in needs.
    #[test]
    fn long_message_before_log_in_is_refused() {
        for tag in [b'R', b'E', b'N', b'd', b'D'] {
            let mut frames = Frames::for_log_in();
            frames.space().extend_from_slice(&message(tag, &vec![0; LOG_IN_SIZE_MAX]));
            frames.received();
            assert!(frames.next_frame().unwrap().is_some());
            let length = u32::try_from(LOG_IN_SIZE_MAX + 5).unwrap();
            frames.space().extend_from_slice(&[&[tag][..], &length.to_be_bytes()].concat());
            assert_eq!(frames.next_frame(), Err(BadFrame { tag, length }));
            frames.end_log_in(1 << 20);
            assert_eq!(frames.next_frame(), Ok(None), "the log-in is over");
        }
    }

    #[test]
    fn impossible_lengths_are_errors() {
        for (tag, length) in [(b'd', 3_u32), (b'd', 0), (b'E', 1 << 21), (b'N', u32::MAX)] {
            let mut frames = Frames::new(1 << 20);
            frames.space().extend_from_slice(&[tag]);
            frames.space().extend_from_slice(&length.to_be_bytes());
            assert!(frames.is_ready());
            assert_eq!(frames.next_frame(), Err(BadFrame { tag, length }));
        }
    }
}
