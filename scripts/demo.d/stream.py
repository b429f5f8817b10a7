"""`stream.py wait` waits until Kinesis answers; `stream.py create` makes the stream and waits until it is active."""

import sys
import time

from botocore.exceptions import BotoCoreError, ClientError
from common import STREAM, kinesis

client = kinesis()
deadline = time.monotonic() + 120


def until(condition, what):
    while True:
        try:
            if condition():
                return
        except (BotoCoreError, ClientError):
            pass
        if time.monotonic() > deadline:
            sys.exit(f"demo: {what} in vain")
        time.sleep(0.2)


def active():
    return client.describe_stream_summary(StreamName=STREAM)["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE"


if sys.argv[1] == "create":
    client.create_stream(StreamName=STREAM, ShardCount=2)
    until(active, "waited for the stream")
else:
    until(lambda: client.list_streams() is not None, "waited for Kinesis")
