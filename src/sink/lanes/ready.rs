//! The set of records that may be sent, with the oldest first: one bit for each record of the window.
//!
//! Setting, clearing and finding the oldest cost a few instructions, in whatever order records become ready.

use std::collections::VecDeque;

const BITS: u64 = u64::BITS as u64;

/// A set of record numbers within a sliding window.
#[derive(Debug, Default)]
pub(super) struct ReadySet {
    words: VecDeque<u64>,
    /// Index of the first word: record numbers below `first_word * 64` are removed.
    first_word: u64,
    /// No member is smaller.
    hint: u64,
}

impl ReadySet {
    /// Adds a record of the window.
    pub(super) fn insert(&mut self, seq: u64) {
        let index = self.index(seq);
        if index >= self.words.len() {
            self.words.resize(index + 1, 0);
        }
        if let Some(word) = self.words.get_mut(index) {
            *word |= 1 << (seq % BITS);
        }
        self.hint = self.hint.min(seq);
    }

    /// Removes a record.
    pub(super) fn remove(&mut self, seq: u64) {
        let index = self.index(seq);
        if let Some(word) = self.words.get_mut(index) {
            *word &= !(1 << (seq % BITS));
        }
    }

    /// Whether it is a member.
    pub(super) fn contains(&self, seq: u64) -> bool {
        // Without this check, a number below the first word would get the index of the first word.
        seq / BITS >= self.first_word
            && self.words.get(self.index(seq)).is_some_and(|word| word & (1 << (seq % BITS)) != 0)
    }

    /// The oldest member.
    pub(super) fn oldest(&mut self) -> Option<u64> {
        let start = self.index(self.hint);
        for (index, word) in self.words.iter().enumerate().skip(start) {
            if *word != 0 {
                self.hint = (self.first_word + index as u64) * BITS + u64::from(word.trailing_zeros());
                return Some(self.hint);
            }
        }
        self.hint = (self.first_word + self.words.len() as u64) * BITS;
        None
    }

    /// Removes everything below `seq`, where there is no member any more.
    pub(super) fn advance(&mut self, seq: u64) {
        let words = usize::try_from((seq / BITS).saturating_sub(self.first_word)).unwrap_or(usize::MAX);
        self.words.drain(..words.min(self.words.len()));
        self.first_word = self.first_word.max(seq / BITS);
        self.hint = self.hint.max(self.first_word * BITS);
    }

    fn index(&self, seq: u64) -> usize {
        usize::try_from((seq / BITS).saturating_sub(self.first_word)).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ready_queue_behaves_as_sorted_set() {
        let mut random = 0x1234_5678_u64;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let (mut set, mut model) = (ReadySet::default(), BTreeSet::new());
        let mut base = 0;
        for _ in 0..20_000 {
            let seq = base + draw(500);
            match draw(4) {
                0 => {
                    base += draw(40);
                    while let Some(old) = model.pop_first() {
                        if old >= base {
                            model.insert(old);
                            break;
                        }
                        set.remove(old);
                    }
                    set.advance(base);
                }
                1 => {
                    set.remove(seq);
                    model.remove(&seq);
                }
                _ => {
                    set.insert(seq);
                    model.insert(seq);
                }
            }
            assert_eq!(set.oldest(), model.first().copied());
            assert!(
                (base.saturating_sub(100)..base + 500).all(|seq| set.contains(seq) == model.contains(&seq))
            );
        }
        assert!(set.words.len() < 20, "{} words for a window of 500", set.words.len());
    }
}
