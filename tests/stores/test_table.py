"""The tables in the docs name every contract test and every server, and all passed when they were written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from functools import cache

from tests.stores import table
from tests.stores.servers import CONTRACT, GRAPHS, STREAMS, TESTS


@cache
def collected() -> dict[str, dict[table.Test, str]]:
    """All contract tests as passed, by server."""
    paths = [f"tests/{part}" for part in CONTRACT]
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "NVP_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n0", *paths],
        cwd=TESTS.parent, env=ours, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, dict[table.Test, str]] = defaultdict(dict)
    for test, server in filter(None, map(table.test_and_server, done.stdout.splitlines())):
        found[server][test] = "passed"
    return found


def test_the_tables_are_up_to_date() -> None:
    written = table.PAGE.read_text().partition(table.MARK)[2].lstrip("\n")
    headers = re.findall(r"(?m)^\| \| (.+) \|$", written)
    says = dict(zip([*STREAMS, *GRAPHS], " | ".join(headers).split(" | "), strict=True))
    assert written == table.render(collected(), says), "run `make real-stores stores-table`"


def test_each_server_runs_the_same_tests() -> None:
    found = collected()
    for servers in (STREAMS, GRAPHS):
        first, *others = servers
        assert len(found[first]) > 40
        assert all(found[other] == found[first] for other in others)


def test_a_failure_shows() -> None:
    test = ("streams/test_leases.py", "test_a_long_handler_keeps_its_lease")
    made = table.render({"valkey": {test: "passed"}, "redis-server": {test: "failed"}}, {"valkey": "Valkey 9.1.2"})
    assert "| | Valkey 9.1.2 | redis-server |" in made
    assert "| a long handler keeps its lease | passed | failed |" in made
