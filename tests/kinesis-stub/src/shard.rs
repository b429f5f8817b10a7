//! Shards and their hash ranges: routing, splitting, merging. Pure: no clock, no I/O.
//!
//! Invariant: the open shards cover 0 to 2^128 − 1 without gap or overlap. Closed shards stay, so that readers can finish them.

use std::collections::BTreeMap;
use std::sync::Arc;

use md5::{Digest as _, Md5};

use crate::error::ApiError;
use crate::throughput::Bucket;

/// Kinesis's hash of a partition key.
pub(crate) fn hash_of(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key).into())
}

/// A shard, open or closed.
#[derive(Clone, Debug)]
pub(crate) struct Shard {
    pub(crate) id: Arc<str>,
    pub(crate) start: u128,
    pub(crate) end: u128,
    pub(crate) parent: Option<Arc<str>>,
    pub(crate) adjacent: Option<Arc<str>>,
    /// No record of it has a lower sequence number.
    pub(crate) first: u64,
    /// No record of it has a higher one; `None` while it is open.
    pub(crate) last: Option<u64>,
    /// Its records: their places among all records of the stub, in order.
    pub(crate) records: Vec<usize>,
    pub(crate) bucket: Bucket,
}

/// All shards of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Shards {
    all: Vec<Shard>,
    /// Start of the range → place in `all`, open ones only.
    open: BTreeMap<u128, usize>,
}

impl Shards {
    /// `count` equal shards.
    pub(crate) fn new(count: u32) -> Self {
        let mut shards = Self { all: Vec::new(), open: BTreeMap::new() };
        for (start, end) in uniform(count) {
            shards.add((start, end), None, None, 0);
        }
        shards
    }

    fn add(
        &mut self,
        (start, end): (u128, u128),
        parent: Option<Arc<str>>,
        adjacent: Option<Arc<str>>,
        first: u64,
    ) {
        let place = self.all.len();
        self.all.push(Shard {
            id: format!("shardId-{place:012}").into(),
            start,
            end,
            parent,
            adjacent,
            first,
            last: None,
            records: Vec::new(),
            bucket: Bucket::default(),
        });
        self.open.insert(start, place);
    }

    /// All shards, oldest first.
    pub(crate) fn all(&self) -> &[Shard] {
        &self.all
    }

    /// Mutable access to all of them.
    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut Shard> {
        self.all.iter_mut()
    }

    /// How many are open.
    pub(crate) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// The place of the open shard that takes this hash.
    pub(crate) fn route(&self, hash: u128) -> usize {
        self.open.range(..=hash).next_back().map_or(0, |(_, place)| *place)
    }

    /// The `turn`-th open shard, counted round.
    pub(crate) fn turn(&self, turn: usize) -> usize {
        self.open.values().nth(turn % self.open.len().max(1)).copied().unwrap_or_default()
    }

    /// The shard at a place.
    pub(crate) fn at(&self, place: usize) -> Option<&Shard> {
        self.all.get(place)
    }

    /// The shard at a place.
    pub(crate) fn at_mut(&mut self, place: usize) -> Option<&mut Shard> {
        self.all.get_mut(place)
    }

    /// The shard of this name.
    pub(crate) fn by_id(&self, id: &str) -> Result<&Shard, ApiError> {
        self.all.iter().find(|shard| &*shard.id == id).ok_or_else(|| missing(id))
    }

    fn open_place(&self, id: &str) -> Result<(usize, &Shard), ApiError> {
        let (place, shard) =
            self.all.iter().enumerate().find(|(_, shard)| &*shard.id == id).ok_or_else(|| missing(id))?;
        if shard.last.is_some() {
            return Err(ApiError::argument(format!("Shard {id} is closed.")));
        }
        Ok((place, shard))
    }

    fn close(&mut self, place: usize, last: u64) {
        if let Some(shard) = self.all.get_mut(place) {
            shard.last = Some(last);
            self.open.remove(&shard.start);
        }
    }

    /// Closes a shard; two children take its range, the second from `middle` on. `next` is the stream's next number.
    pub(crate) fn split(&mut self, id: &str, middle: u128, next: u64) -> Result<(), ApiError> {
        let (place, shard) = self.open_place(id)?;
        let (start, end, parent) = (shard.start, shard.end, Arc::clone(&shard.id));
        if middle <= start || middle > end {
            return Err(ApiError::argument(format!("NewStartingHashKey {middle} is not inside shard {id}.")));
        }
        self.close(place, next.saturating_sub(1));
        self.add((start, middle - 1), Some(Arc::clone(&parent)), None, next);
        self.add((middle, end), Some(parent), None, next);
        Ok(())
    }

    /// Closes two neighbours; one child takes both ranges.
    pub(crate) fn merge(&mut self, one: &str, other: &str, next: u64) -> Result<(), ApiError> {
        let (one_place, first) = self.open_place(one)?;
        let (other_place, second) = self.open_place(other)?;
        let (low, high) = if first.start <= second.start { (first, second) } else { (second, first) };
        if low.end.checked_add(1) != Some(high.start) {
            return Err(ApiError::argument(format!("Shards {one} and {other} are not an adjacent pair.")));
        }
        let range = (low.start, high.end);
        let (parent, adjacent) = (Arc::clone(&first.id), Arc::clone(&second.id));
        self.close(one_place, next.saturating_sub(1));
        self.close(other_place, next.saturating_sub(1));
        self.add(range, Some(parent), Some(adjacent), next);
        Ok(())
    }

    /// Splits the shard of a hash there, unless it begins there.
    pub(crate) fn split_at(&mut self, hash: u128, next: u64) -> Result<(), ApiError> {
        match self.at(self.route(hash)).filter(|shard| shard.start < hash) {
            Some(shard) => self.split(&Arc::clone(&shard.id), hash, next),
            None => Ok(()),
        }
    }

    /// Merges the shard of a hash with the next one, unless it is the last.
    pub(crate) fn merge_at(&mut self, hash: u128, next: u64) -> Result<(), ApiError> {
        let of = |hash| self.at(self.route(hash));
        let Some(one) = of(hash) else { return Ok(()) };
        let Some(other) = one.end.checked_add(1).and_then(of) else { return Ok(()) };
        let (one, other) = (Arc::clone(&one.id), Arc::clone(&other.id));
        self.merge(&one, &other, next)
    }

    /// Splits and merges until `count` equal shards are open.
    pub(crate) fn reshard(&mut self, count: u32, next: u64) -> Result<(), ApiError> {
        let target: Vec<_> = uniform(count).collect();
        for (start, _) in &target {
            let shard = self.at(self.route(*start)).map(|shard| (Arc::clone(&shard.id), shard.start));
            if let Some((id, from)) = shard
                && from < *start
            {
                self.split(&id, *start, next)?;
            }
        }
        for (start, end) in target {
            while let [one, other, ..] = self.ids_within(start, end).as_slice() {
                self.merge(one, other, next)?;
            }
        }
        Ok(())
    }

    fn ids_within(&self, start: u128, end: u128) -> Vec<Arc<str>> {
        self.open
            .range(start..=end)
            .filter_map(|(_, place)| self.all.get(*place))
            .map(|shard| Arc::clone(&shard.id))
            .collect()
    }
}

fn missing(id: &str) -> ApiError {
    ApiError::not_found(format!("Could not find shard {id} in the stream."))
}

fn uniform(count: u32) -> impl Iterator<Item = (u128, u128)> {
    let count = u128::from(count.max(1));
    let width = u128::MAX / count + u128::from(count.is_power_of_two() && count > 1);
    (0..count).map(move |i| (i * width, if i + 1 == count { u128::MAX } else { (i + 1) * width - 1 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_covers(shards: &Shards) {
        let mut next = Some(0);
        for (start, place) in &shards.open {
            assert_eq!(Some(*start), next);
            assert_eq!(shards.all[*place].last, None);
            next = shards.all[*place].end.checked_add(1);
        }
        assert_eq!(next, None);
    }

    #[test]
    fn shards_cover_whole_range_after_any_reshard() {
        let mut shards = Shards::new(3);
        assert_covers(&shards);
        for count in [1, 2, 7, 4, 8, 6, 64, 5, 1] {
            shards.reshard(count, 10).unwrap();
            assert_covers(&shards);
            assert_eq!(shards.open_count(), usize::try_from(count).unwrap());
        }
    }

    #[test]
    fn four_shards_are_four_runs_of_64_lanes() {
        let shards = Shards::new(4);
        let starts: Vec<_> = shards.open.keys().map(|start| start >> 120).collect();
        assert_eq!(starts, [0, 64, 128, 192]);
        // md5("a") begins with 0c, md5("b") with 92.
        assert_eq!((shards.route(hash_of("a")), shards.route(hash_of("b"))), (0, 2));
    }

    #[test]
    fn split_closes_parent_and_children_name_it() {
        let mut shards = Shards::new(1);
        shards.split("shardId-000000000000", 1 << 127, 5).unwrap();
        assert_eq!(shards.all[0].last, Some(4));
        for child in &shards.all[1..] {
            assert_eq!((child.parent.as_deref(), child.first), (Some("shardId-000000000000"), 5));
        }
        assert!(shards.split("shardId-000000000000", 1 << 126, 6).is_err(), "closed");
        assert!(shards.split("shardId-000000000001", 0, 6).is_err(), "at its start");
        assert!(shards.split("shardId-000000000009", 1, 6).is_err(), "missing");
        assert_covers(&shards);
    }

    #[test]
    fn shards_split_and_merge_at_any_hash() {
        let mut shards = Shards::new(3);
        for (hash, open) in [(7, 4), (7, 4), (u128::MAX, 5), (u128::MAX / 5, 6)] {
            shards.split_at(hash, 1).unwrap();
            assert_eq!(shards.open_count(), open, "{hash}");
            assert_covers(&shards);
        }
        for (hash, open) in [(0, 5), (u128::MAX, 5), (u128::MAX - 1, 4)] {
            shards.merge_at(hash, 2).unwrap();
            assert_eq!(shards.open_count(), open, "{hash}");
            assert_covers(&shards);
        }
    }

    #[test]
    fn only_adjacent_shards_merge() {
        let mut shards = Shards::new(4);
        assert!(shards.merge("shardId-000000000000", "shardId-000000000002", 1).is_err());
        assert!(shards.merge("shardId-000000000000", "shardId-000000000000", 1).is_err());
        shards.merge("shardId-000000000002", "shardId-000000000001", 1).unwrap();
        let child = &shards.all[4];
        assert_eq!(child.parent.as_deref(), Some("shardId-000000000002"));
        assert_eq!(child.adjacent.as_deref(), Some("shardId-000000000001"));
        assert_covers(&shards);
    }
}
