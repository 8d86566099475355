"""One door to all formats: an array of maps in an open file, of which windows are read."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nvp_agentkit.arrayfile.axes import COLUMN, ROW, TIME, TRAJECTORY, choose, roles
from nvp_agentkit.arrayfile.hdf5 import hdf5
from nvp_agentkit.arrayfile.limits import MAX_CELLS, guarded, named
from nvp_agentkit.arrayfile.meaning import Meaning, Said, meaning, real_values
from nvp_agentkit.arrayfile.netcdf3 import netcdf3
from nvp_agentkit.arrayfile.npy import NPY_MAGIC, npy, npz
from nvp_agentkit.arrayfile.store import DESCRIPTIONS, FolderStore, ZipStore, zip_root
from nvp_agentkit.arrayfile.variable import Catalogue, Variable
from nvp_agentkit.arrayfile.well import is_well, well
from nvp_agentkit.arrayfile.zarrs import zarr
from nvp_agentkit.errors import InvalidFile, InvalidInput

Floats = npt.NDArray[np.float32]
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ZIP_MAGIC = b"PK\x03\x04"
NETCDF3_MAGICS = (b"CDF\x01", b"CDF\x02", b"CDF\x05")
KNOWN = "give a .npy or .npz, HDF5, NetCDF, or Zarr as a folder or zip file"
OTHERS = {
    b"GRIB": "GRIB; convert it to NetCDF",
    b"II*\x00": "a TIFF; convert it to NetCDF",
    b"MM\x00*": "a TIFF; convert it to NetCDF",
    b"\x1f\x8b": "packed with gzip; unpack it",
}


@dataclass(frozen=True)
class OpenArray:
    """Sequences of maps in an open file. Nothing of them is read yet.

    Attributes:
        name: of file and array.
        shape: (N, T, H, W).
        meaning: what the file says of the numbers.
        frames_together: frames that are stored in one piece, so that reading fewer costs as much.
        channels: arrays of the same shape that belong to it, by name.
    """

    name: str
    shape: tuple[int, int, int, int]
    meaning: Meaning
    frames_together: int
    _read: Callable[[int, int, int], npt.NDArray[Any]]
    channels: Mapping[str, OpenArray] = field(default_factory=dict)

    def window(self, trajectory: int, first: int, count: int) -> Floats:
        """Frames ``first`` to ``first + count`` of one trajectory, (count, H, W); NaN where a value is missing.

        Raises:
            InvalidFile: more than `MAX_CELLS` at once, or a file that is shorter than it says, or broken.
        """
        if (cells := count * math.prod(self.shape[2:])) > MAX_CELLS:
            raise InvalidFile(
                f"{self.name}: shape {self.shape} is {cells:,} cells in {count} frames, limit {MAX_CELLS:,}; "
                "cut it in time or space"
            )
        with named(self.name), np.errstate(over="ignore", invalid="ignore"):  # beyond float32 is Inf, and refused later
            return np.ascontiguousarray(self._read(trajectory, first, count), np.float32)


def file_and_array(asked: str) -> tuple[Path, str | None]:
    """``rain.npz:rain_mm_h`` names an array of a file, unless a file of just that name is there."""
    name, colon, array = asked.rpartition(":")
    return (Path(name), array) if colon and not Path(asked).exists() else (Path(asked), None)


def existing(asked: str) -> tuple[Path, str | None]:
    """`file_and_array` of a file that is there.

    Raises:
        InvalidInput: it is not.
    """
    path, array = file_and_array(asked)
    if not path.exists():
        raise InvalidInput(f"{path}: no such file; give the path of a field, as FILE or FILE:ARRAY")
    return path, array


@contextmanager
def open_array(
    path: Path, array: str | None = None, *, dt_s: float | None = None, dx_m: float | None = None
) -> Iterator[OpenArray]:
    """The array of sequences in ``path``; see the package for what that may be.

    Args:
        path: a file, or a folder with a Zarr store.
        array: which array or variable; needed if several could be meant.
        dt_s, dx_m: distances that the caller knows, whatever the file says.

    Raises:
        InvalidFile: anything else.
        MissingExtra: a package that reads HDF5 or unpacks Zarr is not installed.
    """
    with ExitStack() as files:
        with guarded(path.name):
            found = _recognised(path, array, files)
            if isinstance(found, Variable):
                opened = _open(found, found.name, Catalogue(), Said(dt_s, dx_m))
            else:
                catalogue = well(found) if is_well(found) else found
                variable = choose(catalogue, path.name, array)
                opened = _open(variable, f"{path.name}:{variable.name}", catalogue, Said(dt_s, dx_m))
        yield opened


def _recognised(path: Path, array: str | None, files: ExitStack) -> Variable | Catalogue:
    """By its first bytes."""
    if path.is_dir() and any((path / name).is_file() for name in DESCRIPTIONS):
        return zarr(FolderStore(path))
    if not path.is_file():
        raise InvalidFile(f"{path.name}: no such file; {KNOWN}")
    with path.open("rb") as stream:
        magic = stream.read(8)
    if magic.startswith(NPY_MAGIC):
        return npy(path, files)
    if magic.startswith(ZIP_MAGIC):
        archive = files.enter_context(zipfile.ZipFile(path))
        root = zip_root(archive)
        return npz(archive, path.name, array, files) if root is None else zarr(ZipStore(archive, root))
    if magic == HDF5_MAGIC:
        return hdf5(path, files)
    if magic.startswith(NETCDF3_MAGICS):
        return netcdf3(path, files)
    other = next((text for start, text in OTHERS.items() if magic.startswith(start)), None)
    if other is not None:
        raise InvalidFile(f"{path.name} is {other}, or {KNOWN}")
    raise InvalidFile(f"{path.name} starts with {magic!r}; {KNOWN}")


def _open(variable: Variable, name: str, catalogue: Catalogue, said: Said) -> OpenArray:
    found = roles(variable, catalogue)
    place = {role: number for number, role in enumerate(found) if role}
    axes = [place[role] for role in (TRAJECTORY, TIME, ROW, COLUMN) if role in place]
    sides = [variable.shape[axis] for axis in axes]
    trajectories = 1 if TRAJECTORY not in place else sides.pop(0)
    frames, height, width = sides

    def read(trajectory: int, first: int, count: int) -> npt.NDArray[Any]:
        chosen = {TRAJECTORY: slice(trajectory, trajectory + 1), TIME: slice(first, first + count)}
        whole = [slice(0, side) for side in variable.shape]
        selection = tuple(chosen.get(role or "", every) for role, every in zip(found, whole, strict=True))
        raw = variable.read(selection)
        dropped = [number for number, role in enumerate(found) if role is None]
        ordered = raw.transpose(*dropped, *axes).reshape(count, height, width)
        return real_values(ordered, variable.attrs) if variable.attrs else ordered

    together = 1 if variable.chunks is None else variable.chunks[place[TIME]]
    shape = (trajectories, frames, height, width)
    return OpenArray(name, shape, meaning(variable, found, catalogue, said), max(min(together, frames), 1), read)
