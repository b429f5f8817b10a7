"""A copy of tables in SQLite, made from their events alone: from the stream, or from the archive.

    python view.py --database view.db --stream lab-events [--endpoint http://127.0.0.1:4566] [--until-idle]
    python view.py --database view.db --archive DIRECTORY     # after: aws s3 sync s3://BUCKET/events DIRECTORY

It reads the automatic events of the tables: <table>.inserted, .updated, .deleted and .truncated. The view `current` then has
what the database has: one row for each key, with the columns as JSON. --print prints it, one row on each line.
"""

import argparse
import gzip
import json
import pathlib
import re
import sqlite3

import contract

SCHEMA = contract.SCHEMA + """
CREATE TABLE IF NOT EXISTS rows (
  source TEXT NOT NULL, table_name TEXT NOT NULL, key TEXT NOT NULL,
  sequence TEXT NOT NULL,               -- of the last event of this key
  data TEXT,                            -- the row as JSON; NULL: deleted
  PRIMARY KEY (source, table_name, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS truncated (
  source TEXT NOT NULL, table_name TEXT NOT NULL, sequence TEXT NOT NULL,
  PRIMARY KEY (source, table_name)
) WITHOUT ROWID;
CREATE VIEW IF NOT EXISTS current AS
  SELECT source, table_name, key, rows.sequence, data
  FROM rows LEFT JOIN truncated USING (source, table_name)
  WHERE data IS NOT NULL AND rows.sequence > coalesce(truncated.sequence, '');
"""

AUTOMATIC = re.compile(r"(.+)\.(inserted|updated|deleted|truncated)\.v1")


def unavailable(event):
    """The columns whose value the database did not send: SQL identifiers, in quotes where they need them."""
    for quoted, plain in re.findall(r'"((?:[^"]|"")*)"|([^",]+)', event.get("unavailable", "")):
        yield quoted.replace('""', '"') or plain


def handle(db, event, line):
    """The effect of an event that is new."""
    automatic = AUTOMATIC.fullmatch(event["type"])
    if not automatic or not isinstance(event.get("data"), dict):
        return  # An application may publish a type with such a name, and its data are any JSON.
    (table, what), source, sequence = automatic.groups(), event["source"], event["sequence"]
    if what == "truncated":
        # It has another key than the rows, so it may come before or after events of rows: `current` compares the sequences.
        db.execute(
            """INSERT INTO truncated VALUES (?, ?, ?)
               ON CONFLICT DO UPDATE SET sequence = max(sequence, excluded.sequence)""",
            (source, table, sequence),
        )
        return
    key = (source, table, event["subject"])
    data = None
    if what != "deleted":
        row = contract.members(contract.members(line)["data"])
        former = db.execute("SELECT data FROM rows WHERE (source, table_name, key) = (?, ?, ?)", key).fetchone()
        old = contract.members(former[0]) if former and former[0] else {}
        row.update({column: old[column] for column in unavailable(event) if column in old})
        data = contract.json_object(row)
    db.execute(
        """INSERT INTO rows VALUES (?, ?, ?, ?, ?)
           ON CONFLICT DO UPDATE SET sequence = excluded.sequence, data = excluded.data""",
        (*key, sequence, data),
    )


def process(db, data):
    for event, line in contract.events(data):
        if contract.is_new(db, event):
            handle(db, event, line)


def read_archive(db, directory):
    """All objects below a directory. Nobody promises their order: each key's events are sorted by sequence first."""
    with db:
        db.execute(
            """CREATE TEMP TABLE lines (source TEXT, sequence TEXT, partitionkey TEXT, line BLOB,
               PRIMARY KEY (source, sequence, partitionkey)) WITHOUT ROWID"""
        )
        for path in sorted(pathlib.Path(directory).rglob("*")):
            if path.is_file():
                data = path.read_bytes()
                data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
                for event, line in contract.events(data):
                    if "sequence" in event:
                        place = (event["source"], event["sequence"], event["partitionkey"])
                        db.execute("INSERT OR IGNORE INTO lines VALUES (?, ?, ?, ?)", (*place, line.encode()))
        for (line,) in db.execute("SELECT line FROM lines ORDER BY source, sequence"):
            process(db, line)
        db.execute("DROP TABLE lines")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--database", required=True)
    arguments.add_argument("--archive")
    arguments.add_argument("--stream")
    arguments.add_argument("--endpoint")
    arguments.add_argument("--until-idle", action="store_true")
    arguments.add_argument("--print", action="store_true")
    given = arguments.parse_args()
    db = sqlite3.connect(given.database)
    db.executescript(SCHEMA)
    if given.archive:
        read_archive(db, given.archive)
    if given.stream:
        import boto3
        import stream

        kinesis = boto3.client("kinesis", endpoint_url=given.endpoint)
        stream.Stream(kinesis, given.stream, db, process).run(given.until_idle)
    if given.print:
        for table, key, data in db.execute("SELECT table_name, key, data FROM current ORDER BY table_name, key"):
            print(f"[{json.dumps(table)}, {json.dumps(key)}, {data}]")


if __name__ == "__main__":
    main()
