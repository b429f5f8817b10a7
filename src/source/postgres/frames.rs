//! Cuts what the server sends into messages, in one buffer that grows no further than a row may be large.
//!
//! A `CopyData` message above the limit is never held: its first bytes are kept, the rest is thrown away as it arrives.

use std::ops::Range;

use bytes::BytesMut;

/// Tag and length.
const HEADER: usize = 5;
/// What is read at once: eight of the server's own send buffers.
const READ_SIZE: usize = 64 * 1024;
/// What is kept of a message above the limit: enough to name the table and to show how the row begins.
const KEPT_SIZE: usize = 64 * 1024;
/// Errors and notices above this are no errors and notices.
const CONTROL_SIZE_MAX: usize = 1 << 20;
/// A buffer that has grown beyond this for one large row is given back when it is empty.
const CAPACITY_KEPT: usize = 4 * READ_SIZE;
const COPY_DATA: u8 = b'd';

/// A message in the buffer. Its bytes stay where they are until the next call of [`Frames::next_frame`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The protocol's tag.
    pub tag: u8,
    /// Where its body is, for [`Frames::bytes`]. Of a message above the limit: the beginning.
    pub body: Range<usize>,
    /// Length of the whole body in bytes.
    pub size: u64,
}

impl Frame {
    /// Whether only the beginning of the body is there.
    pub fn is_cut(&self) -> bool {
        self.size > self.body.len() as u64
    }
}

/// The server broke the framing; the stream cannot be read further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message {:?} of {length} bytes", char::from(*tag))]
pub struct BadFrame {
    tag: u8,
    length: u32,
}

/// Received bytes, and how far they have been taken.
#[derive(Debug)]
pub struct Frames {
    buffer: BytesMut,
    /// Bytes at the beginning that belong to the message given last.
    taken: usize,
    /// Largest body of a `CopyData` message that is held whole.
    limit: usize,
    /// The message at the beginning is above the limit: the bytes of it that are still to be thrown away.
    skipping: Option<u64>,
}

impl Frames {
    /// With this limit for the body of a `CopyData` message, in bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::with_capacity(READ_SIZE),
            taken: 0,
            limit: limit.max(KEPT_SIZE),
            skipping: None,
        }
    }

    /// Space to read into. Call [`received`](Self::received) after something was added.
    pub fn space(&mut self) -> &mut BytesMut {
        self.give_back();
        if self.buffer.is_empty() && self.buffer.capacity() > CAPACITY_KEPT {
            self.buffer = BytesMut::new();
        }
        self.buffer.reserve(READ_SIZE);
        &mut self.buffer
    }

    /// Throws away what of the newly received bytes need not be held.
    pub fn received(&mut self) {
        let Some(left) = self.skipping.filter(|&left| left > 0) else { return };
        let kept = HEADER + KEPT_SIZE;
        let surplus = self.buffer.len().saturating_sub(kept);
        let thrown = usize::try_from(left).map_or(surplus, |left| left.min(surplus));
        self.buffer.copy_within_tail(kept, thrown);
        self.skipping = Some(left - thrown as u64);
    }

    /// The next whole message, if it has arrived.
    ///
    /// # Errors
    /// A length that the protocol does not allow.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, BadFrame> {
        self.give_back();
        let Some((tag, length)) = self.head() else { return Ok(None) };
        let size = length.checked_sub(4).ok_or(BadFrame { tag, length })?;
        let whole = size as usize;
        let held = if tag == COPY_DATA && whole > self.limit {
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
        if self.buffer.len() < HEADER + held {
            return Ok(None);
        }
        self.skipping = None;
        self.taken = HEADER + held;
        Ok(Some(Frame { tag, body: HEADER..HEADER + held, size: size.into() }))
    }

    /// Whether [`next_frame`](Self::next_frame) has something to give, or an error to report.
    pub fn is_ready(&mut self) -> bool {
        match self.next_frame() {
            Ok(None) => false,
            Ok(Some(frame)) => {
                // Put back. The bytes of a cut message are gone, so its emptiness is remembered.
                self.taken = 0;
                self.skipping = frame.is_cut().then_some(0);
                true
            }
            Err(_) => true,
        }
    }

    /// Bytes of the message given last.
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

/// Removing bytes from the middle, which `BytesMut` does not offer by itself.
trait CutOut {
    fn copy_within_tail(&mut self, at: usize, count: usize);
}

impl CutOut for BytesMut {
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

    /// Feeds `stream` in pieces and returns tag, size and kept bytes of each message, and the largest buffer seen.
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
    fn messages_come_out_whole_however_they_arrive() {
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
    fn of_a_message_above_the_limit_the_beginning_is_kept_and_the_next_message_is_found() {
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
