"""Counts: what the database committed against what the reader of the stream saw. Exit 1 if a row is missing or out of order.

Waits until everything has arrived, at most as many seconds as the second argument says.
"""

import collections
import json
import sys
import time

from common import postgres

records_file, patience = sys.argv[1], float(sys.argv[2])


def history():
    rows = postgres().run("select table_name, key, op, version from audit.changes order by nr")
    return [(table, key, op, version) for table, key, op, version in rows]


def events():
    """Distinct events at their first appearance, and how often one came again."""
    seen, duplicates, altered = {}, 0, 0
    for record in open(records_file, encoding="utf-8"):
        if not record.endswith("\n"):
            break
        for line in json.loads(record)[3].splitlines():
            event = json.loads(line)
            if event["id"] in seen:
                duplicates += 1
                altered += seen[event["id"]] != line
            else:
                seen[event["id"]] = line
    return [json.loads(line) for line in seen.values()], duplicates, altered


def told(event):
    name = event["type"].rsplit(".v", 1)[0]
    table, op = name.rsplit(".", 1)
    version = None if op == "deleted" else (event["data"] or {}).get("version")
    return table, event["subject"], op, version


def compare(committed):
    seen, duplicates, altered = events()
    expected, found = collections.defaultdict(list), collections.defaultdict(list)
    for change in committed:
        expected[change[:2]].append(change)
    overtaken, last = set(), {}
    for event in seen:
        change = told(event)
        found[change[:2]].append(change)
        key = event["partitionkey"]
        if event["sequence"] < last.get(key, ""):
            overtaken.add(key)
        last[key] = max(event["sequence"], last.get(key, ""))
    missing = sum((collections.Counter(committed) - collections.Counter(map(told, seen))).values())
    strange = sum((collections.Counter(map(told, seen)) - collections.Counter(committed)).values())
    for key, changes in expected.items():
        present = collections.Counter(found[key])
        if found[key] != changes and present == collections.Counter(changes):
            overtaken.add(key[1])
    return len(seen), duplicates, altered, missing, strange, len(overtaken), len(expected)


committed = history()
deadline = time.monotonic() + patience
while True:
    published, duplicates, altered, missing, strange, overtaken, keys = compare(committed)
    if not missing or time.monotonic() > deadline:
        break
    time.sleep(0.5)

for name, value in [
    ("row changes committed", len(committed)),
    ("events published", published),
    ("missing", missing),
    ("of rows never committed", strange),
    ("repeated", duplicates),
    ("repeated with other bytes", altered),
    (f"out of order, in {keys:,} keys", overtaken),
]:
    print(f"      {value:>9,}  {name}")
sys.exit(bool(missing or strange or altered or overtaken))
