"""Sequences on disk: one safetensors file, opened without reading its arrays.

"values" (N, T, H, W) F32, optionally "mask" (N, T, H, W) U8 (1 = observed), and the field's meaning as canonical
JSON in the metadata entry ``nvp``. One set of sequences gives one sequence of bytes, so its digest names it.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from nvp_agentkit.errors import InvalidFile
from nvp_agentkit.fields.sequence import FieldMeta, SequenceSet

MAX_HEADER = 1 << 20  # bytes; a header of ours is below 4 KiB
DTYPES: dict[str, tuple[str, np.dtype[Any]]] = {"values": ("F32", np.dtype("<f4")), "mask": ("U8", np.dtype("u1"))}


def save(sequences: SequenceSet, path: Path) -> None:
    """Write ``sequences``; equal sets give equal bytes."""
    arrays: dict[str, npt.NDArray[Any]] = {"values": np.ascontiguousarray(sequences.values, dtype="<f4")}
    if sequences.mask is not None:
        arrays["mask"] = np.ascontiguousarray(sequences.mask, dtype=np.uint8)
    save_file(arrays, path, metadata={"nvp": sequences.meta.to_json()})


def open_sequences(path: Path) -> SequenceSet:
    """Memory-map what `save` wrote: costs the header, whatever the size of the file.

    Raises:
        InvalidFile: not such a file, cut short, or its header promises other sizes than the file has.
    """
    try:
        size = path.stat().st_size
        header, start = _header(path, size)
        arrays = {name: _map(path, header[name], name, start, size) for name in DTYPES if name in header}
        meta = FieldMeta.from_json(header["__metadata__"]["nvp"])
        mask = arrays.get("mask")
        return SequenceSet(arrays["values"], None if mask is None else mask.view(np.bool_), meta)
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


def _map(path: Path, entry: dict[str, Any], name: str, start: int, size: int) -> npt.NDArray[Any]:
    code, dtype = DTYPES[name]
    shape = tuple(int(side) for side in entry["shape"])
    begin, end = (int(offset) for offset in entry["data_offsets"])
    needed = math.prod(shape) * dtype.itemsize
    if entry["dtype"] != code or begin < 0 or end - begin != needed or start + end > size:
        raise ValueError(f"{name} {entry['dtype']} {shape} at {begin}..{end} does not fit a file of {size} bytes")
    return np.memmap(path, dtype=dtype, mode="r", offset=start + begin, shape=shape)
