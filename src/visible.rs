//! Makes foreign texts (from servers, table names, rows) safe to show: no character of them moves the cursor,
//! begins a line, changes colours or the direction of text, or is invisible.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with control, bidirectional and zero-width characters and line separators escaped as in Rust:
/// `\n`, `\u{1b}`, `\u{202e}`. For a log field, a table cell or a message of one line.
pub fn visible(text: &str) -> Cow<'_, str> {
    escape(text, |_| false)
}

/// The same, but line feeds and tabs stay. For a text of ours that may quote foreign texts.
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    escape(text, |character| matches!(character, '\n' | '\t'))
}

fn escape(text: &str, spare: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_bad = |character: char| deceives(character) && !spare(character);
    if !text.contains(is_bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if !is_bad(character) {
            out.push(character);
            continue;
        }
        let written = match character {
            '\n' | '\t' | '\r' => write!(out, "{}", character.escape_default()),
            _ => write!(out, "{}", character.escape_unicode()),
        };
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
    }
    Cow::Owned(out)
}

/// Whether a terminal or an editor does anything else with the character than show it.
fn deceives(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            // Soft hyphen, Arabic letter mark, Mongolian vowel separator.
            '\u{ad}' | '\u{61c}' | '\u{180e}'
            // Zero width, marks of direction.
            | '\u{200b}'..='\u{200f}'
            // Line and paragraph separators, embeddings, overrides.
            | '\u{2028}'..='\u{202e}'
            // Word joiner, invisible operators, isolates.
            | '\u{2060}'..='\u{206f}'
            // Byte order mark, interlinear annotations, tags.
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_are_escaped() {
        for (text, shown) in [
            ("plain Ünïcödé 表 🙂", "plain Ünïcödé 表 🙂"),
            ("a\nb\r\tc", r"a\nb\r\tc"),
            ("\u{1b}[2J\u{7}\u{7f}", r"\u{1b}[2J\u{7}\u{7f}"),
            ("\u{9b}31m\u{85}", r"\u{9b}31m\u{85}"),
            ("a\u{2028}b\u{2029}", r"a\u{2028}b\u{2029}"),
            ("a\u{202e}b\u{2066}\u{200f}", r"a\u{202e}b\u{2066}\u{200f}"),
            ("a\u{200b}b\u{feff}", r"a\u{200b}b\u{feff}"),
        ] {
            assert_eq!(visible(text), shown);
        }
        assert_eq!(visible_lines("a\n\tb\r\u{1b}"), "a\n\tb\\r\\u{1b}");
    }
}
