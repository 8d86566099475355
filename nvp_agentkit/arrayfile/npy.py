"""NumPy's own files, .npy and .npz. Nothing is unpickled: a header is three facts, found by pattern."""

from __future__ import annotations

import math
import re
import zipfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from nvp_agentkit.arrayfile.limits import MAX_CELLS, MAX_ENTRIES, check_stored
from nvp_agentkit.arrayfile.variable import Selection, Variable, exactly, slab
from nvp_agentkit.errors import InvalidFile

MAX_HEADER = 4096  # bytes; numpy's own headers have below 128
NPY_MAGIC = b"\x93NUMPY"
HEADER_FACTS = (
    rb"'descr': *'([<>=|]?(?:f[248]|[iu][1248]))'",
    rb"'fortran_order': *(True|False)",
    rb"'shape': *\(([0-9, ]{0,80})\)",
)


@dataclass(frozen=True)
class Header:
    """What an array says of itself; its data follow after ``length`` bytes."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    length: int


def npy(path: Path, files: ExitStack) -> Variable:
    """The array of a .npy."""
    stream = files.enter_context(path.open("rb"))
    return _variable(path.name, read_header(stream, path.name), stream, path.stat().st_size, packed=False)


def npz(archive: zipfile.ZipFile, filename: str, array: str | None, files: ExitStack) -> Variable:
    """The array of an .npz that is asked for, or the only one that could be meant."""
    entry = _choose(archive, filename, array)
    name = f"{filename}:{entry.filename.removesuffix('.npy')}"
    stream = files.enter_context(archive.open(entry))
    header = read_header(stream, name)
    variable = _variable(name, header, stream, entry.file_size, packed=False)
    check_stored(name, header.shape, entry.file_size, max(entry.compress_size, 1), packed=True)
    return variable


def read_header(stream: IO[bytes], name: str) -> Header:
    """Three facts, found by pattern: numpy's own reader evaluates the text and retries it as Python 2."""
    start = stream.read(8)
    version = start[6:7]
    if start[:6] != NPY_MAGIC or version not in (b"\x01", b"\x02", b"\x03"):
        raise InvalidFile(f"{name} starts with {start!r}, which is no array of numpy's; use numpy.save")
    digits = 2 if version == b"\x01" else 4
    length = int.from_bytes(stream.read(digits), "little")
    if length > MAX_HEADER:
        raise InvalidFile(
            f"{name}: array header of {length:,} bytes, limit {MAX_HEADER}; use numpy.save on plain numbers"
        )
    text = stream.read(length)
    dtype, order, shape = (re.search(fact, text) for fact in HEADER_FACTS)
    if not (order and shape):
        raise InvalidFile(f"{name}: no readable array header ({text[:60]!r}); use numpy.save")
    if dtype is None:
        raise InvalidFile(
            f"{name}: not an array of real numbers ({text[:60]!r}); nothing is unpickled: convert it to float32"
        )
    sides = tuple(int(side) for side in shape[1].replace(b" ", b"").split(b",") if side)
    return Header(sides, order[1] == b"True", np.dtype(dtype[1].decode()), 8 + digits + length)


def _variable(name: str, header: Header, stream: IO[bytes], size: int, *, packed: bool) -> Variable:
    promised = math.prod(header.shape) * header.dtype.itemsize
    if header.shape:
        check_stored(name, header.shape, promised, size, packed=packed)

    def read(selection: Selection) -> npt.NDArray[Any]:
        return slab(stream, header.length, header.shape, header.dtype, selection)

    def read_whole(selection: Selection) -> npt.NDArray[Any]:
        """Of an array whose maps do not lie together."""
        if (cells := math.prod(header.shape)) > MAX_CELLS:
            raise InvalidFile(
                f"{name}: {cells:,} cells in Fortran order, limit {MAX_CELLS:,}; save numpy.ascontiguousarray of it"
            )
        stream.seek(header.length)
        return exactly(stream, cells, header.dtype).reshape(header.shape, order="F")[selection]

    return Variable(name, (), header.shape, header.dtype, {}, read_whole if header.fortran else read)


def _choose(archive: zipfile.ZipFile, filename: str, array: str | None) -> zipfile.ZipInfo:
    entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
    if len(entries) > MAX_ENTRIES:
        raise InvalidFile(f"{filename} holds {len(entries)} arrays, limit {MAX_ENTRIES}; save the one you mean alone")
    plain = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    if odd := [name for name, entry in entries.items() if entry.compress_type not in plain]:
        raise InvalidFile(f"{filename}:{odd[0][:40]} is packed in a way numpy never does; write it with numpy.savez")
    if array is None:
        entries = {name: entry for name, entry in entries.items() if _could_be_meant(archive, entry)}
        if len(entries) == 1:
            return next(iter(entries.values()))
    elif array in entries:
        return entries[array]
    names = ", ".join(name[:40] for name in list(entries)[:8]) or "none with 3 or 4 axes"
    asked = "several could be meant" if array is None else f"no array {array!r}"
    raise InvalidFile(f"{filename}: {asked}; arrays there: {names}. Name one as FILE.npz:NAME")


def _could_be_meant(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    """Has 3 or 4 axes, or a header that only a full reading can complain of."""
    try:
        with archive.open(entry) as stream:
            return len(read_header(stream, entry.filename).shape) in (3, 4)
    except InvalidFile:
        return True
