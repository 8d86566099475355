"""The tables in ``docs/stores.md``: `make stores-table` runs the contract with this module as a pytest plugin too.

``make stores-table ARGS=tests/lineage/test_walks.py`` runs one file and replaces its rows.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections import defaultdict
from collections.abc import Mapping

import pytest

from tests.stores.servers import CONTRACT, GRAPHS, STREAMS, TESTS

PAGE = TESTS.parent / "docs" / "stores.md"
MARK = "<!-- What follows is written by `make stores-table`. -->\n"
KINDS = {"Stream servers": STREAMS, "Graph servers": GRAPHS}
NODE = re.compile(rf"tests/([^:]+)::([\w:]+)\[(?:.*-)?({'|'.join([*STREAMS, *GRAPHS])})(?:-.*)?\]")

Test = tuple[str, str]  # file below tests/, name
Outcomes = Mapping[str, Mapping[Test, str]]  # by server

_seen: dict[str, dict[Test, str]] = defaultdict(dict)
_says: dict[str, str] = {}


def test_and_server(node_id: str) -> tuple[Test, str] | None:
    """Which contract test a node is, and on which server; None for any other."""
    found = NODE.match(node_id)
    return ((found[1], found[2]), found[3]) if found else None


def render(outcomes: Outcomes, says: Mapping[str, str]) -> str:
    """The tables; ``says`` is each server's name and version in its own words."""
    lines = []
    for kind, servers in KINDS.items():
        lines += [f"## {kind}", "", _row("test", *(says.get(name, name) for name in servers))]
        lines.append(_row("---", *("---" for _ in servers)))
        before = ""
        for file, test in sorted(set().union(*(outcomes.get(name, {}) for name in servers))):
            if file != before:
                lines.append(_row(f"**{_about(file)}** `{file}`", *("" for _ in servers)))
                before = file
            cells = (outcomes.get(name, {}).get((file, test), "not run") for name in servers)
            lines.append(_row(test.removeprefix("test_").replace("_", " "), *cells))
        lines.append("")
    return "\n".join(lines)


def parse(tables: str) -> tuple[dict[str, dict[Test, str]], dict[str, str]]:
    """What `render` was given; a server that came after that has no column yet."""
    outcomes: dict[str, dict[Test, str]] = defaultdict(dict)
    says: dict[str, str] = {}
    servers, file = iter(KINDS.values()), ""
    names: list[str] = []
    for line in tables.splitlines():
        first, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        if first == "test":
            names = list(next(servers))
            says.update(zip(names, cells, strict=False))
        elif first.startswith("**"):
            file = first.split("`")[-2]
        elif cells and first != "---":
            test = (file, f"test_{first.replace(' ', '_')}")
            for name, cell in zip(names, cells, strict=False):
                outcomes[name][test] = cell
    return outcomes, says


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _about(file: str) -> str:
    return (ast.get_docstring(ast.parse((TESTS / file).read_text())) or "").splitlines()[0]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Of a test's cases and phases the worst counts."""
    found = test_and_server(report.nodeid)
    if found is None:
        return
    test, server = found
    _says.update((server, said) for name, said in report.user_properties if name == "says")
    outcomes = ("passed", "skipped", "failed")
    _seen[server][test] = max(_seen[server].get(test, "passed"), report.outcome, key=outcomes.index)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Rows of files that were not run stay, unless they were run on other servers than these."""
    if hasattr(session.config, "workerinput"):
        return
    text, _, tables = PAGE.read_text().partition(MARK)
    known, said = parse(tables)
    run = {file for tests in _seen.values() for file, _ in tests}
    for server, tests in known.items() if said == _says else ():
        stay = {(file, test) for file, test in tests if file not in run and (TESTS / file).exists()}
        _seen[server].update((test, tests[test]) for test in stay)
    PAGE.write_text(f"{text}{MARK}\n{render(_seen, _says)}")


if __name__ == "__main__":
    os.environ["NVP_REQUIRE_REAL"] = "1"
    asked = sys.argv[1:] or [f"tests/{part}" for part in CONTRACT]
    options = ["-p", "tests.stores.table", "--ignore=tests/stores/test_table.py"]
    sys.exit(pytest.main([*options, *asked, "tests/stores/test_servers.py"]))
