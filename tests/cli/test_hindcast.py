"""A store of forecasts is whole or is not there, whenever its writer is killed; and what `nvp hindcast` refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nvp_agentkit.cli.hindcast.store import Begun, Place, Store
from nvp_agentkit.errors import StoreUnavailable

from .killed_hindcast import DIGEST, manifest


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_writer_that_is_killed_at_any_moment_leaves_what_the_next_one_ends_to_the_byte(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "tests.cli.killed_hindcast", str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    whole = files(tmp_path / "whole.zarr")
    assert {"mean/c/0/1/0/0/0", "std/c/0/1/0/0/0", "skill_over_best/c/0", "zarr.json"} <= whole.keys()
    killed = [path for path in tmp_path.iterdir() if path.stem.isdigit()]
    assert len(killed) > 5
    assert list(tmp_path.glob("*.partial")) == []
    for path in killed:
        assert files(path) == whole, path


@pytest.mark.parametrize(
    ("out", "steps", "said"),
    [
        ("X.npy/Y.zarr", 2, "there is no folder"),
        ("Y.nc", 2, "end its name with .zarr"),
        ("X.zarr/Y.zarr", 2, "lie in one another"),
        ("X.zarr", 2, "lie in one another"),
    ],
)
def test_what_could_not_be_written_is_refused_before_anything_is_asked_for(
    nvp, tmp_path: Path, out: str, steps: int, said: str
) -> None:
    (tmp_path / "X.zarr").mkdir()
    ran = nvp("hindcast", "--data", tmp_path / "X.zarr", "--out", tmp_path / out, "--domain", "rain", "--steps", steps)
    assert ran.status == 1
    assert said in ran.err.replace("\n", " ")


def test_what_is_no_hindcast_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "Y.zarr").mkdir()
    (tmp_path / "Y.zarr" / "zarr.json").write_text("{}")
    with pytest.raises(ValueError, match="holds something else than a hindcast"):
        Place(tmp_path / "Y.zarr").begun()
    (tmp_path / "Z.zarr.partial").mkdir()
    (tmp_path / "Z.zarr.partial" / "thesis").touch()
    with pytest.raises(ValueError, match="holds thesis, which is of no hindcast"):
        Store.open(Place(tmp_path / "Z.zarr"), manifest(), Begun.of(manifest(), DIGEST))


def test_a_disk_that_takes_no_more_is_told_with_the_part_and_gone_on_with(tmp_path: Path) -> None:
    work, place = manifest(), Place(tmp_path / "Y.zarr")
    store = Store.open(place, work, Begun.of(work, DIGEST))
    maps = np.ones((2, 2, 16, 16), np.float32)
    store.add(0, maps, maps)
    (place.growing / "std" / "c" / "0" / "1").write_text("in the way")
    with pytest.raises(StoreUnavailable, match=r"cannot write part 2 of 2 to .*Y\.zarr\.partial"):
        store.add(1, maps[:1], maps[:1])
    (place.growing / "std" / "c" / "0" / "1").unlink()
    assert Store.open(place, work, Begun.of(work, DIGEST)).parts == 1
