"""Rooms stay small: a file that wants more is two."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MOST_LINES = 300
MEDIAN_LINES = 150
FUNCTION_LINES = 50


def modules() -> Iterator[Path]:
    for folder in ("nvp_agentkit", "workers", "benchmarks"):
        yield from (path for path in sorted((ROOT / folder).rglob("*.py")) if not _through_link(path))


def _through_link(path: Path) -> bool:
    return any(parent.is_symlink() for parent in path.parents if parent != ROOT and ROOT in parent.parents)


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", (node.end_lineno or 0) - node.lineno + 1


def test_each_module_is_looked_at_once() -> None:
    names = [path.resolve() for path in modules()]
    assert len(names) == len(set(names)) > 100


def test_no_module_is_long() -> None:
    assert {str(path.relative_to(ROOT)): n for path in modules() if (n := lines(path)) > MOST_LINES} == {}


def test_most_modules_are_short() -> None:
    assert statistics.median(lines(path) for path in modules()) < MEDIAN_LINES


def test_no_function_is_long() -> None:
    assert {name: n for path in modules() for name, n in functions(path) if n >= FUNCTION_LINES} == {}
