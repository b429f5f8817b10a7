//! The shards of the model: their boundaries are anywhere, and they are split, merged and divided anew.

use super::means::Random;

/// Where each begins, in order, and what it is called.
pub(super) struct Shards {
    all: Vec<(u64, String)>,
    made: u32,
}

impl Default for Shards {
    fn default() -> Self {
        let mut shards = Self { all: Vec::new(), made: 0 };
        shards.make(vec![0]);
        shards
    }
}

impl Shards {
    fn make(&mut self, firsts: Vec<u64>) {
        self.all.clear();
        for first in firsts {
            let id = self.id();
            self.all.push((first, id));
        }
    }

    /// They are numbered in the order in which they are made.
    fn id(&mut self) -> String {
        self.made += 1;
        format!("shardId-{:012}", self.made)
    }

    fn index(&self, hash: u64) -> usize {
        self.all.partition_point(|(first, _)| *first <= hash) - 1
    }

    pub(super) fn id_of(&self, hash: u64) -> String {
        self.all[self.index(hash)].1.clone()
    }

    /// First and last hash of the shard that takes this one.
    pub(super) fn range_of(&self, hash: u64) -> (u64, u64) {
        let index = self.index(hash);
        (self.all[index].0, self.all.get(index + 1).map_or(u64::MAX, |(next, _)| next - 1))
    }

    /// So many of equal ranges.
    pub(super) fn equal(count: u64) -> Self {
        let mut shards = Self { all: Vec::new(), made: 0 };
        let width = u128::from(u64::MAX) + 1;
        let first = |nth: u64| u64::try_from(u128::from(nth) * width / u128::from(count)).unwrap();
        shards.make((0..count).map(first).collect());
        shards
    }

    /// So many that begin anywhere.
    pub(super) fn uneven(count: u64, random: &mut Random) -> Self {
        let mut shards = Self { all: Vec::new(), made: 0 };
        let mut firsts: Vec<u64> = (1..count).map(|_| random.hash()).chain([0]).collect();
        firsts.sort_unstable();
        firsts.dedup();
        shards.make(firsts);
        shards
    }

    /// As an on-demand stream does: one is split anywhere.
    fn split(&mut self, at: u64) {
        let index = self.index(at);
        let first = self.all[index].0;
        let (lower, upper) = (self.id(), self.id());
        self.all[index].1 = lower;
        if at > first {
            self.all.insert(index + 1, (at, upper));
        }
    }

    /// A shard and the next one become one.
    fn merge(&mut self, lower: usize) {
        if lower + 1 < self.all.len() {
            self.all.remove(lower + 1);
            self.all[lower].1 = self.id();
        }
    }

    /// Either of the two, but not of the shard with this range.
    pub(super) fn split_or_merge(&mut self, random: &mut Random, (first, last): (u64, u64)) {
        let at = random.hash();
        let index = self.index(at);
        let next = self.all.get(index + 1).map(|(next, _)| *next);
        if (first..=last).contains(&at) {
            return;
        }
        if random.percent(50) {
            self.split(at);
        } else if next.is_some_and(|next| next != first) {
            self.merge(index);
        }
    }

    /// A split, a merge, or other shards instead of all, equal ones or not.
    pub(super) fn change(&mut self, random: &mut Random) {
        let made = self.made;
        match random.below(4) {
            0 => self.split(random.hash()),
            1 => self.merge(self.index(random.hash())),
            2 => *self = Self { made, ..Self::uneven(1 + random.below(20), random) },
            _ => {
                let count = [1, 2, 3, 4, 7, 12, 100, 512][usize::try_from(random.below(8)).unwrap()];
                *self = Self { made, ..Self::equal(count) };
            }
        }
        if self.made == made {
            self.rename();
        }
    }

    /// None of them has the name of an earlier one.
    fn rename(&mut self) {
        for index in 0..self.all.len() {
            self.all[index].1 = self.id();
        }
    }
}
