"""Deploys deploy/cloudformation/forebay.yaml when LocalStack is ready: the stream lab-events, the bucket lab-archive, and a
Firehose delivery stream between them. LocalStack runs this file in its own process, in the container and without one.

FOREBAY_TEMPLATE names the template; if it is not set, nothing is deployed. A stack that exists is left as it is.

LocalStack ignores some properties of the template: the retention, encryption, life cycle, compression and buffering, and the
`!{…}` of prefixes, which it takes literally. tests/it/archive.rs asserts that, so that a newer version is noticed.
"""

import os

import boto3
from botocore.config import Config

STACK = "forebay-lab"
PARAMETERS = {"Name": "lab", "ArchiveBucketName": "lab-archive"}


def deploy(template):
    port = os.environ.get("GATEWAY_LISTEN", "127.0.0.1:4566").rsplit(":", 1)[1]
    cloudformation = boto3.client(
        "cloudformation",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name=os.environ.get("AWS_DEFAULT_REGION", "eu-central-1"),
        aws_access_key_id="test",
        aws_secret_access_key="test",
        # A delivery stream that reads from Kinesis takes up to a minute here.
        config=Config(read_timeout=180, retries={"max_attempts": 0}),
    )
    known = [stack["StackName"] for stack in cloudformation.describe_stacks()["Stacks"]]
    if STACK not in known:
        with open(template, encoding="utf-8") as file:
            body = file.read()
        given = [{"ParameterKey": key, "ParameterValue": value} for key, value in PARAMETERS.items()]
        cloudformation.create_stack(
            StackName=STACK, TemplateBody=body, Parameters=given, Capabilities=["CAPABILITY_IAM"]
        )
    cloudformation.get_waiter("stack_create_complete").wait(StackName=STACK, WaiterConfig={"Delay": 1, "MaxAttempts": 300})
    print(f"Stack {STACK} is ready: stream lab-events, bucket lab-archive", flush=True)


if os.environ.get("FOREBAY_TEMPLATE"):
    deploy(os.environ["FOREBAY_TEMPLATE"])
