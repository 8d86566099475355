"""Files that users bring: .npy and .npz, read without trusting a byte of them.

Nothing is unpickled, nothing is allocated before the declared size has been compared with a limit and with the file,
and every refusal is one `InvalidFile` that names the value, the limit and the remedy.
"""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from nvp_agentkit.errors import InvalidFile
from nvp_agentkit.fields.masking import fill_invalid
from nvp_agentkit.fields.sequence import MIN_CELLS, FieldMeta, Floats, SequenceSet

MAX_CELLS = 2**27  # 512 MiB as float32
MAX_ENTRIES = 256  # arrays in one .npz
MAX_HEADER = 4096  # bytes; numpy's own headers have below 128
LARGEST = 1e15  # squares of larger values, and sums of those, leave float32
READ_AT_ONCE = 1 << 22
NPY_MAGIC = b"\x93NUMPY"
HEADER_FACTS = (
    rb"'descr': *'([<>=|]?(?:f[248]|[iu][1248]))'",
    rb"'fortran_order': *(True|False)",
    rb"'shape': *\(([0-9, ]{0,80})\)",
)


@dataclass(frozen=True)
class Header:
    """What an array says of itself; ``nbytes`` of data follow."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_user_file(
    path: Path, array: str | None = None, *, domain: str, units: str | None = None, dt_s: float = 1.0, dx_m: float = 1.0
) -> SequenceSet:
    """Sequences from ``path``: one array (T, H, W) or (N, T, H, W) of any real dtype; NaN becomes the mask.

    Args:
        path: a .npy or .npz, recognised by its first bytes.
        array: which array of an .npz; needed if several could be meant.
        domain, units, dt_s, dx_m: what the numbers mean; the file cannot say.

    Raises:
        InvalidFile: anything else.
    """
    if not path.is_file():
        raise InvalidFile(f"{path.name}: no such file; give the path of a .npy or .npz")
    try:
        with path.open("rb") as file:
            magic = file.read(6)
            file.seek(0)
            if magic == NPY_MAGIC:
                name, values = path.name, _read_array(file, path.name, path.stat().st_size)
            elif magic[:4] == b"PK\x03\x04":
                name, values = _read_archive(file, path.name, array)
            else:
                raise InvalidFile(f"{path.name} starts with {magic!r}; give a .npy or .npz from numpy.save or savez")
    except OSError as error:
        raise InvalidFile(f"{path.name}: cannot be read ({error.strerror or error})") from error
    return _sequences(values, name, FieldMeta(domain, units or "1", dt_s, dx_m, provenance={"file": name}))


def _read_archive(file: IO[bytes], filename: str, array: str | None) -> tuple[str, npt.NDArray[Any]]:
    try:
        with zipfile.ZipFile(file) as archive:
            entry = _choose(archive, filename, array)
            name = f"{filename}:{entry.filename.removesuffix('.npy')}"
            with archive.open(entry) as stream:
                return name, _read_array(stream, name, entry.file_size)
    except InvalidFile:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise InvalidFile(f"{filename}: broken or encrypted archive ({error}); use numpy.savez") from error


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
            return len(_read_header(stream, entry.filename).shape) in (3, 4)
    except InvalidFile:
        return True


def _read_header(stream: IO[bytes], name: str) -> Header:
    """Three facts, found by pattern: numpy's own reader evaluates the text and retries it as Python 2."""
    start = stream.read(8)
    version = start[6:7]
    if start[:6] != NPY_MAGIC or version not in (b"\x01", b"\x02", b"\x03"):
        raise InvalidFile(f"{name} starts with {start!r}, which is no array of numpy's; use numpy.save")
    length = int.from_bytes(stream.read(2 if version == b"\x01" else 4), "little")
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
    return Header(sides, order[1] == b"True", np.dtype(dtype[1].decode()))


def _read_array(stream: IO[bytes], name: str, size: int) -> npt.NDArray[Any]:
    """The array of ``stream``, of which ``size`` bytes are said to exist. Bounded whatever its header claims."""
    header = _read_header(stream, name)
    _check_header(header, name, size)
    values: npt.NDArray[Any] = np.empty(math.prod(header.shape), header.dtype)
    room, done = memoryview(values.view(np.uint8).data), 0
    while done < len(room):
        piece = stream.read(min(READ_AT_ONCE, len(room) - done))
        if not piece:
            raise InvalidFile(f"{name}: ends after {done} of {len(room)} bytes; the file was cut short, copy it again")
        room[done : done + len(piece)] = piece
        done += len(piece)
    return values.reshape(header.shape, order="F" if header.fortran else "C")


def _check_header(header: Header, name: str, size: int) -> None:
    shape, cells = header.shape, math.prod(header.shape)
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise InvalidFile(f"{name}: shape {shape}; give (T, H, W) or (N, T, H, W), no axis empty")
    if min(shape[-2:]) < MIN_CELLS:
        raise InvalidFile(f"{name}: {shape[-2]} x {shape[-1]} cells, limit {MIN_CELLS} a side; bring a larger field")
    if cells > MAX_CELLS:
        raise InvalidFile(f"{name}: shape {shape} is {cells:,} cells, limit {MAX_CELLS:,}; cut it in time or space")
    if header.nbytes > size:
        raise InvalidFile(f"{name}: shape {shape} needs {header.nbytes:,} bytes, not {size:,}; copy it again")


def _sequences(values: npt.NDArray[Any], name: str, meta: FieldMeta) -> SequenceSet:
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes Inf, which is refused in a moment
        real: Floats = np.ascontiguousarray(values, np.float32).reshape((-1, *values.shape[-3:]))
    mask = ~np.isnan(real)
    if (huge := mask & ~(np.abs(real) <= LARGEST)).any():
        where = tuple(int(axis) for axis in np.argwhere(huge)[0])
        raise InvalidFile(
            f"{name}: {real[where]:g} at {where}, limit {LARGEST:g}; mark missing values as NaN, or change the unit"
        )
    if not mask.any():
        raise InvalidFile(f"{name}: every value is NaN; at least one must be observed")
    low, high = float(np.nanmin(real)), float(np.nanmax(real))
    if low == high:
        raise InvalidFile(f"{name}: every value is {low:g}; a field that never changes needs no forecast")
    if not mask.all():
        real = np.stack([fill_invalid(*pair) for pair in zip(real, mask, strict=True)])
    return SequenceSet(real, None if mask.all() else mask, replace(meta, positive=low >= 0))
