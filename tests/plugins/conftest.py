"""Packages of somebody else's, as an installer leaves them: modules and a ``.dist-info`` on the path."""

from __future__ import annotations

import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "foreign_forecaster"
PAGE = ROOT / "docs" / "extending.md"

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """``install(name, version, {module: source}, entry_points)``; ``entry_points`` as in a ``pyproject.toml``."""
    folder = tmp_path / "site"
    folder.mkdir()
    brought: list[str] = []

    def one(name: str, version: str, modules: dict[str, str], entry_points: dict[str, dict[str, str]]) -> None:
        for module, source in modules.items():
            (folder / f"{module}.py").write_text(source)
        about = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = [
            line
            for group, named in entry_points.items()
            for line in (f"[{group}]", *(f"{entry} = {value}" for entry, value in named.items()))
        ]
        (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
        brought.extend(modules)
        monkeypatch.syspath_prepend(folder)

    yield one
    for module in brought:
        sys.modules.pop(module, None)
    shutil.rmtree(folder)


@pytest.fixture
def example(install: Install) -> None:
    """The package in ``examples/foreign_forecaster``."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    source = (EXAMPLE / "damped_waves.py").read_text()
    install(project["name"], project["version"], {"damped_waves": source}, project["entry-points"])
