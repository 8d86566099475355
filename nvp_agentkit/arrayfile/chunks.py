"""Pieces of an array, unpacked into no more than they promised and put where they belong."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from nvp_agentkit.arrayfile.variable import Selection
from nvp_agentkit.errors import InvalidFile

AUTOMATIC = 47  # zlib's word for "zlib or gzip, see for yourself"
SLACK = 64  # bytes of checksums that a packed piece may hold beside its values
BLOSC_HEADER = 16
KEPT_BYTES, MOST_KEPT = 16 << 20, 64  # unpacked pieces of one array
Piece = Callable[[tuple[int, ...]], "npt.NDArray[Any] | None"]


def recent(unpack: Piece, nbytes: int) -> Piece:
    """``unpack`` that keeps the last pieces of ``nbytes`` unpacked: windows that follow each other share them."""
    return lru_cache(min(max(KEPT_BYTES // max(nbytes, 1), 1), MOST_KEPT))(unpack)


def assemble(
    shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype[Any], fill: Any, selection: Selection, piece: Piece
) -> npt.NDArray[Any]:
    """The part ``selection`` of an array in ``chunks``; ``piece`` gives one by its number on each axis, or None."""
    found = np.empty([max(part.stop - part.start, 0) for part in selection], dtype)
    numbers = [
        range(part.start // chunk, -(-part.stop // chunk)) if part.stop > part.start else range(0)
        for part, chunk in zip(selection, chunks, strict=True)
    ]
    for place in itertools.product(*numbers):
        into, out_of = [], []
        for number, chunk, part in zip(place, chunks, selection, strict=True):
            low, high = max(number * chunk, part.start), min((number + 1) * chunk, part.stop)
            into.append(slice(low - part.start, high - part.start))
            out_of.append(slice(low - number * chunk, high - number * chunk))
        values = piece(place)
        found[tuple(into)] = fill if values is None else values[tuple(out_of)]
    return found


def inflate(data: bytes, nbytes: int) -> bytes:
    """zlib or gzip, to at most ``nbytes``.

    Raises:
        InvalidFile: there is more, or the data end too early.
    """
    unpacking = zlib.decompressobj(AUTOMATIC)
    found = unpacking.decompress(data, nbytes + SLACK + 1)
    if len(found) > nbytes + SLACK:
        raise too_much(nbytes)
    return found


def unshuffle(data: bytes, itemsize: int) -> bytes:
    """Bytes that were sorted by their place in a value, back in the order of values."""
    whole = len(data) - len(data) % itemsize
    places = np.frombuffer(data, np.uint8, whole).reshape(itemsize, -1)
    values = np.empty((places.shape[1], itemsize), np.uint8)
    for place, one in enumerate(places):  # three times as fast as one transposed copy
        values[:, place] = one
    return values.tobytes() + data[whole:]


def unblosc(data: bytes, nbytes: int) -> bytes:
    """Blosc, whose header says how much will come: checked before anything is unpacked."""
    from numcodecs.blosc import decompress

    if len(data) < BLOSC_HEADER or int.from_bytes(data[12:16], "little") != len(data):
        raise InvalidFile("a blosc chunk was cut short; copy the file again")
    if int.from_bytes(data[4:8], "little") > nbytes:
        raise too_much(nbytes)
    return bytes(decompress(data))


def unzstd(data: bytes, nbytes: int) -> bytes:
    """Zstandard, into a buffer of ``nbytes`` and not one byte more."""
    from numcodecs.zstd import decompress

    return bytes(decompress(data, np.empty(nbytes, np.uint8)))


def unlz4(data: bytes, nbytes: int) -> bytes:
    """LZ4 with the size in front, as numcodecs writes it."""
    from numcodecs.lz4 import decompress

    if int.from_bytes(data[:4], "little") > nbytes:
        raise too_much(nbytes)
    return bytes(decompress(data))


def too_much(nbytes: int) -> InvalidFile:
    return InvalidFile(f"a chunk unpacks to more than the {nbytes:,} bytes it promises; write the file again")
