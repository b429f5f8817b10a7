"""Calls the Lambda example as Lambda does, with the records of standard input: one JSON list of shard, sequence number, key and
data in base64 on each line. Prints what the store then has.

Each shard in batches, a failed batch again from the record that failed, some batches twice as after a lost response. The store
fails now and then. With an endpoint it is DynamoDB, else a dictionary.
"""

import itertools
import json
import logging
import os
import random
import sys

seed, endpoint = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../../examples/consumers/lambda"))
import handler  # noqa: E402

logging.disable(logging.CRITICAL)
chance = random.Random(seed)
invocations = failures = 0


class Memory:
    def __init__(self):
        self.items = {}

    def put(self, key, sequence, row):
        if key not in self.items or self.items[key][0] < sequence:
            self.items[key] = (sequence, row)

    def rows(self):
        return {key: row for key, (_, row) in self.items.items() if row is not None}


class DynamoDb(handler.Plates):
    def __init__(self):
        import boto3

        super().__init__(boto3.client("dynamodb", endpoint_url=endpoint))
        self.client.create_table(
            TableName=handler.TABLE,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "key", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "key", "KeyType": "HASH"}],
        )

    def rows(self):
        pages = self.client.get_paginator("scan").paginate(TableName=handler.TABLE)
        items = [item for page in pages for item in page["Items"]]
        return {item["key"]["S"]: item["row"]["S"] for item in items if "row" in item}


class Unreliable:
    def __init__(self, store):
        self.store = store

    def put(self, key, sequence, row):
        if chance.random() < 0.05:
            raise OSError("the store does not respond")
        self.store.put(key, sequence, row)


def invoke(store, records):
    global invocations, failures
    invocations += 1
    batch = [
        {"eventSource": "aws:kinesis", "kinesis": {"partitionKey": key, "sequenceNumber": number, "data": data}}
        for _, number, key, data in records
    ]
    named = [item["itemIdentifier"] for item in handler.process(store, {"Records": batch})["batchItemFailures"]]
    failures += len(named)
    return named


store = DynamoDb() if endpoint else Memory()
records = [json.loads(line) for line in sys.stdin]
for _, shard in itertools.groupby(sorted(records, key=lambda record: (record[0], int(record[1]))), key=lambda record: record[0]):
    waiting = list(shard)
    while waiting:
        batch = waiting[: chance.randint(1, 20)]
        failed = invoke(Unreliable(store), batch)
        if chance.random() < 0.1:
            continue  # The response is lost: the whole batch again.
        done = [record[1] for record in batch].index(failed[0]) if failed else len(batch)
        waiting = waiting[done:]
assert failures > 0 or len(records) < 100, "nothing failed"
for key, row in sorted(store.rows().items()):
    print(json.dumps([key, row]))
