//! Text functions. Positions count characters; work and output size are limited.

use super::fault::{Computed, FIELD_POSITION, NEGATIVE_LENGTH, PATTERN_END, TOO_MUCH};

/// Longest text that a function may return, in bytes: the limit of any value.
pub(super) const LENGTH_MAX: usize = crate::json::MAX_LENGTH;

/// Largest number of steps of one LIKE. Only adversarial patterns need more.
const STEPS_MAX: u64 = 50_000_000;

/// Whitespace that the input functions skip (`isspace`).
pub(super) const fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\x0B' | '\x0C')
}

/// Lower case, character by character, as `towlower` in a UTF-8 locale.
pub(super) fn lower(text: &str) -> String {
    text.chars().map(lower_of).collect()
}

pub(super) fn lower_of(letter: char) -> char {
    let mut letters = letter.to_lowercase();
    match (letters.next(), letters.next()) {
        (Some(lower), None) => lower,
        _ if letter == 'İ' => 'i',
        _ => letter,
    }
}

/// Upper case, character by character, as `towupper` in a UTF-8 locale.
pub(super) fn upper(text: &str) -> String {
    text.chars().map(upper_of).collect()
}

pub(super) fn upper_of(letter: char) -> char {
    let mut letters = letter.to_uppercase();
    match (letters.next(), letters.next()) {
        (Some(upper), None) => upper,
        _ => letter,
    }
}

/// Number of characters, at most the largest integer.
pub(super) fn length(text: &str) -> i64 {
    let count = if text.is_ascii() { text.len() } else { text.chars().count() };
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Byte offset of a character; the length if there are fewer.
fn at(text: &str, position: i64) -> usize {
    let Ok(position) = usize::try_from(position) else { return 0 };
    if text.is_ascii() {
        return position.min(text.len());
    }
    text.char_indices().nth(position).map_or(text.len(), |(at, _)| at)
}

fn slice(text: &str, from: i64, to: i64) -> &str {
    text.get(at(text, from)..at(text, to.max(from))).unwrap_or_default()
}

pub(super) fn substring(text: &str, from: i64, count: Option<i64>) -> Computed<&str> {
    let start = (from - 1).max(0);
    match count {
        Some(count) if count < 0 => Err(NEGATIVE_LENGTH),
        Some(count) => Ok(slice(text, start, (from - 1 + count).max(start))),
        None => Ok(slice(text, start, i64::MAX)),
    }
}

/// `left()`: a negative count removes characters from the other end.
pub(super) fn left(text: &str, count: i64) -> &str {
    let end = if count < 0 { (length(text) + count).max(0) } else { count };
    slice(text, 0, end)
}

/// `right()`: a negative count removes characters from the other end.
pub(super) fn right(text: &str, count: i64) -> &str {
    let start = match count {
        // The server negates in 32 bits, where this value has no negation.
        count if count == i64::from(i32::MIN) => 0,
        ..0 => -count,
        _ => (length(text) - count).max(0),
    };
    slice(text, start, i64::MAX)
}

pub(super) fn trim<'a>(text: &'a str, set: &str, leading: bool, trailing: bool) -> &'a str {
    let is_in_set = |character: char| set.contains(character);
    let text = if leading { text.trim_start_matches(is_in_set) } else { text };
    if trailing { text.trim_end_matches(is_in_set) } else { text }
}

pub(super) fn replace(text: &str, from: &str, to: &str) -> Computed<String> {
    if from.is_empty() {
        return Ok(text.to_owned());
    }
    if to.len() > from.len() {
        let growth = text.matches(from).count().saturating_mul(to.len() - from.len());
        if text.len().saturating_add(growth) > LENGTH_MAX {
            return Err(TOO_MUCH);
        }
    }
    Ok(text.replace(from, to))
}

pub(super) fn split_part<'a>(text: &'a str, delimiter: &str, nth: i64) -> Computed<&'a str> {
    if nth == 0 {
        return Err(FIELD_POSITION);
    }
    if text.is_empty() {
        return Ok("");
    }
    if delimiter.is_empty() {
        return Ok(if nth.abs() == 1 { text } else { "" });
    }
    // Parts are always counted from the left, because delimiters may overlap.
    let parts = i64::try_from(text.split(delimiter).count()).unwrap_or(i64::MAX);
    let position = if nth > 0 { nth - 1 } else { parts + nth };
    let part = usize::try_from(position).ok().and_then(|position| text.split(delimiter).nth(position));
    Ok(part.unwrap_or_default())
}

/// Whether a text matches a pattern of `%`, `_` and an escape character.
pub(super) fn like(text: &str, pattern: &str, escape: Option<char>) -> Computed<bool> {
    let (mut text, mut pattern) = (text.chars(), pattern.chars());
    // Where to continue after a mismatch: after the last `%`, one character later.
    let mut again: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    let mut steps = 0_u64;
    loop {
        steps += 1;
        if steps > STEPS_MAX {
            return Err(TOO_MUCH);
        }
        let mut rest = pattern.clone();
        let wanted = match rest.next() {
            Some(escaping) if Some(escaping) == escape => match rest.next() {
                Some(literal) => Wanted::Letter(literal),
                // The server reports a bad escape only when the match reaches it.
                None if text.as_str().is_empty() => Wanted::Nothing,
                None => return Err(PATTERN_END),
            },
            Some('%') => Wanted::Any,
            Some('_') => Wanted::One,
            Some(letter) => Wanted::Letter(letter),
            None => Wanted::End,
        };
        let mut ahead = text.clone();
        let fits = match wanted {
            Wanted::Any => {
                if rest.as_str().is_empty() {
                    return Ok(true);
                }
                again = Some((text.clone(), rest.clone()));
                pattern = rest;
                continue;
            }
            Wanted::End if text.as_str().is_empty() => return Ok(true),
            Wanted::End | Wanted::Nothing => false,
            Wanted::One => ahead.next().is_some(),
            Wanted::Letter(letter) => ahead.next() == Some(letter),
        };
        if fits {
            (text, pattern) = (ahead, rest);
            continue;
        }
        let Some((from, behind)) = &mut again else { return Ok(false) };
        if from.next().is_none() {
            return Ok(false);
        }
        (text, pattern) = (from.clone(), behind.clone());
    }
}

/// The next element of a pattern.
enum Wanted {
    Letter(char),
    One,
    Any,
    End,
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_supports_percent_underscore_and_escape() {
        for (text, pattern, fits) in [
            ("abc", "a%", true),
            ("abc", "%b%", true),
            ("abc", "a_c", true),
            ("ac", "a_c", false),
            ("a%c", "a\\%c", true),
            ("abc", "a\\%c", false),
            ("", "%", true),
            ("", "", true),
            ("é", "_", true),
            ("aab", "%a_", true),
            ("mississippi", "%iss%ippi", true),
        ] {
            assert_eq!(like(text, pattern, Some('\\')), Ok(fits), "{text} {pattern}");
        }
        assert_eq!(like("a", "a\\", Some('\\')), Ok(false));
        assert_eq!(like("ab", "a\\", Some('\\')), Err(PATTERN_END));
        assert_eq!(like("a\\", "a\\", None), Ok(true));
    }

    #[test]
    fn slow_pattern_is_bounded() {
        let text = "a".repeat(100_000);
        let pattern = format!("%{}b", "a".repeat(10_000));
        assert_eq!(like(&text, &pattern, Some('\\')), Err(TOO_MUCH));
    }

    #[test]
    fn positions_count_characters() {
        assert_eq!(substring("aéz", 2, Some(1)), Ok("é"));
        assert_eq!(substring("abc", -1, Some(3)), Ok("a"));
        assert_eq!(substring("abc", 2, Some(-1)), Err(NEGATIVE_LENGTH));
        assert_eq!((left("aéz", -1), right("aéz", 2), right("aéz", -1)), ("aé", "éz", "éz"));
        assert_eq!((split_part("a,b,c", ",", -1), split_part("a", "", 1)), (Ok("c"), Ok("a")));
        assert_eq!((length("aéz"), lower("ÄİẞA").as_str(), upper("aßé").as_str()), (3, "äißa", "AßÉ"));
    }
}
