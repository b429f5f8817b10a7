//! Reads files that people write: configuration, rules, contracts, keys. They have a size limit and are
//! UTF-8.
//!
//! The limit applies to the bytes that are read, not to the size in the directory: a device or a pipe has no
//! size and may not end.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// The byte order mark that some editors write at the beginning of a text.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// Reads at most `limit` bytes.
///
/// # Errors
/// The file cannot be read, or has more bytes ([`io::ErrorKind::FileTooLarge`]).
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|size| size <= limit) {
        return Ok(bytes);
    }
    let problem = format!("the file is too large; the limit is {limit} bytes");
    Err(io::Error::new(io::ErrorKind::FileTooLarge, problem))
}

/// Reads a text of at most `limit` bytes, and removes a byte order mark.
///
/// # Errors
/// The same as those of [`read`], or the file is not UTF-8 ([`io::ErrorKind::InvalidData`]). The error does
/// not quote the file.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let invalid = |problem: String| {
        let problem = format!("the file is not UTF-8: {problem}. Save it as UTF-8");
        io::Error::new(io::ErrorKind::InvalidData, problem)
    };
    let bytes = read(path, limit)?;
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(invalid("it begins with the byte order mark of UTF-16".to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = before.split(|byte| *byte == b'\n').count();
        invalid(format!("line {line} has a byte that is no character"))
    })?;
    match text.strip_prefix(BYTE_ORDER_MARK) {
        Some(rest) => Ok(rest.to_owned()),
        None => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(bytes: &[u8]) -> io::Result<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        read_text(file.path(), 8)
    }

    #[test]
    fn text_has_no_byte_order_mark() {
        assert_eq!(text_of("\u{feff}a\r\n".as_bytes()).unwrap(), "a\r\n");
        assert_eq!(text_of(b"12345678").unwrap(), "12345678");
    }

    #[test]
    fn other_encodings_are_named_with_the_line() {
        for (bytes, about) in [
            (&b"a\nb\xe4"[..], "line 2"),
            (b"\xff\xfea\0", "UTF-16"),
            (b"\xfe\xff\0a", "UTF-16"),
            (b"123456789", "limit is 8 bytes"),
        ] {
            let error = text_of(bytes).unwrap_err().to_string();
            assert!(error.contains(about), "{error}");
        }
    }

    #[test]
    fn device_without_an_end_is_too_large() {
        let error = read(Path::new("/dev/zero"), 1 << 20).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
