//! Reads a Kinesis data stream, parent shards before their children, with checkpoints in the state.
//!
//! One process reads all shards. For more than it can do, use the KCL, which spreads shards over machines.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::operation::get_records::GetRecordsError;
use aws_sdk_kinesis::types::{Shard, ShardIteratorType};

use crate::Error;
use crate::state::State;

/// A shard allows five reads a second, all consumers together.
const PAUSE: Duration = Duration::from_millis(250);

/// Calls `handle_record` for each record. Its effects and the checkpoint are committed together.
#[derive(Debug)]
pub(crate) struct Stream<'a> {
    kinesis: Client,
    name: &'a str,
    state: &'a mut State,
    handle_record: fn(&mut State, &[u8]) -> Result<(), Error>,
    /// By shard.
    iterators: BTreeMap<String, String>,
}

impl<'a> Stream<'a> {
    pub(crate) fn new(
        kinesis: Client,
        name: &'a str,
        state: &'a mut State,
        handle_record: fn(&mut State, &[u8]) -> Result<(), Error>,
    ) -> Self {
        Self { kinesis, name, state, handle_record, iterators: BTreeMap::new() }
    }

    /// Reads forever; with `until_idle`, until it has caught up with all shards.
    pub(crate) async fn run(mut self, until_idle: bool) -> Result<(), Error> {
        loop {
            let mut busy = false;
            for shard in self.shards().await? {
                busy |= self.read(&shard).await?;
            }
            if until_idle && !busy {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The shards that may be read now: neither finished nor children of one that is not.
    async fn shards(&self) -> Result<Vec<String>, Error> {
        let mut response = self.kinesis.list_shards().stream_name(self.name).send().await?;
        let mut found = response.shards.take().unwrap_or_default();
        while let Some(token) = response.next_token {
            response = self.kinesis.list_shards().next_token(token).send().await?;
            found.extend(response.shards.take().unwrap_or_default());
        }
        // A parent beyond the retention is not listed: nobody can read it any more.
        let is_finished = |shard: &str| self.state.checkpoints.get(shard).is_some_and(|place| place.finished);
        let unfinished: BTreeSet<&str> =
            found.iter().map(Shard::shard_id).filter(|shard| !is_finished(shard)).collect();
        let waits_for = |parent: Option<&str>| parent.is_some_and(|parent| unfinished.contains(parent));
        let ready = found.iter().filter(|shard| {
            unfinished.contains(shard.shard_id())
                && !waits_for(shard.parent_shard_id())
                && !waits_for(shard.adjacent_parent_shard_id())
        });
        Ok(ready.map(|shard| shard.shard_id().to_owned()).collect())
    }

    /// Processes one batch of a shard. Returns whether there is more to read now.
    async fn read(&mut self, shard: &str) -> Result<bool, Error> {
        let iterator = match self.iterators.remove(shard) {
            Some(iterator) => Some(iterator),
            None => self.iterator(shard).await?,
        };
        let response = self.kinesis.get_records().set_shard_iterator(iterator).send().await;
        let response = match response {
            Ok(response) => response,
            // The next call begins at the checkpoint.
            Err(error) if error.as_service_error().is_some_and(may_retry) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        let mut checkpoint = self.state.checkpoints.get(shard).cloned().unwrap_or_default();
        for record in response.records() {
            (self.handle_record)(self.state, record.data().as_ref())?;
            checkpoint.sequence_number = Some(record.sequence_number().to_owned());
        }
        checkpoint.finished = response.next_shard_iterator().is_none();
        if !response.records().is_empty() || checkpoint.finished {
            self.state.checkpoints.insert(shard.to_owned(), checkpoint);
            self.state.commit()?;
        }
        let is_behind = response.millis_behind_latest().is_some_and(|behind| behind > 0);
        match response.next_shard_iterator {
            Some(next) => {
                self.iterators.insert(shard.to_owned(), next);
                Ok(is_behind)
            }
            // Its children may be read now.
            None => Ok(true),
        }
    }

    /// The place after the checkpoint.
    async fn iterator(&self, shard: &str) -> Result<Option<String>, Error> {
        let request = self.kinesis.get_shard_iterator().stream_name(self.name).shard_id(shard);
        let last = self.state.checkpoints.get(shard).and_then(|place| place.sequence_number.clone());
        let request = match last {
            Some(last) => request
                .shard_iterator_type(ShardIteratorType::AfterSequenceNumber)
                .starting_sequence_number(last),
            None => request.shard_iterator_type(ShardIteratorType::TrimHorizon),
        };
        Ok(request.send().await?.shard_iterator)
    }
}

fn may_retry(error: &GetRecordsError) -> bool {
    error.is_expired_iterator_exception() || error.is_provisioned_throughput_exceeded_exception()
}
