"""An AWS Lambda function that keeps the newest state of each plate in DynamoDB, from the events lab.plates.*.

Lambda calls it with batches of records of one shard. When a record fails, the function names it, and Lambda calls again from
there: records before it are done, records after it wait, so the order of each key is kept. template.yaml deploys it.
"""

import base64
import json
import logging
import os
from decimal import Decimal

TABLE = os.environ.get("TABLE", "plates")
PREFIX = "lab.plates."


class Plates:
    """DynamoDB. One conditional write is the effect and the note that it took place."""

    def __init__(self, client):
        self.client = client

    def put(self, key, sequence, row):
        """Stores a row, `None` if it was deleted, unless something later is stored already."""
        item = {"key": {"S": key}, "sequence": {"S": sequence}}
        if row is not None:
            item["row"] = {"S": row}
        try:
            self.client.put_item(
                TableName=TABLE,
                Item=item,
                ConditionExpression="attribute_not_exists(#s) OR #s < :s",
                ExpressionAttributeNames={"#s": "sequence"},
                ExpressionAttributeValues={":s": {"S": sequence}},
            )
        except self.client.exceptions.ConditionalCheckFailedException:
            logging.info("repeat of %s", key)


def handle(store, event, line):
    """The effect of one event. Other types may be in the stream, also in a record with ours."""
    if event["type"] in (PREFIX + "inserted.v1", PREFIX + "updated.v1"):
        store.put(event["subject"], event["sequence"], line)
    elif event["type"] == PREFIX + "deleted.v1":
        store.put(event["subject"], event["sequence"], None)


def process(store, batch):
    """One invocation."""
    for record in batch["Records"]:
        try:
            for line in base64.b64decode(record["kinesis"]["data"]).decode().splitlines():
                handle(store, json.loads(line, parse_int=Decimal, parse_float=Decimal), line)
        except Exception:
            number = record["kinesis"]["sequenceNumber"]
            logging.exception("record %s failed; Lambda continues there", number)
            return {"batchItemFailures": [{"itemIdentifier": number}]}
    return {"batchItemFailures": []}


store = None


def handler(batch, context):
    """What Lambda calls."""
    global store
    if store is None:
        import boto3

        store = Plates(boto3.client("dynamodb"))
    return process(store, batch)
