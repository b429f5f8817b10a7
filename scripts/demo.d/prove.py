"""`prove.py reads`: exits with 0 once Firehose has delivered a record of each shard. `prove.py table`: waits until the archive has as
many changes as were committed, then prints them by type; exits with 1 if they never agree."""

import collections
import json
import os
import sys
import time

import boto3
from common import STREAM, kinesis, postgres

WITHIN = 120


def lines(data):
    return [json.loads(line) for line in data.splitlines()]


def events(found):
    """Distinct events by type. Markers are none; a repeat counts once."""
    ids = {(event["type"], event["id"]) for event in found if "type" in event}
    return collections.Counter(name for name, _ in ids)


def archive():
    s3 = boto3.client("s3", endpoint_url=os.environ["DEMO_KINESIS"])
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket="lab-archive", Prefix="events/"):
        for item in page.get("Contents", []):
            yield from lines(s3.get_object(Bucket="lab-archive", Key=item["Key"])["Body"].read())


def stream():
    client = kinesis()
    for shard in client.list_shards(StreamName=STREAM)["Shards"]:
        iterator = client.get_shard_iterator(
            StreamName=STREAM, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while True:
            answer = client.get_records(ShardIterator=iterator)
            for record in answer["Records"]:
                yield from lines(record["Data"])
            iterator = answer.get("NextShardIterator")
            if not iterator or (not answer["Records"] and not answer["MillisBehindLatest"]):
                break


def committed():
    rows = postgres().run("select table_name || '.' || op || '.v1', count(*) from audit.changes group by 1")
    return collections.Counter(dict(rows))


def reads():
    for key in ("a", "b"):  # MD5 puts these two keys into different halves.
        kinesis().put_record(StreamName=STREAM, PartitionKey=key, Data=f'{{"marker":"{key}"}}\n'.encode())
    time.sleep(1)
    if {event.get("marker") for event in archive()} < {"a", "b"}:
        sys.exit("Firehose does not read yet")


def table():
    deadline = time.monotonic() + WITHIN
    while True:
        rows, archived = committed(), events(archive())
        if rows == archived or time.monotonic() > deadline:
            break
        time.sleep(1)
    published = events(stream())
    print(f"      {'':<28}{'rows committed':>16}{'in the stream':>16}{'in the archive':>16}")
    for name in sorted(rows | published | archived):
        print(f"      {name:<28}{rows[name]:>16,}{published[name]:>16,}{archived[name]:>16,}")
    if not rows == published == archived:
        sys.exit("chain: they differ")


{"reads": reads, "table": table}[sys.argv[1]]()
