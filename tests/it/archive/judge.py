"""Parses a script of standard input in the dialect given. A statement that sqlglot does not know is an error, not a guess.

Athena takes one statement at a time, and each may be Hive's or Trino's: a blank line ends a statement.
"""

import logging
import re
import sys

import sqlglot
from sqlglot import exp

logging.disable(logging.WARNING)
texts = [text for text in re.split(r";\n(?=\n|$)", sys.stdin.read()) if text.strip()]
statements = [sqlglot.parse_one(text, dialect=sys.argv[1]) for text in texts]
for statement in statements:
    if isinstance(statement, exp.Command) or not isinstance(statement, exp.Create):
        sys.exit(f"not understood: {statement.sql(dialect=sys.argv[1])[:300]}")
print(len(statements))
