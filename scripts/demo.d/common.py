"""What the demo's helpers share: connections, from the environment that scripts/demo sets."""

import os

import boto3
import pg8000.native
from botocore.config import Config

STREAM = "lab-events"


def postgres():
    """A connection as superuser to DEMO_DATABASE."""
    return pg8000.native.Connection(
        "postgres",
        host="127.0.0.1",
        port=int(os.environ["DEMO_POSTGRES_PORT"]),
        database=os.environ.get("DEMO_DATABASE", "lab"),
        password="forebay",
        timeout=10,
    )


def kinesis():
    """The stream's service, as anybody's program would reach it."""
    return boto3.client(
        "kinesis",
        endpoint_url=os.environ["DEMO_KINESIS"],
        region_name="eu-central-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"max_attempts": 1}, connect_timeout=2, read_timeout=10),
    )
