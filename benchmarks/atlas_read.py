"""Random windows through our reader against raw h5py and zarr reads of the same chunks, and our store against h5py.

A window is five frames of 256 x 256 from a random place, as a training step or a forecast takes it; no two of ten
begin in the same sixteen frames, so that few find their chunk unpacked still (both sides keep some). Both sides have
their file open and read the same windows in turn, so the disk's cache serves both; the figures are ratios of
throughput, ours over raw, of medians over the rounds. What ours does more: values as float32, missing ones as NaN.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr

from benchmarks.verdict import Figure
from nvp_agentkit.arrayfile import open_array
from nvp_agentkit.fields import FieldMeta, SequenceSet, open_sequences, save
from nvp_agentkit.fields.writers import write_netcdf, write_zarr

FRAMES, SIDE, TOGETHER, A_CHUNK = 160, 256, 5, 16
WINDOWS, ROUNDS, QUICK_ROUNDS = 40, 9, 3
FLOOR = 0.8
Window = Callable[[int], Any]


def measure(*, quick: bool) -> dict[str, Figure]:
    """Each format in turn, in each round."""
    starts = _starts()
    with tempfile.TemporaryDirectory(prefix="nvp-atlas-") as folder, ExitStack() as files:
        sides = {name: files.enter_context(pair) for name, pair in _pairs(Path(folder)).items()}
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for number in range(1 + (QUICK_ROUNDS if quick else ROUNDS)):
            for name, (ours, raw) in sides.items():
                pair = _timed(ours, starts), _timed(raw, starts)
                if number:  # the first fills the caches
                    took[name].append(pair)
    figures = {}
    for name, pairs in took.items():
        ours_s, raw_s = (statistics.median(side) for side in zip(*pairs, strict=True))
        figures[f"{name}_ratio"] = Figure(round(raw_s / ours_s, 3), "x", floor=FLOOR, higher_is_better=True)
        figures[f"{name}_ms"] = Figure(round(1000 * ours_s / WINDOWS, 2), "ms")
    return figures


def _starts() -> list[int]:
    rng = np.random.default_rng(0)
    chunks = np.concatenate([rng.permutation(FRAMES // A_CHUNK) for _ in range(WINDOWS * A_CHUNK // FRAMES)])
    starts: list[int] = np.minimum(A_CHUNK * chunks + rng.integers(0, A_CHUNK, WINDOWS), FRAMES - TOGETHER).tolist()
    return starts


def _timed(window: Window, starts: list[int]) -> float:
    began = time.perf_counter()
    for start in starts:
        window(start)
    return time.perf_counter() - began


def _pairs(folder: Path) -> dict[str, Any]:
    """Name -> a context that opens (ours, raw)."""
    values = _turbulent()
    sequences = SequenceSet(values, None, FieldMeta("rain", "mm/h", 120.0, 1000.0))
    write_netcdf(sequences, folder / "packed.nc")
    write_zarr(sequences, folder / "packed.zarr")
    save(sequences, folder / "sequences")
    with h5py.File(folder / "plain.h5", "w") as file:
        file["rain"] = values
    packed = zarr.open_array(folder / "packed.zarr" / "energy", mode="r")
    return {
        "netcdf": _pair(folder / "packed.nc", _hdf5(folder / "packed.nc", "energy")),
        "hdf5_plain": _pair(folder / "plain.h5", _hdf5(folder / "plain.h5", "rain")),
        "zarr": _pair(folder / "packed.zarr", lambda start: packed[0, start : start + TOGETHER]),
        "sequences": _stored(folder / "sequences", folder / "plain.h5"),
    }


def _turbulent() -> Any:
    """Values that pack about as well as a measured field: smooth, with noise in the last digits."""
    rng = np.random.default_rng(1)
    coarse = rng.normal(size=(FRAMES, SIDE // 8, SIDE // 8)).cumsum(0).repeat(8, 1).repeat(8, 2)
    return np.round(coarse + 0.01 * rng.normal(size=coarse.shape), 3).astype(np.float32)[None]


def _hdf5(path: Path, name: str) -> Window:
    array = h5py.File(path, "r")[name]
    return lambda start: array[0, start : start + TOGETHER]


@contextmanager
def _pair(path: Path, raw: Window) -> Iterator[tuple[Window, Window]]:
    with open_array(path) as opened:
        if not np.array_equal(opened.window(0, 3, TOGETHER).squeeze(), np.squeeze(raw(3))):
            raise ValueError(f"{path.name}: ours and raw differ")
        yield (lambda start: opened.window(0, start, TOGETHER)), raw


@contextmanager
def _stored(path: Path, plain: Path) -> Iterator[tuple[Window, Window]]:
    """Our own store, memory-mapped, against the same bytes through h5py."""
    stored = open_sequences(path)
    yield (lambda start: np.array(stored.values[0, start : start + TOGETHER])), _hdf5(plain, "rain")
