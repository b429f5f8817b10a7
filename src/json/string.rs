//! JSON strings, scanned eight bytes at a time. One pass decides whether a text can be copied unchanged; most
//! can.

use super::ValueError;

/// Appends `text` as a JSON string with quotes.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    let text = text.as_bytes();
    write_checked(out, text, Scan::of(text).escapes);
}

/// Appends `text` as a JSON string with quotes. Appends nothing if it is not UTF-8.
#[inline]
pub fn write_string_bytes(out: &mut Vec<u8>, text: &[u8]) -> Result<(), ValueError> {
    let scan = Scan::of(text);
    if !scan.ascii && std::str::from_utf8(text).is_err() {
        return Err(ValueError::NotUtf8);
    }
    write_checked(out, text, scan.escapes);
    Ok(())
}

/// The result of a scan.
struct Scan {
    ascii: bool,
    escapes: bool,
}

impl Scan {
    fn of(text: &[u8]) -> Self {
        let (mut all, mut marks, mut escapes) = (0, 0, false);
        let mut see = |eight: &[u8; 8]| {
            let eight = u64::from_le_bytes(*eight);
            all |= eight;
            marks |= special(eight);
        };
        // The last eight bytes may overlap the previous ones.
        if let Some(last) = text.last_chunk() {
            text.as_chunks().0.iter().for_each(&mut see);
            see(last);
        } else {
            for &byte in text {
                all |= u64::from(byte);
                escapes |= needs_escape(byte);
            }
        }
        Self { ascii: all & (EACH * 0x80) == 0, escapes: escapes || marks != 0 }
    }
}

const fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// The value 1 in each of eight bytes.
const EACH: u64 = 0x0101_0101_0101_0101;

/// Nonzero if any of eight bytes needs an escape. (The subtraction borrows only from bytes after a match.)
const fn special(eight: u64) -> u64 {
    let below_blank = eight.wrapping_sub(EACH * 0x20) & !eight;
    let quote = eight ^ (EACH * b'"' as u64);
    let backslash = eight ^ (EACH * b'\\' as u64);
    let is_quote = quote.wrapping_sub(EACH) & !quote;
    let is_backslash = backslash.wrapping_sub(EACH) & !backslash;
    (below_blank | is_quote | is_backslash) & (EACH * 0x80)
}

#[inline]
fn write_checked(out: &mut Vec<u8>, text: &[u8], escapes: bool) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    if escapes {
        write_escaped(out, text);
    } else {
        out.extend_from_slice(text);
    }
    out.push(b'"');
}

#[inline(never)]
fn write_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    loop {
        let (before, from) = rest.split_at(plain(rest));
        out.extend_from_slice(before);
        let Some((&byte, behind)) = from.split_first() else { return };
        write_escape(out, byte);
        rest = behind;
    }
}

/// Number of bytes at the start that need no escape.
fn plain(text: &[u8]) -> usize {
    let (eights, last) = text.as_chunks();
    for (nth, eight) in eights.iter().enumerate() {
        let marks = special(u64::from_le_bytes(*eight));
        if marks != 0 {
            // The lowest mark belongs to the first byte and is exact.
            return nth * 8 + marks.trailing_zeros() as usize / 8;
        }
    }
    let in_last = last.iter().position(|&byte| needs_escape(byte)).unwrap_or(last.len());
    text.len() - last.len() + in_last
}

/// Writes the short escape if one exists, as PostgreSQL and `serde_json` do.
fn write_escape(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0C => b'f',
        _ => {
            let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 0xF)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &[u8]) {
        let scan = Scan::of(text);
        let escapes = text.iter().any(|&byte| needs_escape(byte));
        assert_eq!((scan.ascii, scan.escapes), (text.is_ascii(), escapes), "{text:?}");
        let (mut written, mut plain) = (Vec::new(), Vec::new());
        write_escaped(&mut written, text);
        for &byte in text {
            if needs_escape(byte) { write_escape(&mut plain, byte) } else { plain.push(byte) }
        }
        assert_eq!(written, plain, "{text:?}");
    }

    #[test]
    fn every_byte_is_escaped_at_any_offset() {
        let neighbours =
            [b'a', 0, 0x1F, 0x20, 0x21, b'"', 0x23, 0x5B, b'\\', 0x5D, 0x7F, 0x80, 0xA2, 0xDC, 0xFF];
        for length in 0..=25 {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    for neighbour in neighbours {
                        let mut text = vec![b'a'; length];
                        if let Some(next) = text.get_mut(at + 1) {
                            *next = neighbour;
                        }
                        text[at] = byte;
                        check(&text);
                    }
                }
            }
            check(&vec![b'a'; length]);
        }
    }
}
