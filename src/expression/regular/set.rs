//! Sets of characters, as ranges.

use std::fmt::Write as _;

const LAST: u32 = 0x0010_FFFF;
/// Surrogates, which are not characters.
const GAP: (u32, u32) = (0xD800, 0xDFFF);

/// A set of characters: ranges in ascending order that do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CharacterSet(Vec<(u32, u32)>);

impl CharacterSet {
    pub(super) fn of(characters: impl IntoIterator<Item = char>) -> Self {
        let mut set = Self::default();
        for character in characters {
            set.0.push((character.into(), character.into()));
        }
        set.in_order()
    }

    pub(super) fn range(first: char, last: char) -> Self {
        Self(vec![(first.into(), last.into())])
    }

    /// Every character, a line feed included.
    pub(super) fn all() -> Self {
        Self(vec![(0, LAST)])
    }

    pub(super) fn joined(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self.in_order()
    }

    fn in_order(mut self) -> Self {
        self.0.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(self.0.len());
        for (first, last) in self.0 {
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    pub(super) fn complement(&self) -> Self {
        let (mut others, mut next) = (Vec::new(), 0);
        for &(first, last) in &self.0 {
            if first > next {
                others.push((next, first - 1));
            }
            next = last + 1;
        }
        if next <= LAST {
            others.push((next, LAST));
        }
        Self(others)
    }

    pub(super) fn is_disjoint(&self, other: &Self) -> bool {
        self.0.iter().all(|a| other.0.iter().all(|b| a.1 < b.0 || b.1 < a.0))
    }

    /// Appends the set in the syntax of `regex`. It is never empty there: a set without a character matches
    /// nothing.
    pub(super) fn write(&self, out: &mut String) {
        out.push('[');
        let parts = self.0.iter().flat_map(|&(first, last)| {
            let low = (first < GAP.0).then(|| (first, last.min(GAP.0 - 1)));
            let high = (last > GAP.1).then(|| (first.max(GAP.1 + 1), last));
            low.into_iter().chain(high)
        });
        let mut empty = true;
        for (first, last) in parts {
            empty = false;
            let written = write!(out, "\\x{{{first:X}}}-\\x{{{last:X}}}");
            debug_assert!(written.is_ok(), "writing to a String cannot fail");
        }
        out.push_str(if empty { "a&&b]" } else { "]" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complement_has_every_other_character() {
        let set = CharacterSet::of("cabz".chars());
        assert_eq!(set, CharacterSet(vec![(97, 99), (122, 122)]));
        assert_eq!(set.complement().complement(), set);
        assert!(set.is_disjoint(&set.complement()) && !set.is_disjoint(&CharacterSet::all()));
        let mut out = String::new();
        CharacterSet::range('\u{D000}', '\u{E001}').write(&mut out);
        assert_eq!(out, "[\\x{D000}-\\x{D7FF}\\x{E000}-\\x{E001}]");
    }
}
