"""Does something once for each event: here it counts, and files a notice of each event under its id.

    pip install boto3
    python consume.py --database consumer.db --stream lab-events [--endpoint http://127.0.0.1:4566] [--until-idle]

The same event may come again, late, in a record with others, and after a reshard from another shard. Stop the program at any
time, also with kill -9: it continues where its last transaction ended.
"""

import argparse
import sqlite3

import boto3
import contract
import stream

SCHEMA = contract.SCHEMA + """
CREATE TABLE IF NOT EXISTS counts (type TEXT PRIMARY KEY, events INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notices (id TEXT PRIMARY KEY, type TEXT NOT NULL, subject TEXT NOT NULL) WITHOUT ROWID;
"""


def handle(db, event):
    """The effect: your code goes here. Ignore types and fields that you do not know."""
    # A new epoch, or an outbox, can publish one id under two sequences. If that must not count twice, ask the id as well.
    filed = db.execute(
        "INSERT OR IGNORE INTO notices VALUES (?, ?, ?)", (event["id"], event["type"], event["subject"])
    )
    if filed.rowcount:
        db.execute(
            "INSERT INTO counts VALUES (?, 1) ON CONFLICT DO UPDATE SET events = events + 1", (event["type"],)
        )


def process(db, data):
    for event, _ in contract.events(data):
        if contract.is_new(db, event):
            handle(db, event)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--database", required=True)
    arguments.add_argument("--stream", required=True)
    arguments.add_argument("--endpoint")
    arguments.add_argument("--until-idle", action="store_true")
    given = arguments.parse_args()
    db = sqlite3.connect(given.database)
    db.executescript(SCHEMA)
    kinesis = boto3.client("kinesis", endpoint_url=given.endpoint)
    stream.Stream(kinesis, given.stream, db, process).run(given.until_idle)
    for name, events in db.execute("SELECT type, events FROM counts ORDER BY type"):
        print(f"{events:>9,}  {name}")


if __name__ == "__main__":
    main()
