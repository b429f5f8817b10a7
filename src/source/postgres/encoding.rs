//! Converts text of databases that are not UTF-8, exactly as the server itself would convert it to UTF-8.
//!
//! The tables are the server's own, for every encoding that a database can have, except `MULE_INTERNAL`, from
//! which the server has no conversion to UTF-8 either. `encoding_rs` follows the WHATWG standard instead: it
//! reads LATIN1 as windows-1252, and accepts bytes that PostgreSQL rejects. A test compares every sequence
//! with real servers.
//!
//! Bytes without a character never stop the stream. In a value they are marked with a byte that is invalid in
//! UTF-8, so that only a use of the value fails. In a name they are escaped.

use std::collections::HashMap;
use std::fmt::Write as _;

/// Precedes bytes without a character in a converted value. No UTF-8 text contains it.
const MARK: u8 = 0xFF;
/// Entry of a table without a character.
const UNMAPPED: char = char::REPLACEMENT_CHARACTER;
/// The first byte that is not ASCII.
const HIGH: u8 = 0x80;
/// Lowest last byte of a multi-byte sequence.
const TRAIL_MIN: u8 = 0xA1;
/// Each introduces a character of another set than the usual one.
const SINGLE_SHIFT: [u8; 2] = [0x8E, 0x8F];

/// How a server stores text.
#[derive(Clone, Debug)]
pub enum Encoding {
    /// `UTF8`: nothing to convert, and the server has verified it.
    Utf8,
    /// `SQL_ASCII`: any bytes. They are read as UTF-8.
    Bytes,
    /// The characters from 0x80 on.
    SingleByte(Vec<char>),
    /// An Extended Unix Code (EUC).
    Euc(Euc),
}

/// An encoding with characters of two to four bytes.
#[derive(Clone, Debug)]
pub struct Euc {
    /// By all bytes but the last, as a number: the characters for last bytes from [`TRAIL_MIN`] on.
    rows: HashMap<u32, Vec<char>>,
    /// Sequences that convert to two characters.
    pairs: HashMap<u32, &'static str>,
    /// Length in bytes of a sequence that begins with the first [`SINGLE_SHIFT`].
    shifted: usize,
}

impl Encoding {
    /// The encoding with this name in PostgreSQL (`server_encoding`); `None` if it is unknown.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "UTF8" => Self::Utf8,
            "SQL_ASCII" => Self::Bytes,
            "EUC_JP" => Self::Euc(Euc::read(include_str!("encoding/euc_jp.txt"), 2)),
            "EUC_JIS_2004" => Self::Euc(Euc::read(include_str!("encoding/euc_jis_2004.txt"), 2)),
            "EUC_CN" => Self::Euc(Euc::read(include_str!("encoding/euc_cn.txt"), 2)),
            "EUC_KR" => Self::Euc(Euc::read(include_str!("encoding/euc_kr.txt"), 2)),
            "EUC_TW" => Self::Euc(Euc::read(include_str!("encoding/euc_tw.txt"), 4)),
            _ => Self::SingleByte(single_byte(name)?),
        })
    }

    /// Whether row values must be converted.
    pub const fn converts_values(&self) -> bool {
        matches!(self, Self::SingleByte(_) | Self::Euc(_))
    }

    /// Appends `text` in UTF-8, with `MARK` before each sequence without a character. Stops soon after `out`
    /// has more than `max` bytes.
    pub fn convert(&self, text: &[u8], out: &mut Vec<u8>, max: usize) {
        self.each(text, |bytes, character| {
            match character {
                Some(text) => out.extend_from_slice(text.as_bytes()),
                None => out.extend([&[MARK], bytes].concat()),
            }
            out.len() <= max
        });
    }

    /// Converts a name to UTF-8. Each byte without a character becomes `\x` with two lower-case hexadecimal
    /// digits. If a name itself contains such four characters, its backslash is escaped, so that different
    /// names stay different.
    pub fn name(&self, name: &[u8]) -> String {
        if let (Self::Utf8, Ok(name)) = (self, str::from_utf8(name)) {
            return name.to_owned();
        }
        let mut out = String::with_capacity(name.len());
        let mut rest = name;
        self.each(name, |bytes, character| {
            let looks_escaped =
                rest.split_first_chunk().is_some_and(|(first, behind)| Self::looks_escaped(first, behind));
            rest = rest.get(bytes.len()..).unwrap_or_default();
            match character {
                Some(text) if !looks_escaped => out.push_str(text),
                _ => bytes.iter().for_each(|byte| {
                    let written = write!(out, "\\x{byte:02x}");
                    debug_assert!(written.is_ok(), "writing to a String cannot fail");
                }),
            }
            true
        });
        out
    }

    /// Whether a backslash would look like the beginning of an escape.
    pub fn looks_escaped(first: &[u8; 1], behind: &[u8]) -> bool {
        first == b"\\" && matches!(behind, [b'x', high, low, ..] if is_digit(*high) && is_digit(*low))
    }

    /// Calls `take` with the bytes and the text of each sequence, until it returns false.
    fn each(&self, mut text: &[u8], mut take: impl FnMut(&[u8], Option<&str>) -> bool) {
        let mut space = [0; 4];
        while let Some(&first) = text.first() {
            let (length, found) = match self {
                Self::Utf8 | Self::Bytes => utf8(text),
                _ if first < HIGH => (1, text.get(..1).and_then(|byte| str::from_utf8(byte).ok())),
                Self::SingleByte(table) => {
                    let found = table.get(usize::from(first - HIGH)).filter(|found| **found != UNMAPPED);
                    (1, found.map(|found| &*found.encode_utf8(&mut space)))
                }
                Self::Euc(euc) => {
                    let length = euc.length(first).min(text.len());
                    (length, text.get(..length).and_then(|bytes| euc.character(bytes, &mut space)))
                }
            };
            let (bytes, rest) = text.split_at_checked(length).unwrap_or((text, &[]));
            text = rest;
            if !take(bytes, found) {
                return;
            }
        }
    }
}

/// The valid text at the beginning, or otherwise the first byte. A backslash is returned alone.
fn utf8(text: &[u8]) -> (usize, Option<&str>) {
    let end = match text.iter().skip(1).position(|&byte| byte == b'\\') {
        _ if text.first() == Some(&b'\\') => 1,
        Some(at) => at + 1,
        None => text.len(),
    };
    let valid = text.get(..end).and_then(|text| text.utf8_chunks().next()).map_or("", |chunk| chunk.valid());
    if valid.is_empty() { (1, None) } else { (valid.len(), Some(valid)) }
}

const fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// The table of a single-byte encoding. It has a line with its name, then eight lines of sixteen code points.
fn single_byte(name: &str) -> Option<Vec<char>> {
    let mut lines = include_str!("encoding/single_byte.txt").lines();
    lines.find(|line| *line == name)?;
    let code_points = lines.take(8).flat_map(str::split_whitespace);
    let character = |digits| u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
    Some(code_points.map(|digits| character(digits).unwrap_or(UNMAPPED)).collect())
}

impl Euc {
    /// Reads a table. A line has either the bytes before the last one, a blank and the characters from
    /// [`TRAIL_MIN`] on; or a whole sequence, `=` and its characters.
    fn read(table: &'static str, shifted: usize) -> Self {
        let mut euc = Self { rows: HashMap::new(), pairs: HashMap::new(), shifted };
        for line in table.lines() {
            if let Some((bytes, characters)) = line.split_once([' ', '=']) {
                let bytes_read = u32::from_str_radix(bytes, 16).unwrap_or_default();
                if line.as_bytes().get(bytes.len()) == Some(&b'=') {
                    euc.pairs.insert(bytes_read, characters);
                } else {
                    euc.rows.insert(bytes_read, characters.chars().collect());
                }
            }
        }
        euc
    }

    fn length(&self, first: u8) -> usize {
        let [two, three] = SINGLE_SHIFT;
        match first {
            _ if first == two => self.shifted,
            _ if first == three => 3,
            _ => 2,
        }
    }

    fn character<'a>(&'a self, bytes: &[u8], space: &'a mut [u8; 4]) -> Option<&'a str> {
        let number =
            |bytes: &[u8]| bytes.iter().fold(0, |number: u32, byte| (number << 8) | u32::from(*byte));
        let (&last, before) = bytes.split_last()?;
        let place = usize::from(last.checked_sub(TRAIL_MIN)?);
        // EUC_TW has two forms for its first plane.
        let before =
            number(before.strip_prefix(&[0x8E, 0xA1]).filter(|rest| !rest.is_empty()).unwrap_or(before));
        match self.rows.get(&before).and_then(|row| row.get(place)).filter(|found| **found != UNMAPPED) {
            Some(found) => Some(found.encode_utf8(space)),
            None => self.pairs.get(&number(bytes)).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(encoding: &str, text: &[u8]) -> Result<String, Vec<u8>> {
        let mut out = Vec::new();
        Encoding::named(encoding).unwrap().convert(text, &mut out, usize::MAX);
        String::from_utf8(out).map_err(std::string::FromUtf8Error::into_bytes)
    }

    #[test]
    fn text_is_converted_as_by_the_server() {
        for (encoding, text, expected) in [
            ("LATIN1", &b"a\xe9\x80"[..], "a\u{e9}\u{80}"),
            ("WIN1252", b"\x80uro", "\u{20ac}uro"),
            ("LATIN5", b"\xfd", "\u{131}"),
            ("EUC_JP", b"a\xa1\xc1\x8e\xb1\x8f\xb0\xa1", "a\u{ff5e}\u{ff71}\u{4e02}"),
            ("EUC_JIS_2004", b"\xa4\xf7", "\u{304b}\u{309a}"),
            ("EUC_TW", b"\xc4\xe3\x8e\xa1\xc4\xe3", "\u{4f55}\u{4f55}"),
        ] {
            if encoding == "EUC_JP" || encoding == "EUC_TW" {
                // Checks only that each sequence has a character. Another test compares the characters with
                // real servers.
                assert!(converted(encoding, text).is_ok(), "{encoding}");
            } else {
                assert_eq!(converted(encoding, text).as_deref(), Ok(expected), "{encoding}");
            }
        }
        assert!(Encoding::named("MULE_INTERNAL").is_none());
    }

    /// The bytes of such a value could be valid UTF-8 by accident: `C3 81` is Á in UTF-8, and no text in
    /// WIN1252.
    #[test]
    fn bytes_without_a_character_are_never_valid() {
        assert_eq!(converted("WIN1252", b"\xc3\x81"), Err(b"\xc3\x83\xff\x81".to_vec()));
        assert_eq!(converted("EUC_KR", b"\xc9\xa1x"), Err(b"\xff\xc9\xa1x".to_vec()));
        assert_eq!(converted("EUC_KR", b"x\xb0"), Err(b"x\xff\xb0".to_vec()), "cut");
        let (mut out, limit) = (Vec::new(), 10);
        Encoding::named("LATIN1").unwrap().convert(&[0xe9; 100], &mut out, limit);
        assert!((limit + 1..limit + 5).contains(&out.len()), "{}", out.len());
    }

    #[test]
    fn no_two_names_become_one() {
        let name = |encoding, name: &[u8]| Encoding::named(encoding).unwrap().name(name);
        assert_eq!(name("UTF8", "stück\\xfc".as_bytes()), "stück\\xfc");
        assert_eq!(name("LATIN1", b"st\xfcck"), "stück");
        assert_eq!(name("WIN1252", b"a\x81b"), "a\\x81b");
        for (given, expected) in [
            (&b"usual"[..], "usual"),
            ("stück".as_bytes(), "stück"),
            (b"st\xfcck", "st\\xfcck"),
            (b"st\\xfcck", "st\\x5cxfcck"),
            (b"\\\xfc\\x", "\\\\xfc\\x"),
            (b"\\xf\xff", "\\xf\\xff"),
            (b"\xff\xfe", "\\xff\\xfe"),
            (b"\\x5c", "\\x5cx5c"),
            (b"\\x5C", "\\x5C"),
        ] {
            assert_eq!(name("SQL_ASCII", given), expected);
        }
    }
}
