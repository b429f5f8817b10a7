"""Prints as JSON what LocalStack made of the template."""

import json
import sys

import boto3
from botocore.exceptions import ClientError

endpoint = sys.argv[1]


def client(service):
    return boto3.client(service, endpoint_url=endpoint)


def rules(s3, bucket):
    """The ids of the rules of the life cycle."""
    try:
        return sorted(rule["ID"] for rule in s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"])
    except ClientError as error:
        return error.response["Error"]["Code"]


stack = client("cloudformation").describe_stacks(StackName="forebay-lab")["Stacks"][0]
outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
stream = client("kinesis").describe_stream_summary(StreamName=outputs["StreamName"])["StreamDescriptionSummary"]
s3, iam = client("s3"), client("iam")
policy = iam.get_policy(PolicyArn=outputs["DaemonPolicyArn"])["Policy"]
version = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])["PolicyVersion"]
json.dump(
    {
        "status": stack["StackStatus"],
        "outputs": outputs,
        "retention": stream["RetentionPeriodHours"],
        "encryption": stream.get("EncryptionType", "NONE"),
        "public": s3.get_public_access_block(Bucket=outputs["ArchiveBucket"])["PublicAccessBlockConfiguration"],
        "lifecycle": rules(s3, outputs["ArchiveBucket"]),
        "statements": version["Document"]["Statement"],
        "alarms": sorted(alarm["MetricName"] for alarm in client("cloudwatch").describe_alarms()["MetricAlarms"]),
    },
    sys.stdout,
)
