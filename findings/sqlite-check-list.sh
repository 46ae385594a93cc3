#!/usr/bin/env bash
# SQLite 3.54.1 (PyPI: apsw 3.54.1.0): a CHECK with a list of three or more values builds a table for
# each INSERT.
#
# Seen: for `CHECK (state IN (0, 1, 2))` the program of an INSERT holds `OpenEphemeral`, which makes a
# temporary B-tree, fills it with the three values and looks the new one up in it. With
# `IN (0, 1)` and with `BETWEEN 0 AND 2` it holds none. A statement that is prepared once does so
# at each run.
#
# One would guess otherwise, because the list is constant and the documentation calls a CHECK an
# expression: three comparisons would do. In a table that takes a row for each request, a range or
# comparisons joined by OR cost less.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check apsw==3.54.1.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import apsw

checks = {
    "state IN (0, 1)": 0,
    "state IN (0, 1, 2)": 1,
    "state BETWEEN 0 AND 2": 0,
    "state = 0 OR state = 1 OR state = 2": 0,
}
connection = apsw.Connection(":memory:")
print("SQLite", apsw.sqlite_lib_version())
seen = {}
for number, check in enumerate(checks):
    connection.execute(f"CREATE TABLE t{number} (id INTEGER PRIMARY KEY, state INTEGER CHECK ({check}))")
    program = connection.execute(f"EXPLAIN INSERT INTO t{number} VALUES (?, ?)", (1, 1))
    seen[check] = sum(step[1] == "OpenEphemeral" for step in program)
    print(f"CHECK ({check}): {seen[check]} tables for a row")
sys.exit(seen != checks)
PYTHON
