//! What a stub counts.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::latency::Latency;

/// Counters since the start or the last reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// Requests by operation, whatever became of them.
    pub operations: BTreeMap<String, u64>,
    /// `PutRecord` and `PutRecords` requests.
    pub puts: u64,
    /// Records in them.
    pub entries: u64,
    /// Records stored (or, in a null sink, counted as stored).
    pub stored: u64,
    /// Data bytes of the records stored, decoded, without keys.
    pub bytes: u64,
    /// Records refused by a fault.
    pub refused: u64,
    /// Records refused by the throughput of a shard.
    pub throttled: u64,
    /// Requests whose course a fault changed.
    pub faults: u64,
    /// Requests with a signature that is wrong, where signatures are checked.
    pub forged: u64,
}

impl Requests {
    pub(crate) fn count(&mut self, operation: &str) {
        if let Some(count) = self.operations.get_mut(operation) {
            *count += 1;
        } else {
            self.operations.insert(operation.to_owned(), 1);
        }
    }
}

/// `GET /_stub/stats`.
#[derive(Clone, Debug, Serialize)]
pub struct Stats {
    /// Records stored.
    pub records: u64,
    /// Their data bytes.
    pub bytes: u64,
    /// All counters.
    pub requests: Requests,
    /// Requests or answers held back.
    pub held: usize,
    /// Requests accepted late and not stored yet.
    pub late: usize,
    /// Commit to arrival, if it is measured.
    pub latency: Option<Latency>,
}
