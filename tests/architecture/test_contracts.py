"""Imports point one way: the contracts of ``pyproject.toml`` hold, and each of them can fail."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = "Imports point down, and every package has its row"
PHYSICS = "Physics knows no system: no store, no network, no clock, no process"
SYSTEM = "The system knows no physics: no field, no model, no JAX"
CHILD = "A compute child has no network and no store"
DOORS = "One door to the graph, one to the buckets"
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"


def lint(folder: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", LINT], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package and its contracts, to be broken; links become folders, as in the wheel."""
    ignored = shutil.ignore_patterns("__pycache__", "*.lua")
    shutil.copytree(ROOT / "nvp_agentkit", tmp_path / "nvp_agentkit", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path / "nvp_agentkit"


def test_every_contract_is_kept() -> None:
    status, told = lint(ROOT)
    assert status == 0, told
    assert all(f"{name} KEPT" in told for name in (ROWS, PHYSICS, SYSTEM, CHILD, DOORS))


def test_a_package_in_no_row_fails(copy: Path) -> None:
    (copy / "annex").mkdir()
    (copy / "annex" / "__init__.py").touch()
    status, told = lint(copy.parent)
    assert status == 1
    assert "annex" in told


def test_each_contract_names_who_breaks_it(copy: Path) -> None:
    broken = {
        ROWS: ("errors.py", "from nvp_agentkit.messages import values"),
        PHYSICS: ("fields/masking.py", "import time"),
        SYSTEM: ("energy/names.py", "import jax"),
        CHILD: ("workers/compute/operations/machine.py", "import redis"),
        DOORS: ("workers/recorder.py", "import neo4j"),
    }
    for module, line in broken.values():
        with (copy / module).open("a") as source:
            source.write(f"\n{line}\n")
    status, told = lint(copy.parent)
    assert status == 1
    assert [name for name in broken if f"{name} BROKEN" not in told] == []


def test_workers_name_their_own_modules_relatively() -> None:
    """The folder has two import names; a module imported by both would exist twice."""
    absolute = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "workers").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.ImportFrom) and node.level == 0 and _is_workers(node.module or ""))
        or (isinstance(node, ast.Import) and any(_is_workers(alias.name) for alias in node.names))
    ]
    assert absolute == []


def _is_workers(module: str) -> bool:
    return module.startswith(("workers", "nvp_agentkit.workers"))
