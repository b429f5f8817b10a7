//! Converts messages of a server that is not UTF-8 to UTF-8, before they are decoded. Does no I/O.
//!
//! A message without text to convert stays in its buffer. Malformed messages are left to the decoder, which
//! rejects them.

use std::ops::Range;

use super::connection::Connection;
use super::encoding::Encoding;
use super::frames::KEPT_SIZE;

/// Capacity in bytes above which the buffer is freed after a large message.
const CAPACITY_KEPT: usize = 1 << 20;

/// Where the bytes of a message are.
#[derive(Clone, Debug)]
pub enum Place {
    /// In the receive buffer.
    Received(Range<usize>),
    /// In the transcoder.
    Transcoded,
}

impl Place {
    /// Its bytes.
    pub fn message<'a>(&self, connection: &'a Connection, transcoder: Option<&'a Transcoder>) -> &'a [u8] {
        match self {
            Self::Received(range) => connection.bytes(range.clone()),
            Self::Transcoded => transcoder.map_or(&[], Transcoder::message),
        }
    }
}

/// The result for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transcoded {
    /// It is unchanged.
    Same,
    /// It is in [`Transcoder::message`].
    Changed,
    /// In UTF-8 it would exceed the limit: it has at least this many bytes.
    TooLarge(u64),
}

/// Converts the messages of one connection.
#[derive(Debug)]
pub struct Transcoder {
    encoding: Encoding,
    /// Largest message in bytes.
    limit: usize,
    message: Vec<u8>,
}

impl Transcoder {
    /// For text in this encoding. Converted messages have at most `limit` bytes.
    pub const fn new(encoding: Encoding, limit: usize) -> Self {
        Self { encoding, limit, message: Vec::new() }
    }

    /// The last converted message.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// Converts a whole message that was received at `received`. Returns where it is afterwards, and its
    /// size. If it is too large, only its beginning stays where it is.
    pub fn take_over(&mut self, message: &[u8], received: Range<usize>) -> (Place, u64) {
        match self.transcode(message) {
            Transcoded::Same => (Place::Received(received), message.len() as u64),
            Transcoded::Changed => (Place::Transcoded, self.message.len() as u64),
            Transcoded::TooLarge(least) => {
                let end = received.end.min(received.start + KEPT_SIZE);
                (Place::Received(received.start..end), least)
            }
        }
    }

    /// Converts a whole message.
    pub fn transcode(&mut self, message: &[u8]) -> Transcoded {
        self.message.clear();
        if self.message.capacity() > CAPACITY_KEPT {
            self.message = Vec::new();
        }
        let out = std::mem::take(&mut self.message);
        let mut rewrite =
            Rewrite { encoding: &self.encoding, limit: self.limit, message, at: 0, copied: 0, out };
        let read = rewrite.message();
        let Rewrite { copied, mut out, .. } = rewrite;
        let rest = message.get(copied..).unwrap_or_default();
        let size = out.len() + rest.len();
        let outcome = match read {
            None if out.len() > self.limit => Transcoded::TooLarge(size as u64),
            _ if copied == 0 => Transcoded::Same,
            _ if size > self.limit => Transcoded::TooLarge(size as u64),
            _ => {
                out.extend_from_slice(rest);
                Transcoded::Changed
            }
        };
        self.message = out;
        outcome
    }
}

/// A message that is being read, and its copy as far as text was converted.
struct Rewrite<'a> {
    encoding: &'a Encoding,
    limit: usize,
    message: &'a [u8],
    at: usize,
    /// Bytes of the message that are in `out`, converted or not.
    copied: usize,
    out: Vec<u8>,
}

impl<'a> Rewrite<'a> {
    /// Converts the message; `None` if it is malformed or too large.
    fn message(&mut self) -> Option<()> {
        match self.u8()? {
            b'I' | b'U' | b'D' if self.encoding.converts_values() => self.row(),
            b'R' => self.relation(),
            b'M' => {
                self.skip(1 + 8)?;
                self.name()
            }
            _ => Some(()),
        }
    }

    fn row(&mut self) -> Option<()> {
        self.skip(4)?;
        while self.at < self.message.len() {
            self.skip(1)?;
            for _ in 0..self.u16()? {
                if self.u8()? == b't' {
                    self.value()?;
                }
            }
        }
        Some(())
    }

    fn relation(&mut self) -> Option<()> {
        self.skip(4)?;
        self.name()?;
        self.name()?;
        self.skip(1)?;
        for _ in 0..self.u16()? {
            self.skip(1)?;
            self.name()?;
            self.skip(4 + 4)?;
        }
        Some(())
    }

    /// Converts a value: a length, and that many bytes of text.
    fn value(&mut self) -> Option<()> {
        let before = self.at;
        let length = self.skip(4)?.try_into().ok().map(u32::from_be_bytes)?;
        let text = self.skip(usize::try_from(length).ok()?)?;
        if text.is_ascii() {
            return Some(());
        }
        self.out.extend_from_slice(self.message.get(self.copied..before)?);
        let start = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        self.encoding.convert(text, &mut self.out, self.limit);
        let length = u32::try_from(self.out.len() - start - 4).ok()?;
        self.out.get_mut(start..start + 4)?.copy_from_slice(&length.to_be_bytes());
        self.copied = self.at;
        (self.out.len() <= self.limit).then_some(())
    }

    /// Converts a text that ends with a zero byte.
    fn name(&mut self) -> Option<()> {
        let before = self.at;
        let length = self.message.get(before..)?.iter().position(|byte| *byte == 0)?;
        let text = self.skip(length)?;
        self.skip(1)?;
        let name = self.encoding.name(text);
        if name.as_bytes() != text {
            self.out.extend_from_slice(self.message.get(self.copied..before)?);
            self.out.extend_from_slice(name.as_bytes());
            self.copied = before + length;
        }
        Some(())
    }

    fn skip(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let skipped = self.message.get(self.at..end)?;
        self.at = end;
        Some(skipped)
    }

    fn u8(&mut self) -> Option<u8> {
        self.skip(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        self.skip(2)?.try_into().ok().map(u16::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::pgoutput::{Cells, Message, decode, logical_of};
    use super::*;
    use crate::change::{Tuple, Value};

    fn transcoder(encoding: &str) -> Transcoder {
        Transcoder::new(Encoding::named(encoding).unwrap(), 1000)
    }

    #[test]
    fn row_with_foreign_text_is_rewritten() {
        let update = b"U\0\0\0\x07O\0\x02nt\0\0\0\x02\xe9xN\0\x03t\0\0\0\x01at\0\0\0\x03b\xfc\xe4u";
        let mut latin = transcoder("LATIN1");
        assert_eq!(latin.transcode(update), Transcoded::Changed);
        let mut cells = Cells::default();
        assert!(matches!(decode(latin.message(), &mut cells), Ok(Message::Update { relation: 7, .. })));
        let (old, new) = (Tuple::new(latin.message(), &cells.old), Tuple::new(latin.message(), &cells.new));
        assert_eq!((old.get(0), old.get(1)), (Value::Null, Value::Text("éx".as_bytes())));
        assert_eq!(new.get(0), Value::Text(b"a"));
        assert_eq!(new.get(1), Value::Text("büä".as_bytes()));
        assert_eq!(new.get(2), Value::Unavailable);
        assert_eq!(latin.transcode(b"I\xff\xff\xff\xffN\0\x01t\0\0\0\x01a"), Transcoded::Same, "all ASCII");
        assert_eq!(transcoder("SQL_ASCII").transcode(update), Transcoded::Same, "values are not text");
    }

    #[test]
    fn names_and_prefixes_are_rewritten() {
        let relation = b"R\0\0\0\x07\xfc\0t\0d\0\x02\x01id\0\0\0\0\x17\xff\xff\xff\xff\0\xe4\0\0\0\0\x19\xff\xff\xff\xff";
        let mut bytes = transcoder("SQL_ASCII");
        assert_eq!(bytes.transcode(relation), Transcoded::Changed);
        let Ok(Message::Relation(found)) = decode(bytes.message(), &mut Cells::default()) else {
            panic!("a table")
        };
        assert_eq!((found.schema.as_str(), found.table.as_str()), ("\\xfc", "t"));
        assert_eq!(
            found.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(),
            ["id", "\\xe4"]
        );
        let mut latin = transcoder("LATIN1");
        assert_eq!(latin.transcode(b"M\x01\0\0\0\0\0\0\0\x07\xe9:\0\0\0\0\x01\xff"), Transcoded::Changed);
        assert_eq!(logical_of(latin.message()), Some(("é:".as_bytes(), &b"\xff"[..])));
    }

    #[test]
    fn malformed_or_grown_message_is_left_to_others() {
        let mut latin = transcoder("LATIN1");
        for torn in [&b""[..], b"I", b"I\0\0\0\x07N\0\x02t\0\0\0\x09\xe9", b"R\0\0\0\x07\xfc", b"X\xff"] {
            assert_eq!(latin.transcode(torn), Transcoded::Same, "{torn:?}");
        }
        let row = |text: &[u8]| {
            let length = u32::try_from(text.len()).unwrap().to_be_bytes();
            [b"I\0\0\0\x07N\0\x01t", &length[..], text].concat()
        };
        assert_eq!(latin.transcode(&row(&[0xe9; 490])), Transcoded::Changed);
        assert!(latin.message().len() <= 1000);
        let Transcoded::TooLarge(size) = latin.transcode(&row(&[0xe9; 600])) else {
            panic!("above the limit")
        };
        assert!(size > 1000);
    }
}
