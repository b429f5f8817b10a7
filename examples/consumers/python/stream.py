"""Reads a Kinesis data stream, parent shards before their children, with checkpoints in SQLite.

One process reads all shards. For more than it can do, use the KCL, which spreads shards over machines.
"""

import time

SCHEMA = """
CREATE TABLE IF NOT EXISTS checkpoint (
  shard TEXT PRIMARY KEY,
  sequence_number TEXT,                 -- of the last record whose effects are committed; NULL: none yet
  finished INTEGER NOT NULL             -- 1: the shard was resharded, and all of its records are processed
) WITHOUT ROWID;
"""


class Stream:
    """Calls `process(db, data)` for each record. Its effects and the checkpoint are committed together."""

    def __init__(self, kinesis, name, db, process):
        self.kinesis, self.name, self.db, self.process = kinesis, name, db, process
        self.iterators = {}
        db.executescript(SCHEMA)

    def shards(self):
        """The shards that may be read now: not finished, and neither are they children of one that is not."""
        # boto3's paginator sends the name with each token, which AWS refuses.
        page = self.kinesis.list_shards(StreamName=self.name)
        found = page["Shards"]
        while token := page.get("NextToken"):
            page = self.kinesis.list_shards(NextToken=token)
            found += page["Shards"]
        finished = {shard for (shard,) in self.db.execute("SELECT shard FROM checkpoint WHERE finished")}
        # A parent beyond the retention is not listed: nobody can read it any more.
        unfinished = {shard["ShardId"] for shard in found} - finished
        for shard in found:
            parents = {shard.get("ParentShardId"), shard.get("AdjacentParentShardId")}
            if shard["ShardId"] in unfinished and not parents & unfinished:
                yield shard["ShardId"]

    def iterator(self, shard):
        row = self.db.execute("SELECT sequence_number FROM checkpoint WHERE shard = ?", (shard,)).fetchone()
        place = {"ShardIteratorType": "TRIM_HORIZON"}
        if row and row[0]:
            place = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": row[0]}
        return self.kinesis.get_shard_iterator(StreamName=self.name, ShardId=shard, **place)["ShardIterator"]

    def read(self, shard):
        """Processes one batch of a shard. Returns whether there is more to read now."""
        iterator = self.iterators.pop(shard, None) or self.iterator(shard)
        try:
            answer = self.kinesis.get_records(ShardIterator=iterator)
        except self.kinesis.exceptions.ExpiredIteratorException:
            return True  # The next call begins at the checkpoint.
        except self.kinesis.exceptions.ProvisionedThroughputExceededException:
            return True
        following = answer.get("NextShardIterator")
        last = answer["Records"][-1]["SequenceNumber"] if answer["Records"] else None
        with self.db:  # One transaction: all of the batch, or nothing.
            for record in answer["Records"]:
                self.process(self.db, record["Data"])
            self.db.execute(
                """INSERT INTO checkpoint VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET
                   sequence_number = coalesce(excluded.sequence_number, sequence_number), finished = excluded.finished""",
                (shard, last, following is None),
            )
        if following:
            self.iterators[shard] = following
        return following is None or answer["MillisBehindLatest"] > 0

    def run(self, until_idle=False, pause=0.25):
        """Reads for ever; with `until_idle`, until it has caught up with all shards."""
        while True:
            busy = [self.read(shard) for shard in list(self.shards())]
            if until_idle and not any(busy):
                return
            time.sleep(pause)  # A shard allows five reads a second, all consumers together.
