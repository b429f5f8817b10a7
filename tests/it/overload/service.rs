//! A stream that never was: shards with limits, counted in two ways, in a time that the test moves.

use std::time::Duration;

use forebay::event::KeyHash;
use forebay::sink::{Outgoing, RecordResult};
use tokio::time::Instant;

/// How a shard counts what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// A bucket that holds one second's worth.
    Bucket,
    /// Each second for itself.
    Seconds,
}

#[derive(Clone, Debug)]
struct Shard {
    id: String,
    first: u64,
    /// Records and bytes a second.
    limit: [f64; 2],
    left: [f64; 2],
    counted: Option<Instant>,
    accepted: u64,
    refused: u64,
    bytes: f64,
}

/// See the module.
#[derive(Debug)]
pub struct Service {
    counting: Counting,
    shards: Vec<Shard>,
    made: usize,
}

/// What a shard has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    pub accepted: u64,
    pub refused: u64,
}

impl Done {
    /// Of what it was asked.
    pub fn refused_share(self) -> f64 {
        self.refused as f64 / (self.accepted + self.refused).max(1) as f64
    }
}

/// As a provisioned shard.
pub const SHARD: [f64; 2] = [1000.0, 1_048_576.0];

impl Service {
    pub fn new(counting: Counting, shards: usize) -> Self {
        let mut service = Self { counting, shards: Vec::new(), made: 0 };
        service.reshard(shards, SHARD);
        service
    }

    /// Other shards of equal ranges take the place of those that are.
    pub fn reshard(&mut self, count: usize, limit: [f64; 2]) {
        let width = u64::MAX / count as u64 + 1 % count as u64;
        let shard = |n: usize| Shard {
            id: format!("shardId-{:012}", self.made + n),
            first: width * n as u64,
            limit,
            left: limit,
            counted: None,
            accepted: 0,
            refused: 0,
            bytes: 0.0,
        };
        self.shards = (0..count).map(shard).collect();
        self.made += count;
    }

    pub fn limit(&mut self, shard: usize, limit: [f64; 2]) {
        self.shards[shard].limit = limit;
    }

    fn place(&self, hash: KeyHash) -> usize {
        self.shards.partition_point(|shard| shard.first <= hash.0) - 1
    }

    /// Which shard takes a key.
    pub fn shard_of(&self, key: &str) -> usize {
        self.place(KeyHash::of(key))
    }

    pub fn put(&mut self, records: &[Outgoing], now: Instant) -> Vec<RecordResult> {
        records.iter().map(|record| self.put_one(record, now)).collect()
    }

    fn put_one(&mut self, record: &Outgoing, now: Instant) -> RecordResult {
        let place = self.place(KeyHash::of(std::str::from_utf8(&record.key).unwrap()));
        let counting = self.counting;
        let shard = &mut self.shards[place];
        let counted = *shard.counted.get_or_insert(now);
        let passed = now.saturating_duration_since(counted);
        match counting {
            Counting::Bucket => {
                for (left, limit) in shard.left.iter_mut().zip(shard.limit) {
                    *left = (*left + limit * passed.as_secs_f64()).min(limit);
                }
                shard.counted = Some(now);
            }
            Counting::Seconds if passed >= Duration::from_secs(1) => {
                shard.left = shard.limit;
                shard.counted = Some(counted + Duration::from_secs(passed.as_secs()));
            }
            Counting::Seconds => {}
        }
        let cost = [1.0, (record.key.len() + record.data.len()) as f64];
        if shard.left.iter().zip(cost).any(|(left, cost)| *left < cost) {
            shard.refused += 1;
            return RecordResult::Throttled;
        }
        for (left, cost) in shard.left.iter_mut().zip(cost) {
            *left -= cost;
        }
        shard.accepted += 1;
        shard.bytes += cost[1];
        RecordResult::Accepted { sequence: "1".to_owned(), shard: shard.id.clone() }
    }

    /// Bytes that each shard has ever taken.
    pub fn bytes(&self) -> Vec<f64> {
        self.shards.iter().map(|shard| shard.bytes).collect()
    }

    /// What each shard has done since this was last asked.
    pub fn take(&mut self) -> Vec<Done> {
        let take = |shard: &mut Shard| Done {
            accepted: std::mem::take(&mut shard.accepted),
            refused: std::mem::take(&mut shard.refused),
        };
        self.shards.iter_mut().map(take).collect()
    }
}
