"""A variable of a file, as every format gives it: named axes, attributes, and a way to read a part."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from nvp_agentkit.arrayfile.limits import MAX_COORDINATE
from nvp_agentkit.errors import InvalidFile

Selection = tuple[slice, ...]
Stream = io.BufferedIOBase | IO[bytes]
Read = Callable[[Selection], npt.NDArray[Any]]


@dataclass(frozen=True)
class Variable:
    """Nothing of it is read yet.

    Attributes:
        name: with its groups, as ``t0_fields/density``.
        dims: names of its axes, empty where the file has none.
        chunks: the pieces it is stored in; None if it lies in one.
        read: the part that slices (one an axis, steps of 1) choose, as it is stored.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    attrs: Mapping[str, Any]
    read: Read
    chunks: tuple[int, ...] | None = None

    @property
    def numeric(self) -> bool:
        return self.dtype.kind in "fiu"

    def text(self, attribute: str) -> str | None:
        """An attribute that is a text; None if there is none."""
        value = self.attrs.get(attribute)
        if isinstance(value, np.ndarray | list) and len(value) == 1:
            value = value[0]
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        return value.strip("\0 ") if isinstance(value, str) else None

    def coordinate(self) -> npt.NDArray[np.float64]:
        """All values of an axis. Raises `InvalidFile` if they are no numbers, or too many."""
        if not self.numeric or len(self.shape) != 1:
            raise InvalidFile(f"{self.name}: an axis of {self.dtype} {self.shape}; give one number a step")
        if self.shape[0] > MAX_COORDINATE:
            raise InvalidFile(f"{self.name}: {self.shape[0]:,} steps, limit {MAX_COORDINATE:,}; cut the file")
        return np.asarray(self.read((slice(0, self.shape[0]),)), np.float64)


@dataclass(frozen=True)
class Catalogue:
    """What a file has: ``variables`` by name, and what is there but cannot be read, with why."""

    variables: dict[str, Variable] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)


def slab(
    stream: Stream, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any], selection: Selection, stride: int = 0
) -> npt.NDArray[Any]:
    """A part of an array that lies at ``offset`` in one piece, or with ``stride`` bytes from row to row."""
    rows, inner = selection[0], shape[1:]
    row = math.prod(inner)
    if inner and rows.stop - rows.start == 1:  # of one trajectory no more is read than the frames in question
        offset += rows.start * (stride or row * dtype.itemsize)
        return slab(stream, offset, inner, dtype, selection[1:])[None]
    count = max(rows.stop - rows.start, 0)
    if stride in (0, row * dtype.itemsize):
        stream.seek(offset + rows.start * row * dtype.itemsize)
        found = exactly(stream, count * row, dtype).reshape(count, *inner)
    else:
        found = np.empty((count, *inner), dtype)
        for number in range(count):
            stream.seek(offset + (rows.start + number) * stride)
            found[number] = exactly(stream, row, dtype).reshape(inner)
    return found[(slice(None), *selection[1:])]


def exactly(stream: Stream, count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """So many values from where ``stream`` is.

    Raises:
        InvalidFile: it ends before.
    """
    values: npt.NDArray[Any] = np.empty(count, dtype)
    room, done = memoryview(values.view(np.uint8).data), 0
    while done < len(room):
        came = stream.readinto(room[done:])  # type: ignore[union-attr]
        if not came:
            raise InvalidFile(f"ends after {done:,} of {len(room):,} bytes; the file was cut short, copy it again")
        done += came
    return values
