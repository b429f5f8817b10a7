//! JSON strings. One pass decides whether the text can be copied as it is, which nearly every text can.

use super::ValueError;

/// Appends `text` as a JSON string, quotes included.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    let text = text.as_bytes();
    write_checked(out, text, Scan::of(text).escapes);
}

/// Appends `text` as a JSON string, quotes included, if it is UTF-8; else nothing.
pub fn write_string_bytes(out: &mut Vec<u8>, text: &[u8]) -> Result<(), ValueError> {
    let scan = Scan::of(text);
    if !scan.ascii && std::str::from_utf8(text).is_err() {
        return Err(ValueError::NotUtf8);
    }
    write_checked(out, text, scan.escapes);
    Ok(())
}

/// What a text consists of.
struct Scan {
    ascii: bool,
    escapes: bool,
}

impl Scan {
    /// Without branches, so that the compiler makes it a loop over whole vector registers.
    fn of(text: &[u8]) -> Self {
        let mut all = 0;
        let mut escapes = false;
        for &byte in text {
            all |= byte;
            escapes |= needs_escape(byte);
        }
        Self { ascii: all < 0x80, escapes }
    }
}

const fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

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

fn write_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| needs_escape(byte)) {
        let (clean, from_special) = rest.split_at(at);
        out.extend_from_slice(clean);
        let Some((&special, after)) = from_special.split_first() else { return };
        write_escape(out, special);
        rest = after;
    }
    out.extend_from_slice(rest);
}

/// The short escapes where there is one, as Postgres and `serde_json` do.
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
