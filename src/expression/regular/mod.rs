//! Regular expressions in linear time: the part of PostgreSQL's syntax that means the same under every
//! locale, matched by the crate `regex`.
//!
//! Whether a text matches does not depend on which of several matches is taken. Where the match itself
//! counts, PostgreSQL takes the longest one, and `regex` the first in the order of the pattern. Both are the
//! same if each character of a text can be matched by only one place of the pattern, which `is_definite`
//! decides.

mod parse;
mod set;

use std::fmt;

use regex::{Regex, RegexBuilder};

use super::fault::{Computed, TOO_MUCH};
use super::text::LENGTH_MAX;
use parse::{PatternAtom, Refusal, translated};

/// Largest size of a compiled pattern and of its cache, in bytes.
const SIZE_MAX: usize = 512 << 10;
/// Longest pattern, in bytes.
const PATTERN_MAX: usize = 1_000;
/// Largest product of a text's length and the characters of a pattern.
const WORK_MAX: usize = 500_000_000;

/// A compiled pattern.
pub(super) struct RegularExpression {
    pattern: Box<str>,
    fold: bool,
    cost: usize,
    pieces: Option<Vec<PatternAtom>>,
    compiled: Regex,
}

impl fmt::Debug for RegularExpression {
    /// The pattern as it was written, for the parsed form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}{}", self.pattern, if self.fold { " without case" } else { "" })
    }
}

impl RegularExpression {
    /// Compiles a pattern. The error says what is not supported, and what to write instead.
    pub(super) fn new(pattern: &str, fold: bool) -> Result<Self, Refusal> {
        if pattern.len() > PATTERN_MAX {
            return Err((format!("the pattern exceeds {PATTERN_MAX} bytes"), "write a shorter one"));
        }
        let read = translated(pattern, fold)?;
        let compiled = RegexBuilder::new(&read.text).size_limit(SIZE_MAX).dfa_size_limit(SIZE_MAX).build();
        let Ok(compiled) = compiled else {
            return Err(("the pattern is too large".to_owned(), "write a shorter one"));
        };
        let pieces = read.sequence;
        Ok(Self { pattern: pattern.into(), fold, cost: read.cost.max(1), pieces, compiled })
    }

    /// Whether each character can be matched by one place only, so that the longest match is the first one,
    /// too, and no match is empty.
    pub(super) fn is_definite(&self) -> bool {
        let Some(pieces) = &self.pieces else { return false };
        // The sets that can follow each piece, and the set at the beginning.
        let follows = |from: usize| {
            let rest = pieces.get(from..).unwrap_or_default();
            let count = rest.iter().position(|piece| piece.least > 0).map_or(rest.len(), |at| at + 1);
            rest.iter().take(count)
        };
        let apart = |candidates: Vec<&PatternAtom>| {
            candidates.iter().enumerate().all(|(nth, piece)| {
                candidates.iter().skip(nth + 1).all(|other| piece.set.is_disjoint(&other.set))
            })
        };
        let each = pieces.iter().enumerate().all(|(nth, piece)| {
            let varies = piece.most != Some(piece.least);
            apart(varies.then_some(piece).into_iter().chain(follows(nth + 1)).collect())
        });
        each && apart(follows(0).collect()) && pieces.iter().any(|piece| piece.least > 0)
    }

    /// The largest number of characters of a match, if it is bounded.
    pub(super) fn longest(&self) -> Option<u32> {
        let pieces = self.pieces.as_ref()?;
        pieces.iter().try_fold(0_u32, |sum, piece| Some(sum.saturating_add(piece.most?)))
    }

    pub(super) fn is_match(&self, text: &str) -> Computed<bool> {
        self.within(text)?;
        Ok(self.compiled.is_match(text))
    }

    /// The first match.
    pub(super) fn found<'t>(&self, text: &'t str) -> Computed<Option<&'t str>> {
        self.within(text)?;
        Ok(self.compiled.find(text).map(|found| found.as_str()))
    }

    /// The text with its first match, or every match, replaced.
    pub(super) fn replaced(&self, text: &str, to: &str, every: bool) -> Computed<String> {
        self.within(text)?;
        let (mut out, mut end) = (String::with_capacity(text.len()), 0);
        for found in self.compiled.find_iter(text).take(if every { usize::MAX } else { 1 }) {
            out.push_str(text.get(end..found.start()).unwrap_or_default());
            out.push_str(to);
            end = found.end();
            if out.len() > LENGTH_MAX {
                return Err(TOO_MUCH);
            }
        }
        out.push_str(text.get(end..).unwrap_or_default());
        if out.len() > LENGTH_MAX { Err(TOO_MUCH) } else { Ok(out) }
    }

    const fn within(&self, text: &str) -> Computed<()> {
        if text.len().saturating_mul(self.cost) > WORK_MAX { Err(TOO_MUCH) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn match_is_definite_if_one_place_takes_a_character() {
        for (pattern, definite) in [
            ("abc", true),
            ("[0-9]+", true),
            ("^[0-9]+$", true),
            ("[^0-9]", true),
            ("[A-Z]{2}[0-9]+", true),
            ("[A-Z]{2,3}-?[0-9]", true),
            ("0*1", true),
            ("a{2}a", true),
            ("a{2,3}a", false),
            ("a+[ab]", false),
            ("a?b?a", false),
            ("a?a", false),
            ("a*", false),
            ("", false),
            ("a+?", false),
            ("(a)", false),
            ("a|b", false),
            (".+x", false),
        ] {
            let compiled = RegularExpression::new(pattern, false).unwrap();
            assert_eq!(compiled.is_definite(), definite, "{pattern}");
        }
    }

    #[test]
    fn unsupported_pattern_is_refused() {
        for (pattern, said) in [
            ("\\w+", "locale"),
            ("\\s", "locale"),
            ("\\bfoo", "word"),
            ("[[:alpha:]]", "locale"),
            ("(a", "not closed"),
            ("a)", "not opened"),
            ("[a", "not closed"),
            ("[]", "not closed"),
            ("*a", "nothing"),
            ("a**", "repeated"),
            ("a{2}{3}", "repeated"),
            ("^*", "nothing"),
            ("(a)\\1", "backtracking"),
            ("(?=a)", "look-ahead"),
            ("(?i)a", "~*"),
            ("a{3,2}", "not valid"),
            ("a{256}", "not valid"),
            ("a{1;", "not valid"),
            ("[b-a]", "empty"),
            ("[a-c-e]", "ambiguous"),
            ("a\\", "ends with"),
            ("***=a", "***"),
            ("(a{255}){255}", "2000"),
        ] {
            let (message, hint) = RegularExpression::new(pattern, false).unwrap_err();
            assert!(message.contains(said) || hint.contains(said), "{pattern}: {message} ({hint})");
        }
    }

    #[test]
    fn work_is_bounded() {
        let large = RegularExpression::new("(a|b){250}", false).unwrap();
        assert_eq!(large.is_match(&"a".repeat(2_000_000)), Err(TOO_MUCH));
        let small = RegularExpression::new("b$", false).unwrap();
        assert_eq!(small.is_match(&"a".repeat(2_000_000)), Ok(false));
        let digit = RegularExpression::new("[0-9]", false).unwrap();
        assert_eq!(digit.replaced(&"1".repeat(100_000), &"x".repeat(1000), true), Err(TOO_MUCH));
    }
}
