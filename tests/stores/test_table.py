"""The tables in the docs name every contract test and every server, and all passed that it can do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from functools import cache

import pytest

from tests.stores import table
from tests.stores.servers import CANNOT, CONTRACT, GRAPHS, STREAMS, TESTS


@cache
def collected() -> dict[str, dict[table.Test, str]]:
    """All contract tests as passed, by server, but for what one cannot do."""
    paths = [f"tests/{part}" for part in CONTRACT]
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "NVP_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n0", *paths],
        cwd=TESTS.parent, env=ours, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, dict[table.Test, str]] = defaultdict(dict)
    for test, server in filter(None, map(table.test_and_server, done.stdout.splitlines())):
        found[server][test] = "skipped" if test in CANNOT.get(server, {}) else "passed"
    return found


def test_the_tables_are_up_to_date() -> None:
    written = table.PAGE.read_text().partition(table.MARK)[2].lstrip("\n")
    outcomes, says = table.parse(written)
    stale = sorted({
        f"tests/{file}"
        for server in (*STREAMS, *GRAPHS)
        for (file, _), _ in outcomes[server].items() ^ collected()[server].items()
    })  # fmt: skip
    assert stale == [], f"run `make real-stores` once, then `make stores-table ARGS='{' '.join(stale)}'`"
    assert written == table.render(outcomes, says)


def test_each_server_runs_the_same_tests() -> None:
    for first, *others in (STREAMS, GRAPHS):
        assert len(collected()[first]) > 40
        assert all(collected()[other].keys() == collected()[first].keys() for other in others)


def test_a_table_of_fewer_servers_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    test = ("streams/test_leases.py", "test_a_long_handler_keeps_its_lease")
    monkeypatch.setattr(table, "KINDS", {"Stream servers": {"valkey": None}})
    made = table.render({"valkey": {test: "passed"}}, {"valkey": "Valkey 9.1.2"})
    monkeypatch.undo()
    assert table.parse(made) == ({"valkey": {test: "passed"}}, {"valkey": "Valkey 9.1.2"})


def test_a_failure_shows_in_the_tables() -> None:
    test = ("streams/test_leases.py", "test_a_long_handler_keeps_its_lease")
    outcomes = {"valkey": {test: "passed"}, "redis-server": {test: "failed"}, "redis-6.2": {test: "skipped"}}
    says = {"valkey": "Valkey 9.1.2", "redis-server": "Redis 7.0.15", "redis-6.2": "Redis 6.2.5"}
    made = table.render(outcomes, says)
    assert "| test | Valkey 9.1.2 | Redis 7.0.15 | Redis 6.2.5 |" in made
    assert "| a long handler keeps its lease | passed | failed | skipped |" in made
    assert table.parse(made)[0] == outcomes
