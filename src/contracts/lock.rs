//! `events.lock/`: one JSON Schema per event type and minor version, `<type>/<major>.<minor>.json`, in the user's git repository.
//!
//! A locked file is never written again. Texts are sorted and end in a line feed, so that a diff shows what changed.

use std::fmt::Write as _;

/// Where a schema is served.
pub fn url(base: &str, stem: &str, major: u32, minor: u32) -> String {
    // A percent sign in the file's name is written as one in the address.
    format!("{base}/{}/{major}.{minor}.json", escaped(stem).replace('%', "%25"))
}

/// A type as a folder's name and as a part of an address. Types of rules are what they are; names of tables can be anything.
pub(super) fn escaped(stem: &str) -> String {
    let mut text = String::with_capacity(stem.len());
    for byte in stem.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') {
            text.push(char::from(byte));
        } else {
            let written = write!(text, "%{byte:02X}");
            debug_assert!(written.is_ok(), "writing to a String cannot fail");
        }
    }
    text
}
