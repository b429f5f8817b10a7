"""Runs a script in DuckDB, then the queries of standard input (a JSON list), and prints their rows as JSON, all values as text."""

import json
import sys

import duckdb

connection = duckdb.connect()
connection.execute("SET TimeZone = 'UTC'")
with open(sys.argv[1], encoding="utf-8") as file:
    connection.execute(file.read())
answers = []
for query in json.load(sys.stdin):
    rows = connection.execute(query).fetchall()
    answers.append([[None if value is None else str(value) for value in row] for row in rows])
json.dump(answers, sys.stdout)
