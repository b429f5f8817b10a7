/**
 * Reads a Kinesis data stream, parent shards before their children, with checkpoints in the state.
 *
 * One process reads all shards. For more than it can do, use the KCL, which spreads shards over machines.
 */

import { setTimeout as sleep } from "node:timers/promises";

import {
  ExpiredIteratorException,
  GetRecordsCommand,
  GetShardIteratorCommand,
  ListShardsCommand,
  ProvisionedThroughputExceededException,
} from "@aws-sdk/client-kinesis";

/** Calls `handleRecord(state, data)` for each record. Its effects and the checkpoint are committed together. */
export class Stream {
  #iterators = new Map();

  constructor(kinesis, name, state, handleRecord) {
    this.kinesis = kinesis;
    this.name = name;
    this.state = state;
    this.handleRecord = handleRecord;
  }

  /** The shards that may be read now: not finished, and neither are they children of one that is not. */
  async shards() {
    const found = [];
    let page = { StreamName: this.name };
    while (page) {
      const answer = await this.kinesis.send(new ListShardsCommand(page));
      found.push(...answer.Shards);
      page = answer.NextToken && { NextToken: answer.NextToken };
    }
    // A parent beyond the retention is not listed: nobody can read it any more.
    const ids = found.map((shard) => shard.ShardId);
    const unfinished = new Set(ids.filter((id) => !this.state.checkpoints.get(id)?.finished));
    const waits = (shard) => unfinished.has(shard.ParentShardId) || unfinished.has(shard.AdjacentParentShardId);
    return found.filter((shard) => unfinished.has(shard.ShardId) && !waits(shard)).map((shard) => shard.ShardId);
  }

  async iterator(shard) {
    const last = this.state.checkpoints.get(shard)?.sequenceNumber;
    const place = last
      ? { ShardIteratorType: "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber: last }
      : { ShardIteratorType: "TRIM_HORIZON" };
    const request = new GetShardIteratorCommand({ StreamName: this.name, ShardId: shard, ...place });
    return (await this.kinesis.send(request)).ShardIterator;
  }

  /** Processes one batch of a shard. Returns whether there is more to read now. */
  async read(shard) {
    const iterator = this.#iterators.get(shard) ?? (await this.iterator(shard));
    this.#iterators.delete(shard);
    let answer;
    try {
      answer = await this.kinesis.send(new GetRecordsCommand({ ShardIterator: iterator }));
    } catch (error) {
      if (error instanceof ExpiredIteratorException) return true; // The next call begins at the checkpoint.
      if (error instanceof ProvisionedThroughputExceededException) return true;
      throw error;
    }
    const { Records: records, NextShardIterator: following } = answer;
    for (const record of records) this.handleRecord(this.state, record.Data);
    if (records.length > 0 || !following) {
      const last = records.at(-1) ?? { SequenceNumber: this.state.checkpoints.get(shard)?.sequenceNumber };
      // Finished: the shard was resharded, and all of its records are processed.
      this.state.checkpoints.set(shard, { sequenceNumber: last.SequenceNumber, finished: !following });
      this.state.commit();
    }
    if (following) this.#iterators.set(shard, following);
    return !following || answer.MillisBehindLatest > 0;
  }

  /** Reads for ever; with `untilIdle`, until it has caught up with all shards. */
  async run(untilIdle = false, pause = 250) {
    for (;;) {
      let busy = false;
      // One after the other, so that no shard commits half the batch of another one.
      for (const shard of await this.shards()) busy = (await this.read(shard)) || busy;
      if (untilIdle && !busy) return;
      await sleep(pause); // A shard allows five reads a second, all consumers together.
    }
  }
}
