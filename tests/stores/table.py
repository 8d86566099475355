"""The tables in ``docs/stores.md``: ``make stores-table`` runs the contract with this module as a pytest plugin too."""

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
    return "\n".join(
        part
        for kind, servers in (("Stream servers", STREAMS), ("Graph servers", GRAPHS))
        for part in _table(kind, {name: outcomes.get(name, {}) for name in servers}, says)
    )


def _table(kind: str, outcomes: Outcomes, says: Mapping[str, str]) -> list[str]:
    lines = [f"## {kind}", "", f"| | {' | '.join(says.get(name, name) for name in outcomes)} |",
             f"|---|{'---|' * len(outcomes)}"]  # fmt: skip
    before = ""
    for file, test in sorted(set().union(*outcomes.values())):
        if file != before:
            lines.append(f"| **{_about(file)}** `tests/{file}` |{' |' * len(outcomes)}")
            before = file
        cells = (outcomes[name].get((file, test), "not run") for name in outcomes)
        lines.append(f"| {test.removeprefix('test_').replace('_', ' ')} | {' | '.join(cells)} |")
    return [*lines, ""]


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
    if not hasattr(session.config, "workerinput"):
        text, _, _ = PAGE.read_text().partition(MARK)
        PAGE.write_text(f"{text}{MARK}\n{render(_seen, _says)}")


if __name__ == "__main__":
    os.environ["NVP_REQUIRE_REAL"] = "1"
    contract = [f"tests/{part}" for part in CONTRACT]
    sys.exit(pytest.main(["-p", "tests.stores.table", "--ignore=tests/stores/test_table.py", *contract]))
