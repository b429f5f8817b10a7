//! The stream below an SQL client: a connection that is already logged in, with a limit for the size of
//! results.
//!
//! `tokio-postgres` always logs in by itself. Its start-up message is discarded here, and the server's
//! messages of the actual log-in are replayed to it. `tokio-postgres` never receives the password.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::login::LoggedIn;
use super::socket::Socket;

/// `AuthenticationOk`.
const ADMITTED: [u8; 9] = *b"R\0\0\0\x08\0\0\0\0";
/// Most bytes of `ParameterStatus` messages during the life of a connection. A usual connection has 1 KiB.
const PARAMETERS_MAX: u64 = 1 << 20;
const PARAMETER_STATUS: u8 = b'S';
const READY_FOR_QUERY: u8 = b'Z';

/// A connection that is logged in.
#[derive(Debug)]
pub(super) struct SqlStream {
    socket: Socket,
    /// Messages still to be replayed. Writes before their end are the start-up message.
    greeting: BytesMut,
    /// Bytes received after the last message of the log-in.
    rest: BytesMut,
    meter: Meter,
}

impl SqlStream {
    /// A stream with at most `answer_max` bytes in the messages of one command.
    ///
    /// # Errors
    /// The bytes after the log-in exceed the limit.
    pub(super) fn new(logged_in: LoggedIn, answer_max: u64) -> io::Result<Self> {
        let mut greeting = BytesMut::from(&ADMITTED[..]);
        greeting.unsplit(logged_in.greeting);
        let rest = logged_in.frames.into_rest();
        let mut meter = Meter::new(answer_max);
        meter.count(&rest)?;
        Ok(Self { socket: logged_in.socket, greeting, rest, meter })
    }
}

impl AsyncRead for SqlStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        for kept in [&mut this.greeting, &mut this.rest] {
            if !kept.is_empty() {
                let size = kept.len().min(buf.remaining());
                buf.put_slice(&kept.split_to(size));
                return Poll::Ready(Ok(()));
            }
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
        Poll::Ready(this.meter.count(buf.filled().get(before..).unwrap_or_default()))
    }
}

impl AsyncWrite for SqlStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !this.greeting.is_empty() {
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut this.socket).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

/// Tracks the messages of a stream, and rejects an oversized one at its header.
#[derive(Debug)]
struct Meter {
    answer_max: u64,
    /// Received part of the current message's header: tag and length.
    header: [u8; 5],
    header_size: usize,
    /// Missing bytes of the current message's body.
    body_left: u64,
    /// Bytes since the last `ReadyForQuery`, including the whole current message.
    answer: u64,
    /// Bytes of all `ParameterStatus` messages.
    parameters: u64,
}

impl Meter {
    const fn new(answer_max: u64) -> Self {
        Self { answer_max, header: [0; 5], header_size: 0, body_left: 0, answer: 0, parameters: 0 }
    }

    fn count(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.body_left > 0 {
                let here = usize::try_from(self.body_left).map_or(bytes.len(), |left| left.min(bytes.len()));
                bytes.advance(here);
                self.body_left -= here as u64;
                continue;
            }
            let (Some(slot), Some(&byte)) = (self.header.get_mut(self.header_size), bytes.first()) else {
                return Ok(());
            };
            *slot = byte;
            bytes.advance(1);
            self.header_size += 1;
            if self.header_size == self.header.len() {
                self.header_size = 0;
                self.begin()?;
            }
        }
        Ok(())
    }

    fn begin(&mut self) -> io::Result<()> {
        let [tag, length @ ..] = self.header;
        let length = u32::from_be_bytes(length);
        let Some(body) = length.checked_sub(4) else {
            return Err(too_long(format!("a message {:?} of {length} bytes", char::from(tag))));
        };
        self.body_left = body.into();
        self.answer = if tag == READY_FOR_QUERY { 0 } else { self.answer + u64::from(length) + 1 };
        if self.answer > self.answer_max {
            let (answer, limit) = (self.answer, self.answer_max);
            return Err(too_long(format!("a result of {answer} bytes or more; the limit is {limit}")));
        }
        if tag == READY_FOR_QUERY && body != 1 {
            return Err(too_long(format!("a message 'Z' of {length} bytes")));
        }
        if tag == PARAMETER_STATUS {
            self.parameters += u64::from(length);
            if self.parameters > PARAMETERS_MAX {
                return Err(too_long(format!("parameters of more than {PARAMETERS_MAX} bytes")));
            }
        }
        Ok(())
    }
}

fn too_long(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[tag][..], &length.to_be_bytes(), body].concat()
    }

    /// The limit applies to one result, however its bytes arrive. `ReadyForQuery` ends it.
    #[test]
    fn answer_above_the_limit_is_refused() {
        let answer = [
            message(b'T', &[0; 20]),
            message(b'D', &[0; 60]),
            message(b'C', b"SELECT\0"),
            message(b'Z', b"I"),
        ]
        .concat();
        for piece in 1..20 {
            let mut meter = Meter::new(100 + 1 + 4 + 4);
            for _ in 0..3 {
                for bytes in answer.chunks(piece) {
                    meter.count(bytes).unwrap();
                }
            }
            assert_eq!(meter.answer, 0);
            meter.count(&message(b'D', &[0; 100])).unwrap();
            let error = meter.count(&message(b'D', b"")).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }

    /// The announced length decides, not the bytes that have arrived.
    #[test]
    fn endless_message_is_refused_at_its_header() {
        for header in [&b"D\x7f\xff\xff\xff"[..], b"N\x40\0\0\0", b"R\0\0\0\x03", b"Z\0\0\0\x06"] {
            assert!(Meter::new(1 << 20).count(header).is_err(), "{header:?}");
        }
    }

    #[test]
    fn endless_parameters_are_refused() {
        let mut meter = Meter::new(u64::MAX);
        let parameter = message(b'S', &[b'x'; 1000]);
        let accepted = (0..10_000).take_while(|_| meter.count(&parameter).is_ok()).count();
        assert_eq!(accepted as u64, PARAMETERS_MAX / 1004);
    }
}
