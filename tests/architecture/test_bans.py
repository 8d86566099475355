"""What no module may do: read the environment, unpickle."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUFF = [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--no-cache", "--ignore-noqa"]
UNSAFE = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def ruff(*arguments: str, source: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RUFF, *arguments], cwd=ROOT, input=source, capture_output=True, text=True, check=False)


def test_settings_alone_read_the_environment() -> None:
    done = ruff("nvp_agentkit", "workers")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("folder", ["nvp_agentkit/streams", "nvp_agentkit/model", "workers"])
@pytest.mark.parametrize(
    "line",
    [
        "import os; os.environ['X']",
        "import os; os.getenv('X')  # noqa: TID251",
        "from os import environ",
        "import pickle",
        "from pickle import loads",
    ],
)
def test_the_ban_bites(folder: str, line: str) -> None:
    done = ruff("--stdin-filename", f"{folder}/probe.py", "-", source=line.replace("; ", "\n") + "\n")
    assert done.returncode == 1
    assert "TID251" in done.stdout


def test_nothing_unpickles() -> None:
    found = []
    for folder in ("nvp_agentkit", "workers", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if unpickles(node):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}")  # type: ignore[attr-defined]
    assert found == []


@pytest.mark.parametrize("line", ["import pickle", "from dill import loads", "np.load(f, allow_pickle=True)"])
def test_an_unpickling_line_is_seen(line: str) -> None:
    assert any(unpickles(node) for node in ast.walk(ast.parse(line)))


def unpickles(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any(alias.name.partition(".")[0] in UNSAFE for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return node.level == 0 and (node.module or "").partition(".")[0] in UNSAFE
    if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
        return not (isinstance(node.value, ast.Constant) and node.value.value is False)
    return False
