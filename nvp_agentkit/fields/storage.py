"""Sequences on disk: one safetensors file, opened without reading its arrays.

"values" (N, T, H, W) F32, optionally "channel.NAME" likewise and "mask" (N, T, H, W) U8 (1 = observed), and the
field's meaning as canonical JSON in the metadata entry ``nvp``. One set of sequences gives one sequence of bytes, so
its digest names it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from nvp_agentkit.errors import InvalidFile
from nvp_agentkit.fields.sequence import FieldMeta, Floats, Mask, SequenceSet

MAX_HEADER = 1 << 20  # bytes; a header of ours is below 4 KiB
ALIGNMENT = 64
F32, U8 = ("F32", np.dtype("<f4")), ("U8", np.dtype("u1"))
CHANNEL = "channel."
NONE: Mapping[str, Floats] = MappingProxyType({})


class SequenceWriter:
    """Writes sequences some frames at a time, so that only the frames at hand need memory.

    Two facts are known only at the end and stand at the beginning: whether a cell has no value, and whether one is
    negative. So the header's place is as long as it can get, whatever it will say: equal sets give equal bytes.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], meta: FieldMeta, channels: Iterable[str] = ()) -> None:
        self._channels = tuple(channels)
        longest = _header_text(shape, replace(meta, positive=False), self._channels, masked=True)
        self._shape, self._cells = shape, math.prod(shape)
        self._start = -(-(8 + len(longest)) // ALIGNMENT) * ALIGNMENT
        self._file = path.open("wb")
        self._done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._file.close()

    def add(self, values: Floats, mask: Mask | None, channels: Mapping[str, Floats] = NONE) -> None:
        """The next frames (count, H, W), through all trajectories in their order; ``mask`` is None for all or none."""
        for place, one in enumerate([values, *(channels[name] for name in self._channels)]):
            self._file.seek(self._start + 4 * (place * self._cells + self._done))
            self._file.write(np.ascontiguousarray(one, "<f4").data)
        if mask is not None:
            self._file.seek(self._start + self._bytes - self._cells + self._done)
            self._file.write(np.ascontiguousarray(mask, np.uint8).data)
        self._done += values.size

    def finish(self, meta: FieldMeta, *, masked: bool) -> None:
        """All frames are there: say what they mean; a mask that hides nothing is dropped."""
        text = _header_text(self._shape, meta, self._channels, masked=masked).ljust(self._start - 8)
        self._file.seek(0)
        self._file.write(len(text).to_bytes(8, "little") + text)
        self._file.truncate(self._start + self._bytes - (0 if masked else self._cells))

    @property
    def _bytes(self) -> int:
        """Of all arrays, the mask included."""
        return (4 * (1 + len(self._channels)) + 1) * self._cells


def save(sequences: SequenceSet, path: Path) -> None:
    """Write ``sequences``; equal sets give equal bytes."""
    with SequenceWriter(path, sequences.values.shape, sequences.meta, sorted(sequences.channels)) as writer:
        for one in sequences:
            writer.add(one.values, one.mask, one.channels)
        writer.finish(sequences.meta, masked=sequences.mask is not None)


def _header_text(shape: tuple[int, ...], meta: FieldMeta, channels: tuple[str, ...], *, masked: bool) -> bytes:
    """As safetensors has it."""
    cells, end = math.prod(shape), 0
    said: dict[str, Any] = {"__metadata__": {"nvp": meta.to_json()}}
    for name in ("values", *(CHANNEL + channel for channel in channels)):
        said[name] = {"dtype": "F32", "shape": shape, "data_offsets": (end, end + 4 * cells)}
        end += 4 * cells
    if masked:
        said["mask"] = {"dtype": "U8", "shape": shape, "data_offsets": (end, end + cells)}
    return json.dumps(said, separators=(",", ":")).encode()


def open_sequences(path: Path) -> SequenceSet:
    """Memory-map what `save` wrote: costs the header, whatever the size of the file.

    Raises:
        InvalidFile: not such a file, cut short, or its header promises other sizes than the file has.
    """
    try:
        size = path.stat().st_size
        header, start = _header(path, size)
        meta = FieldMeta.from_json(header["__metadata__"]["nvp"])
        values = _map(path, header["values"], "values", F32, start, size)
        mask = _map(path, header["mask"], "mask", U8, start, size).view(np.bool_) if "mask" in header else None
        channels = {
            name.removeprefix(CHANNEL): _map(path, entry, name, F32, start, size)
            for name, entry in header.items() if name.startswith(CHANNEL)
        }  # fmt: skip
        return SequenceSet(values, mask, meta, channels)
    except OSError as error:
        raise InvalidFile(f"{path.name}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InvalidFile(f"{path.name}: not a file of sequences ({error}); make it anew") from error


def _header(path: Path, size: int) -> tuple[dict[str, Any], int]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER, size - 8):
            raise ValueError(f"header of {length} bytes in a file of {size}, limit {MAX_HEADER}")
        header: dict[str, Any] = json.loads(file.read(length))
        return header, 8 + length


def _map(
    path: Path, entry: dict[str, Any], name: str, stored: tuple[str, np.dtype[Any]], start: int, size: int
) -> npt.NDArray[Any]:
    code, dtype = stored
    shape = tuple(int(side) for side in entry["shape"])
    begin, end = (int(offset) for offset in entry["data_offsets"])
    needed = math.prod(shape) * dtype.itemsize
    if entry["dtype"] != code or begin < 0 or end - begin != needed or start + end > size:
        raise ValueError(f"{name} {entry['dtype']} {shape} at {begin}..{end} does not fit a file of {size} bytes")
    return np.memmap(path, dtype=dtype, mode="r", offset=start + begin, shape=shape)
