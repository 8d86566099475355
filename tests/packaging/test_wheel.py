"""What is shipped: one top-level name, with the workers and the published contract inside it."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import nvp_agentkit

ROOT = Path(__file__).resolve().parents[2]
DATA = {".lua", ".cypher", ".json", ".typed", ".safetensors"}


@pytest.fixture(scope="module")
def shipped(wheel: Path) -> set[str]:
    """Every file of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def sources(folder: str) -> set[str]:
    """Files of ``folder`` that belong into a wheel, relative to the repository."""
    paths = (ROOT / folder).rglob("*")
    return {str(path.relative_to(ROOT)) for path in paths if path.suffix in DATA | {".py"} and _ours(path)}


def _ours(path: Path) -> bool:
    return not any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(ROOT).parts)


def test_the_only_name_is_ours(shipped: set[str]) -> None:
    tops = {name.partition("/")[0] for name in shipped}
    assert tops == {"nvp_agentkit", f"nvp_agentkit-{nvp_agentkit.__version__}.dist-info"}


@pytest.mark.parametrize("folder", ["workers", "schemas"])
def test_what_is_linked_is_shipped_inside(shipped: set[str], folder: str) -> None:
    expected = {f"nvp_agentkit/{name}" for name in sources(folder)}
    assert len(expected) > 10
    assert expected <= shipped


def test_the_library_is_whole(shipped: set[str]) -> None:
    assert sources("nvp_agentkit") <= shipped
    assert "nvp_agentkit/py.typed" in shipped
    assert {Path(name).parent.parent.name for name in shipped if name.endswith(".lua")} == {"energy", "streams"}


def test_nothing_else_is_shipped(shipped: set[str]) -> None:
    files = {name for name in shipped if name.startswith("nvp_agentkit/")}
    assert {Path(name).suffix for name in files} == DATA | {".py"}
    assert not [name for name in files if {"tests", "benchmarks", "examples"} & set(Path(name).parts)]


def test_the_wheel_says_who_it_is(unpacked: Path) -> None:
    about = next(unpacked.glob("*.dist-info"))
    metadata = email.message_from_string((about / "METADATA").read_text())
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    extras = set(metadata.get_all("Provides-Extra") or [])
    assert {"all", "model", "graph", "sim", "embedded", "observability"} <= extras
    assert "nvp = nvp_agentkit.cli:main" in (about / "entry_points.txt").read_text()
    assert (about / "licenses" / "LICENSE").is_file()


def test_it_finds_its_files_outside_a_checkout(unpacked: Path, tmp_path: Path) -> None:
    program = (
        "from nvp_agentkit import workers; from nvp_agentkit.messages.schema import SCHEMAS, documents;"
        "from nvp_agentkit.lineage.migrate import packaged; from nvp_agentkit.streams.scripts import _source;"
        "assert packaged() and _source('complete'); print(workers.__file__);"
        "[print(SCHEMAS / name) for name, text in documents().items() if (SCHEMAS / name).read_text() != text]"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(unpacked)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.split() == [str(unpacked / "nvp_agentkit" / "workers" / "__init__.py")]


def test_the_source_distribution_makes_the_same_wheel(
    wheel: Path, shipped: set[str], built: Callable[[Path, str, Path], Path], tmp_path: Path
) -> None:
    with tarfile.open(built(ROOT, "sdist", tmp_path)) as archive:
        assert not [member.name for member in archive if member.issym() or member.islnk()]
        archive.extractall(tmp_path, filter="data")
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    with zipfile.ZipFile(built(folder, "wheel", tmp_path)) as again, zipfile.ZipFile(wheel) as first:
        assert set(again.namelist()) == shipped
        assert [name for name in shipped if again.read(name) != first.read(name)] == []
