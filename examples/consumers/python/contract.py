"""What Forebay promises to consumers, as code; docs/CONSUMERS.md says why. Standard library only.

An event takes effect exactly once if `is_new` and the effect are committed in one transaction.
"""

import json
import re
from decimal import Decimal

SCHEMA = """
CREATE TABLE IF NOT EXISTS last_sequence (
  source TEXT NOT NULL, partitionkey TEXT NOT NULL, sequence TEXT NOT NULL,
  PRIMARY KEY (source, partitionkey)
) WITHOUT ROWID;
"""

# Decimals keep all digits. Python's own integers stop at 4,300 of them.
DECODER = json.JSONDecoder(parse_int=Decimal, parse_float=Decimal)
BETWEEN = re.compile(r"[\s,:]*")


def events(data):
    """The events of a Kinesis record, or of an object of the archive, each with its line. A record may hold several."""
    for line in data.splitlines():
        yield DECODER.decode(line.decode()), line.decode()


def is_new(db, event):
    """Whether the event is later than all others of its key, which is then noted. If it is not: a repeat, skip it."""
    noted = db.execute(
        """INSERT INTO last_sequence VALUES (?, ?, ?)
           ON CONFLICT DO UPDATE SET sequence = excluded.sequence WHERE excluded.sequence > sequence""",
        (event["source"], event["partitionkey"], event["sequence"]),
    )
    return noted.rowcount == 1


def members(text):
    """The members of a JSON object, each value as the text that the object has. json.dumps would write other numbers."""
    found, end = {}, text.index("{") + 1
    while text[start := BETWEEN.match(text, end).end()] != "}":
        name, end = DECODER.raw_decode(text, start)
        start = BETWEEN.match(text, end).end()
        _, end = DECODER.raw_decode(text, start)
        found[name] = text[start:end]
    return found


def json_object(members):
    """The JSON object that has these members."""
    return "{" + ",".join(f"{json.dumps(name, ensure_ascii=False)}:{value}" for name, value in members.items()) + "}"
