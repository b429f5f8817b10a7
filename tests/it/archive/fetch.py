"""Copies the archive from LocalStack into a directory, laid out as AWS does it, and prints what there is as JSON.

LocalStack takes the `!{…}` of prefixes literally, appends its own YYYY/MM/DD/HH/, and does not compress. AWS writes
events/day=YYYY-MM-DD/<name>.gz.
"""

import gzip
import json
import os
import re
import sys

import boto3

endpoint, bucket, directory = sys.argv[1:4]
s3 = boto3.client("s3", endpoint_url=endpoint)
literal = re.compile(r"^events/day=!\{timestamp:yyyy-MM-dd\}/(\d{4})/(\d\d)/(\d\d)/\d\d/(.+)$")
found = {"objects": 0, "literal": 0, "others": []}
for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
    for item in page.get("Contents", []):
        found["objects"] += 1
        match = literal.match(item["Key"])
        if not match:
            found["others"].append(item["Key"])
            continue
        found["literal"] += 1
        day, name = "-".join(match.groups()[:3]), match.group(4)
        path = os.path.join(directory, "events", f"day={day}", name + ".gz")
        if os.path.exists(path):
            continue
        body = s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
        assert body[:1] == b"{", "LocalStack compresses now"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with gzip.open(path, "wb") as copy:
            copy.write(body)
        with open(os.path.join(directory, "lines"), "ab") as lines:
            lines.write(body)
json.dump(found, sys.stdout)
