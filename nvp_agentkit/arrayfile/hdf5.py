"""HDF5 files, NetCDF-4 among them, read by pyfive.

Not by the HDF5 library: of 3,000 mutated files seven sent that one into an endless loop in C, where nothing stops it
(docs/decisions/020). Nothing outside the file is opened, and no plugin is loaded.
"""

from __future__ import annotations

import io
import math
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from nvp_agentkit.arrayfile.chunks import assemble, inflate, recent, unshuffle
from nvp_agentkit.arrayfile.limits import MAX_CHUNK_BYTES, MAX_OBJECTS, bounded_memory, check_chunks, check_stored
from nvp_agentkit.arrayfile.variable import Catalogue, Read, Selection, Variable, slab
from nvp_agentkit.errors import InvalidFile, MissingExtra

MAX_DEPTH = 8  # groups within groups
CONTIGUOUS, CHUNKED = 1, 2
NOWHERE = 2**64 - 1
NO_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"
DEFLATE, SHUFFLE, CHECKSUM = 1, 2, 3
LATEST = "in a layout of HDF5 1.10 and later; write it again with h5repack --low=0 --high=1, or libver='earliest'"
ELSEWHERE = "its values are in other files, or never written; copy them into this one"
BROKEN = "broken; copy the file again"
NO_LAYOUT = f"linked to another file, or {LATEST}"
# What pyfive means by raising exactly these; by their kin, and by errors of numbers and places, that a file is broken.
UNREADABLE: dict[type[Exception], str] = {
    RuntimeError: LATEST,
    NotImplementedError: "of a kind that is not read; write it again as plain numbers",
    AssertionError: NO_LAYOUT,
}
RAISED: tuple[type[Exception], ...] = (*UNREADABLE, ArithmeticError, LookupError)


class _Stream(io.BufferedReader):
    """The only handle there is: of a file with a number pyfive opens more, and forgets them when it fails."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation


def hdf5(path: Path, files: ExitStack) -> Catalogue:
    """What an HDF5 file has, in all its groups."""
    try:
        from pyfive import File
    except ImportError as error:
        raise MissingExtra.of("pyfive", extra="data") from error
    walk = _Walk(path.name, files.enter_context(_Stream(io.FileIO(path))), path.stat().st_size)
    try:
        file = File(walk.stream)
        if file.userblock_size:
            raise InvalidFile(f"{path.name}: {file.userblock_size} bytes before the HDF5 part, limit 0; cut them off")
        walk.through(file, 0)
    except AssertionError as error:
        raise InvalidFile(f"{path.name}: a group in it is {NO_LAYOUT}") from error
    return walk.catalogue()


@dataclass
class _Walk:
    """Through all groups, each link once and no more than `MAX_OBJECTS` in all: links may lead in circles.

    Attributes:
        places: name of what lies at an address, for axes refer to their scales so.
        scales: addresses of a variable's scales.
    """

    filename: str
    stream: IO[bytes]
    size: int
    found: Catalogue = field(default_factory=Catalogue)
    places: dict[Any, str] = field(default_factory=dict)
    scales: dict[str, list[Any]] = field(default_factory=dict)
    seen: int = 0

    def through(self, group: Any, depth: int) -> None:
        from pyfive import Dataset, Group

        for name in group:
            full = f"{group.name.strip('/')}/{name}".strip("/")
            self.seen += 1
            if self.seen > MAX_OBJECTS or depth > MAX_DEPTH:
                raise InvalidFile(
                    f"{self.filename}: more than {MAX_OBJECTS} objects or {MAX_DEPTH} groups deep; "
                    "copy the one you mean into a file of its own"
                )
            try:
                child = group.get_lazy_view(name)
                if isinstance(child, Dataset):
                    self.places[group._links[name]] = full
                    about = child.attrs.get("NAME")
                    if not (isinstance(about, bytes) and about.startswith(NO_VARIABLE)):
                        self.found.variables[full] = _variable(full, child, self.stream, self.size)
                        self.scales[full] = _scales(child)
            except RAISED as error:
                self.found.unreadable[full] = UNREADABLE.get(type(error), BROKEN)
                continue
            if isinstance(child, Group):
                self.through(child, depth + 1)

    def catalogue(self) -> Catalogue:
        """What was found, its axes named."""
        named = {}
        for name, variable in self.found.variables.items():
            dims = tuple(self.places.get(address, "") for address in self.scales[name])
            own = not dims and len(variable.shape) == 1  # is the scale of its own axis
            named[name] = replace(variable, dims=(name,) if own else dims)
        return Catalogue(named, self.found.unreadable)


def _scales(dataset: Any) -> list[Any]:
    """Addresses of the scales of a variable's axes, the first of each; None where an axis has none."""
    attached = dataset.attrs.get("DIMENSION_LIST")
    if attached is None or len(attached) != len(dataset.shape):
        return []
    return [one[0].address_of_reference if one is not None and len(one) else None for one in attached]


def _variable(name: str, dataset: Any, stream: IO[bytes], size: int) -> Variable:
    stored = dataset.id

    @cache
    def chunked() -> Read:
        return _chunked(name, dataset, stream)

    def read(selection: Selection) -> npt.NDArray[Any]:
        promised = math.prod(dataset.shape) * dataset.dtype.itemsize
        if stored.layout_class == CHUNKED:
            check_chunks(name, dataset.shape, dataset.chunks, dataset.dtype.itemsize)
            check_stored(name, dataset.shape, promised, size, packed=True)
            return chunked()(selection)
        if stored.layout_class == CONTIGUOUS:
            if stored.data_offset == NOWHERE:
                raise InvalidFile(f"{name}: {ELSEWHERE}")
            check_stored(name, dataset.shape, promised, size - stored.data_offset, packed=False)
            return slab(stream, stored.data_offset, dataset.shape, dataset.dtype, selection)
        if stored.layout_class != 0:
            raise InvalidFile(f"{name}: a virtual dataset: {ELSEWHERE}")
        return np.asarray(dataset[()])[selection]

    attrs = dataset.attrs
    return Variable(name, (), dataset.shape, dataset.dtype, attrs, read, dataset.chunks)


def _chunked(name: str, dataset: Any, stream: IO[bytes]) -> Read:
    filters = [one["filter_id"] for one in dataset.id.filter_pipeline or ()]
    if unknown := set(filters) - {DEFLATE, SHUFFLE, CHECKSUM}:
        raise InvalidFile(
            f"{name}: packed with HDF5 filter {min(unknown)}, known are 1 to 3 (deflate, shuffle, fletcher32); "
            "write it again with h5repack -f GZIP=1"
        )
    shape, chunks, dtype = dataset.shape, dataset.chunks, dataset.dtype
    nbytes = math.prod(chunks) * dtype.itemsize
    with bounded_memory():
        index = dataset.id.index

    def piece(place: tuple[int, ...]) -> npt.NDArray[Any] | None:
        where = index.get(tuple(number * chunk for number, chunk in zip(place, chunks, strict=True)))
        if where is None:
            return None
        if where.size > MAX_CHUNK_BYTES:
            raise InvalidFile(f"{name}: a packed chunk of {where.size:,} bytes, limit {MAX_CHUNK_BYTES:,}; rechunk it")
        stream.seek(where.byte_offset)
        raw = _unfiltered(stream.read(where.size), filters, where.filter_mask, nbytes, dtype.itemsize)
        return np.frombuffer(raw, dtype, math.prod(chunks)).reshape(chunks)

    fill = 0 if dataset.fillvalue is None else dataset.fillvalue
    recently = recent(piece, nbytes)
    return lambda selection: assemble(shape, chunks, dtype, fill, selection, recently)


def _unfiltered(raw: bytes, filters: list[int], skipped: int, nbytes: int, itemsize: int) -> bytes:
    for number, which in reversed(list(enumerate(filters))):
        if skipped >> number & 1:
            continue
        if which == DEFLATE:
            raw = inflate(raw, nbytes)
        elif which == SHUFFLE:
            raw = unshuffle(raw, itemsize)
        else:
            raw = raw[:-4]  # not checked: deflate has a checksum of its own, and artifacts have their digest
    return raw
