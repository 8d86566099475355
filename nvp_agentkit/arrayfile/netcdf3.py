"""NetCDF classic files: a header of names and numbers, then big-endian values (NetCDF User Guide, appendix B).

Version 1 (``CDF\\x01``), 2 (64-bit offsets) and 5 (64-bit data). Read here, not through SciPy, which loads or maps
whole variables when it opens a file.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from nvp_agentkit.arrayfile.limits import MAX_METADATA, MAX_OBJECTS, check_stored
from nvp_agentkit.arrayfile.variable import Catalogue, Selection, Variable, exactly, slab
from nvp_agentkit.errors import InvalidFile

TYPES = {1: "i1", 2: "S1", 3: ">i2", 4: ">i4", 5: ">f4", 6: ">f8", 7: "u1", 8: ">u2", 9: ">u4", 10: ">i8", 11: ">u8"}
DIMENSIONS, VARIABLES, ATTRIBUTES = 10, 11, 12
MAX_AXES = 16
STREAMING = -1  # number of records that the writer never filled in


@dataclass(frozen=True)
class _Laid:
    """Where a variable lies; its first axis is of records if ``record``."""

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    attrs: dict[str, Any]
    begin: int
    record: bool

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize


class _Header:
    def __init__(self, stream: IO[bytes], version: int) -> None:
        self._stream = stream
        self._count = ">i8" if version == 5 else ">i4"
        self._offset = ">i4" if version == 1 else ">i8"

    def number(self, dtype: str) -> int:
        return int(exactly(self._stream, 1, np.dtype(dtype))[0])

    def size(self) -> int:
        return self.number(self._count)

    def entries(self, tag: int) -> range:
        found, count = self.number(">i4"), self.size()
        if found not in (0, tag) or not 0 <= count <= MAX_OBJECTS or (found == 0 and count):
            raise InvalidFile(f"list {found} of {count:,} entries in the header, limit {MAX_OBJECTS:,}; copy it again")
        return range(count)

    def values(self, dtype: str, count: int) -> npt.NDArray[Any]:
        nbytes = count * np.dtype(dtype).itemsize
        if not 0 <= nbytes <= MAX_METADATA:
            raise InvalidFile(f"{nbytes:,} bytes of one name or attribute, limit {MAX_METADATA:,}; copy it again")
        found = exactly(self._stream, count, np.dtype(dtype))
        self._stream.read(-nbytes % 4)
        return found

    def name(self) -> str:
        return self.values("u1", self.size()).tobytes().decode()

    def attributes(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in self.entries(ATTRIBUTES):
            name, dtype = self.name(), self.type()
            values = self.values(dtype, self.size())
            found[name] = values.tobytes() if dtype == "S1" else values
        return found

    def type(self) -> str:
        number = self.number(">i4")
        if number not in TYPES:
            raise InvalidFile(f"values of type {number}, known are 1 to {max(TYPES)}; copy it again")
        return TYPES[number]

    def variable(self, axes: list[tuple[str, int]], records: int) -> _Laid:
        name, rank = self.name(), self.size()
        if not 0 <= rank <= MAX_AXES:
            raise InvalidFile(f"{name[:40]}: {rank} axes, limit {MAX_AXES}; copy it again")
        numbers = [self.size() for _ in range(rank)]
        if any(not 0 <= number < len(axes) for number in numbers):
            raise InvalidFile(f"{name[:40]}: axes {numbers}, and the file has {len(axes)}; copy it again")
        attrs, dtype = self.attributes(), self.type()
        self.size()  # bytes a record, as the writer rounded them: not to be believed, and not needed
        record = bool(numbers) and axes[numbers[0]][1] == 0
        dims = tuple(axes[number][0] for number in numbers)
        shape = tuple(records if number == 0 and record else axes[at][1] for number, at in enumerate(numbers))
        return _Laid(name, dims, shape, np.dtype(dtype), attrs, self.number(self._offset), record)


def netcdf3(path: Path, files: ExitStack) -> Catalogue:
    """What a classic NetCDF file has."""
    stream = files.enter_context(path.open("rb"))
    header = _Header(stream, stream.read(4)[3])
    records = header.size()
    axes = [(header.name(), header.size()) for _ in header.entries(DIMENSIONS)]
    if any(size < 0 for _, size in axes):
        raise InvalidFile(f"{path.name}: an axis of negative length; copy it again")
    header.attributes()  # of the file
    laid = [header.variable(axes, max(records, 0)) for _ in header.entries(VARIABLES)]
    together = [one for one in laid if one.record]
    stride = sum(-(-one.row_bytes // 4) * 4 for one in together)
    if len(together) == 1:
        stride = together[0].row_bytes  # a lone variable of records is not padded
    size = path.stat().st_size
    unreadable = {}
    if records == STREAMING:
        unreadable = {one.name: "its number of records was never written; copy it with nccopy" for one in together}
    kept = [one for one in laid if one.name not in unreadable]
    return Catalogue({one.name: _variable(one, stream, size, stride) for one in kept}, unreadable)


def _variable(laid: _Laid, stream: IO[bytes], size: int, stride: int) -> Variable:
    def read(selection: Selection) -> npt.NDArray[Any]:
        rows = laid.shape[0] if laid.record else 1
        row_bytes = laid.row_bytes if laid.record else math.prod(laid.shape) * laid.dtype.itemsize
        needed = (rows - 1) * stride + row_bytes if rows else 0
        check_stored(laid.name, laid.shape, needed, size - laid.begin, packed=False)
        return slab(stream, laid.begin, laid.shape, laid.dtype, selection, stride if laid.record else 0)

    return Variable(laid.name, laid.dims, laid.shape, laid.dtype, laid.attrs, read)
