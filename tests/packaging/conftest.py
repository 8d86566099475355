"""The distributions under test, made of this checkout."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import build
import pytest

ROOT = Path(__file__).resolve().parents[2]

Built = Callable[[Path, Literal["sdist", "wheel"], Path], Path]


def _quietly(cmd: Sequence[str], cwd: str | None = None, extra_environ: Mapping[str, str] | None = None) -> None:
    subprocess.run(cmd, cwd=cwd, env=os.environ | dict(extra_environ or {}), check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def built() -> Built:
    """Makes a distribution of a folder, by the backend of ``pyproject.toml`` that is installed here: no download."""
    return lambda source, kind, into: Path(build.ProjectBuilder(source, runner=_quietly).build(kind, into))


@pytest.fixture(scope="session")
def wheel(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))
