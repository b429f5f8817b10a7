"""What Forebay promises to consumers, as code; docs/CONSUMERS.md says why. Standard library only.

An event takes effect exactly once if `is_new` and the effect are committed in one transaction.
"""

import json
from decimal import Decimal

SCHEMA = """
CREATE TABLE IF NOT EXISTS last_sequence (
  source TEXT NOT NULL, partitionkey TEXT NOT NULL, sequence TEXT NOT NULL,
  PRIMARY KEY (source, partitionkey)
) WITHOUT ROWID;
"""


def events(data):
    """The events of a Kinesis record, or of an object of the archive, each with its line. A record may hold several."""
    for line in data.splitlines():
        # Decimals keep all digits. Python's own integers stop at 4,300 of them.
        yield json.loads(line, parse_int=Decimal, parse_float=Decimal), line.decode()


def is_new(db, event):
    """Whether the event is later than all others of its key, which is then noted. If it is not: a repeat, skip it."""
    noted = db.execute(
        """INSERT INTO last_sequence VALUES (?, ?, ?)
           ON CONFLICT DO UPDATE SET sequence = excluded.sequence WHERE excluded.sequence > sequence""",
        (event["source"], event["partitionkey"], event["sequence"]),
    )
    return noted.rowcount == 1
