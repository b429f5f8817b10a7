"""An independent reader of the stream: boto3, nothing of Forebay. Until SIGTERM.

Keeps every record in the file given (one JSON line each, in the order of its shard), and prints some events as they arrive
while the second file exists. An outage of Kinesis is waited out.
"""

import json
import os
import signal
import sys
import time

from botocore.exceptions import BotoCoreError, ClientError
from common import STREAM, kinesis

records_file, show_file = sys.argv[1:3]
running = True
shown_at = 0.0


def stop(*_):
    global running
    running = False


class Shard:
    """One shard, read on from the last record seen, whatever happens in between."""

    def __init__(self, name):
        self.name, self.last, self.iterator = name, None, None

    def read(self, client):
        if self.iterator is None:
            place = {"ShardIteratorType": "TRIM_HORIZON"}
            if self.last:
                place = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": self.last}
            answer = client.get_shard_iterator(StreamName=STREAM, ShardId=self.name, **place)
            self.iterator = answer["ShardIterator"]
        try:
            answer = client.get_records(ShardIterator=self.iterator)
        except (BotoCoreError, ClientError):
            self.iterator = None
            raise
        self.iterator = answer.get("NextShardIterator")
        for record in answer["Records"]:
            self.last = record["SequenceNumber"]
            yield record


def show(line):
    global shown_at
    if not os.path.exists(show_file) or time.monotonic() - shown_at < 0.4:
        return
    shown_at = time.monotonic()
    event = json.loads(line)
    fields = {name: value for name, value in (event.get("data") or {}).items() if value not in (None, [], {}, "")}
    data = json.dumps(fields, ensure_ascii=False)
    if len(data) > 70:
        data = data[:69] + "…"
    print(f"      {event['recordedtime'][11:23]}  {event['type']:<27} {event['subject']:<16} {data}", flush=True)


signal.signal(signal.SIGTERM, stop)
client = kinesis()
shards = {}
with open(records_file, "w", encoding="utf-8") as kept:
    while running:
        try:
            for shard in client.list_shards(StreamName=STREAM)["Shards"]:
                shards.setdefault(shard["ShardId"], Shard(shard["ShardId"]))
            for shard in shards.values():
                for record in shard.read(client):
                    text = record["Data"].decode()
                    kept.write(json.dumps([shard.name, record["SequenceNumber"], record["PartitionKey"], text]) + "\n")
                    for line in text.splitlines():
                        show(line)
            kept.flush()
        except (BotoCoreError, ClientError):
            pass
        time.sleep(0.25)
