//! Which hashes a shard serves: one range for each shard, without overlap. Does no I/O.
//!
//! A shard serves one contiguous range, so it serves every hash between two that it has accepted: its *core*.
//! The hashes between the cores of two shards are unknown: the boundary is somewhere there. A shard with a
//! problem may *claim* rejected hashes there, and those in between. The claim ends as soon as another shard
//! accepts one of them.

/// A shard's place in tables. It is reused when the shard is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u16);

impl Place {
    pub(super) fn nth(index: usize) -> Option<Self> {
        u16::try_from(index).ok().map(Self)
    }

    /// The place as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What is known of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KnownShard {
    /// First and last hash, claimed ones included.
    pub(super) claim: (u64, u64),
    /// First and last hash of the core.
    pub(super) core: (u64, u64),
    pub(super) place: Place,
}

/// All known shards, in the order of the hash.
#[derive(Debug, Default)]
pub(super) struct ShardRanges(Vec<KnownShard>);

impl ShardRanges {
    /// The shard that serves or claims this hash.
    pub(super) fn at(&self, hash: u64) -> Option<&KnownShard> {
        self.below(hash).filter(|known| hash <= known.claim.1)
    }

    /// The range that contains a hash, or the unknown range between its neighbours.
    pub(super) fn around(&self, hash: u64) -> (u64, u64) {
        let below = self.below(hash);
        if let Some(known) = below.filter(|known| hash <= known.claim.1) {
            return known.claim;
        }
        let first = below.map_or(0, |known| known.claim.1 + 1);
        (first, self.above(hash).map_or(u64::MAX, |known| known.claim.0 - 1))
    }

    /// The nearest shards on both sides of an unknown hash.
    pub(super) fn beside(&self, hash: u64) -> [Option<Place>; 2] {
        [self.below(hash), self.above(hash)].map(|known| known.map(|known| known.place))
    }

    /// The shards whose ranges overlap a hash range.
    pub(super) fn overlapping(&self, (first, last): (u64, u64)) -> impl Iterator<Item = &KnownShard> {
        let from = self.0.partition_point(|known| known.claim.1 < first);
        self.0.iter().skip(from).take_while(move |known| known.claim.0 <= last)
    }

    /// Whether a hash range overlaps the core of a shard.
    pub(super) fn is_core(&self, (first, last): (u64, u64)) -> bool {
        self.overlapping((first, last)).any(|known| known.core.0 <= last && first <= known.core.1)
    }

    /// The nearest known shard below a hash, or otherwise above it.
    pub(super) fn nearest(&self, hash: u64) -> Option<Place> {
        self.below(hash).or_else(|| self.above(hash)).map(|known| known.place)
    }

    /// Adds a range that overlaps no other.
    pub(super) fn add(&mut self, known: KnownShard) {
        self.0.insert(self.0.partition_point(|other| other.claim.0 <= known.claim.0), known);
    }

    /// Removes the shard that serves this hash.
    pub(super) fn remove(&mut self, hash: u64) -> Option<KnownShard> {
        let at = self.0.partition_point(|known| known.claim.0 <= hash).checked_sub(1)?;
        (at < self.0.len()).then(|| self.0.remove(at))
    }

    /// Extends the claim of the shard that serves `from` to `hash`, which no shard claims yet.
    pub(super) fn claim(&mut self, from: u64, hash: u64) {
        if let Some(known) = self.remove(from) {
            let (first, last) = known.claim;
            self.add(KnownShard { claim: (first.min(hash), last.max(hash)), ..known });
        }
    }

    /// Ends the claims of shards that overlap these hashes, and of `beside` more shards on both sides. The
    /// shard whose core begins at `first` keeps its claim. Returns the shards that had claims.
    pub(super) fn retract(&mut self, (first, last): (u64, u64), beside: usize) -> Vec<Place> {
        let from = self.0.partition_point(|known| known.claim.1 < first).saturating_sub(beside);
        let to = self.0.partition_point(|known| known.claim.0 <= last);
        let all = self.0.iter_mut().take(to + beside).skip(from);
        let claiming = all.filter(|known| known.claim != known.core && known.core.0 != first);
        claiming
            .map(|known| {
                known.claim = known.core;
                known.place
            })
            .collect()
    }

    fn below(&self, hash: u64) -> Option<&KnownShard> {
        self.0.get(self.0.partition_point(|known| known.claim.0 <= hash).checked_sub(1)?)
    }

    fn above(&self, hash: u64) -> Option<&KnownShard> {
        self.0.get(self.0.partition_point(|known| known.claim.0 <= hash))
    }
}
