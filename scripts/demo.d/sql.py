"""Runs SQL as superuser: the argument, or a file with -f. Prints the rows, values separated by a space."""

import sys

from common import postgres

connection = postgres()
text = open(sys.argv[2], encoding="utf-8").read() if sys.argv[1] == "-f" else sys.argv[1]
for row in connection.run(text) or []:
    print(*row)
