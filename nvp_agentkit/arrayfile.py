"""Files of arrays that somebody brought, .npy and .npz, read without trusting a byte of them. Open to both columns.

Nothing is unpickled, nothing is allocated before the declared size has been compared with a limit and with the file,
and every refusal is one `InvalidFile` that names the value, the limit and the remedy.
"""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from nvp_agentkit.errors import InvalidFile

MAX_CELLS = 2**27  # read at once: 512 MiB as float32
MIN_SIDE = 16
MAX_ENTRIES = 256  # arrays in one .npz
MAX_HEADER = 4096  # bytes; numpy's own headers have below 128
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


@dataclass(frozen=True)
class OpenArray:
    """An array of sequences in an open file, (T, H, W) or (N, T, H, W) by its ``header``. Nothing of it is read yet."""

    name: str
    header: Header
    _stream: IO[bytes]
    _size: int  # bytes that are said to exist

    def maps(self, first: int = 0, count: int | None = None) -> npt.NDArray[Any]:
        """Maps (count, H, W) from number ``first`` on, counted through trajectories and frames. Can be asked once.

        Raises:
            InvalidFile: more than `MAX_CELLS` at once, or a file that is shorter than it says, or broken.
        """
        header, sides = self.header, self.header.shape[-2:]
        whole = math.prod(header.shape[:-2])
        count = whole - first if count is None else count
        skipped, wanted = (0, whole) if header.fortran else (first, count)  # whose maps do not lie together
        if (cells := wanted * math.prod(sides)) > MAX_CELLS:
            raise InvalidFile(
                f"{self.name}: shape {header.shape} is {cells:,} cells, limit {MAX_CELLS:,}; cut it in time or space"
            )
        if header.nbytes > self._size:
            raise InvalidFile(
                f"{self.name}: shape {header.shape} needs {header.nbytes:,} bytes, not {self._size:,}; copy it again"
            )
        with _named(self.name):
            values = self._values(skipped * math.prod(sides), cells)
        if not header.fortran:
            return values.reshape(wanted, *sides)
        return values.reshape(header.shape, order="F").reshape(whole, *sides)[first : first + count]

    def _values(self, skipped: int, count: int) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = np.empty(count, self.header.dtype)
        _skip(self._stream, skipped * values.itemsize)
        room, done = memoryview(values.view(np.uint8).data), 0
        while done < len(room):
            piece = self._stream.read(min(READ_AT_ONCE, len(room) - done))
            if not piece:
                raise InvalidFile(
                    f"{self.name}: ends after {done} of {len(room)} bytes; the file was cut short, copy it again"
                )
            room[done : done + len(piece)] = piece
            done += len(piece)
        return values


def file_and_array(asked: str) -> tuple[Path, str | None]:
    """``rain.npz:rain_mm_h`` names an array of a file, unless a file of just that name is there."""
    name, colon, array = asked.rpartition(":")
    return (Path(name), array) if colon and not Path(asked).exists() else (Path(asked), None)


@contextmanager
def open_array(path: Path, array: str | None = None) -> Iterator[OpenArray]:
    """The array (T, H, W) or (N, T, H, W) in ``path``, a .npy or .npz, recognised by its first bytes.

    Args:
        path: the file.
        array: which array of an .npz; needed if several could be meant.

    Raises:
        InvalidFile: anything else.
    """
    if not path.is_file():
        raise InvalidFile(f"{path.name}: no such file; give the path of a .npy or .npz")
    with ExitStack() as files:
        with _named(path.name):
            stream: IO[bytes] = files.enter_context(path.open("rb"))
            magic = stream.read(6)
            stream.seek(0)
            if magic == NPY_MAGIC:
                name, size = path.name, path.stat().st_size
            elif magic[:4] == b"PK\x03\x04":
                archive = files.enter_context(zipfile.ZipFile(stream))
                entry = _choose(archive, path.name, array)
                name, size = f"{path.name}:{entry.filename.removesuffix('.npy')}", entry.file_size
                stream = files.enter_context(archive.open(entry))
            else:
                raise InvalidFile(f"{path.name} starts with {magic!r}; give a .npy or .npz from numpy.save or savez")
            header = _read_header(stream, name)
            _check_sides(header.shape, name)
        yield OpenArray(name, header, stream, size)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """What goes wrong with a file, as one error that names it."""
    try:
        yield
    except InvalidFile:
        raise
    except OSError as error:
        raise InvalidFile(f"{name}: cannot be read ({error.strerror or error})") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise InvalidFile(f"{name}: broken or encrypted archive ({error}); use numpy.savez") from error


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


def _check_sides(shape: tuple[int, ...], name: str) -> None:
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise InvalidFile(f"{name}: shape {shape}; give (T, H, W) or (N, T, H, W), no axis empty")
    if min(shape[-2:]) < MIN_SIDE:
        raise InvalidFile(f"{name}: {shape[-2]} x {shape[-1]} cells, limit {MIN_SIDE} a side; bring a larger field")


def _skip(stream: IO[bytes], nbytes: int) -> None:
    """Move on without keeping anything; an archive's entry has to be unpacked on the way."""
    while nbytes > 0 and (piece := stream.read(min(READ_AT_ONCE, nbytes))):
        nbytes -= len(piece)
