"""Zarr arrays of version 2 and 3, as their specifications describe them.

Not through zarr-python: a description may ask it for any codec that is installed (numcodecs has one that unpickles),
and its codecs unpack as much as a chunk holds. Here the codecs are a list, and a chunk unpacks to what it promises.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from nvp_agentkit.arrayfile.chunks import SLACK, assemble, inflate, recent, unblosc, unlz4, unshuffle, unzstd
from nvp_agentkit.arrayfile.limits import MAX_METADATA, MAX_OBJECTS, check_chunks, check_stored
from nvp_agentkit.arrayfile.store import FolderStore, ZipStore
from nvp_agentkit.arrayfile.variable import Catalogue, Selection, Variable
from nvp_agentkit.errors import InvalidFile, MissingExtra

Store = FolderStore | ZipStore
Unpack = Callable[[bytes, int], bytes]
CODECS: dict[str, Unpack] = {
    "zlib": inflate,
    "gzip": inflate,
    "zstd": unzstd,
    "blosc": unblosc,
    "lz4": unlz4,
    "crc32c": lambda data, _: data[:-4],
}
PACKED_SLACK = 1 << 16  # bytes by which a packer may make random values larger


@dataclass(frozen=True)
class _Layout:
    """How an array lies in its store."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    fill: Any
    unpack: tuple[Unpack, ...]
    key: Callable[[tuple[int, ...]], str]
    fortran: bool = False


def zarr(store: Store) -> Catalogue:
    """What a Zarr store has, in all its groups."""
    if find_spec("numcodecs") is None:
        raise MissingExtra.of("numcodecs", extra="data")
    found, size = Catalogue(), store.size()
    for count, key in enumerate(store.keys()):
        if count > MAX_OBJECTS:
            raise InvalidFile(f"more than {MAX_OBJECTS} arrays and groups; copy the one you mean elsewhere")
        folder, _, kind = key.rpartition("/")
        if kind not in ("zarr.json", ".zarray"):
            continue
        said, name = _document(store, key), folder or "array"
        if kind == "zarr.json" and said.get("node_type") != "array":
            continue
        try:
            if kind == "zarr.json":
                layout, attrs = _version_3(said, folder), said.get("attributes") or {}
                dims = said.get("dimension_names") or ()
            else:
                layout, attrs = _version_2(said, folder), _document(store, f"{folder}/.zattrs".lstrip("/"))
                dims = attrs.get("_ARRAY_DIMENSIONS") or ()
            found.variables[name] = _variable(name, dims, attrs, layout, store, size)
        except InvalidFile as error:
            found.unreadable[name] = str(error)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            found.unreadable[name] = f"described wrongly ({error!r}); write it again"
    return found


def _document(store: Store, key: str) -> dict[str, Any]:
    raw = store.get(key, MAX_METADATA)
    said = {} if raw is None else json.loads(raw)
    if not isinstance(said, dict):
        raise InvalidFile(f"{key[:80]} is {type(said).__name__}, no description; write the store again")
    return said


def _variable(name: str, dims: Any, attrs: Mapping[str, Any], layout: _Layout, store: Store, size: int) -> Variable:
    nbytes = math.prod(layout.chunks) * layout.dtype.itemsize

    def piece(place: tuple[int, ...]) -> npt.NDArray[Any] | None:
        raw = store.get(layout.key(place), nbytes + nbytes // 8 + PACKED_SLACK)
        if raw is None:
            return None
        for unpack in layout.unpack:
            raw = unpack(raw, nbytes)
        values = np.frombuffer(raw, layout.dtype, math.prod(layout.chunks))
        return values.reshape(layout.chunks, order="F" if layout.fortran else "C")

    recently = recent(piece, nbytes)

    def read(selection: Selection) -> npt.NDArray[Any]:
        check_chunks(name, layout.shape, layout.chunks, layout.dtype.itemsize)
        promised = math.prod(layout.shape) * layout.dtype.itemsize
        check_stored(name, layout.shape, promised, size, packed=True)
        return assemble(layout.shape, layout.chunks, layout.dtype, layout.fill, selection, recently)

    axes = tuple(str(dim or "")[:128] for dim in dims)
    return Variable(name, axes, layout.shape, layout.dtype, _decoded(attrs, layout), read, layout.chunks)


def _version_2(said: dict[str, Any], folder: str) -> _Layout:
    shape, chunks = _sides(said["shape"]), _sides(said["chunks"])
    dtype = np.dtype(said["dtype"]) if isinstance(said["dtype"], str) else np.dtype("O")
    unpack: list[Unpack] = []
    if said.get("compressor") is not None:
        unpack.append(_codec(said["compressor"]["id"]))
    for one in reversed(said.get("filters") or ()):
        if one["id"] != "shuffle":
            raise InvalidFile(f"filter {one['id']!r}, known is shuffle; write it again with zlib or zstd alone")
        unpack.append(lambda data, _, size=_itemsize(one): unshuffle(data, size))  # type: ignore[misc]
    separator = "/" if said.get("dimension_separator") == "/" else "."
    prefix = f"{folder}/" if folder else ""

    def key(place: tuple[int, ...]) -> str:
        return prefix + (separator.join(map(str, place)) or "0")

    return _Layout(
        shape, chunks, dtype, _number(said.get("fill_value"), dtype), tuple(unpack), key, said["order"] == "F"
    )


def _version_3(said: dict[str, Any], folder: str) -> _Layout:
    shape = _sides(said["shape"])
    if said["chunk_grid"]["name"] != "regular" or said.get("storage_transformers"):
        raise InvalidFile("chunks of different sizes or kept elsewhere; write it again with zarr's defaults")
    chunks = _sides(said["chunk_grid"]["configuration"]["chunk_shape"])
    dtype = np.dtype(said["data_type"]) if isinstance(said["data_type"], str) else np.dtype("O")
    codecs = said["codecs"]
    if not codecs or codecs[0]["name"] != "bytes":
        raise InvalidFile(
            f"codec {codecs[0]['name'] if codecs else None!r} comes first, known is bytes; write it again"
        )
    if codecs[0].get("configuration", {}).get("endian") == "big":
        dtype = dtype.newbyteorder(">")
    unpack = tuple(_codec(one["name"].removeprefix("numcodecs.")) for one in reversed(codecs[1:]))
    encoding = said["chunk_key_encoding"]
    old = encoding["name"] == "v2"
    separator = encoding.get("configuration", {}).get("separator", "." if old else "/")
    prefix = f"{folder}/" if folder else ""

    def key(place: tuple[int, ...]) -> str:
        numbers = [str(number) for number in place]
        return prefix + (separator.join(numbers) or "0" if old else separator.join(["c", *numbers]))

    return _Layout(shape, chunks, dtype, _number(said.get("fill_value"), dtype), unpack, key)


def _codec(name: str) -> Unpack:
    if name not in CODECS:
        raise InvalidFile(f"codec {name!r}, known are {', '.join(CODECS)}; write it again with one of them")
    return CODECS[name]


def _itemsize(said: dict[str, Any]) -> int:
    size = int(said["elementsize"])
    if not 1 <= size <= SLACK:
        raise InvalidFile(f"shuffle of {size} bytes, limit {SLACK}; write it again")
    return size


def _sides(said: Any) -> tuple[int, ...]:
    sides = tuple(int(side) for side in said)
    if any(not 0 <= side < 2**48 for side in sides) or len(sides) > 16:
        raise InvalidFile(f"sides {sides[:16]}; write it again")
    return sides


def _number(said: Any, dtype: np.dtype[Any]) -> Any:
    """A fill value as JSON says it: a number, "NaN", or the bits in hexadecimal."""
    if dtype.kind not in "fiu" or said is None:
        return 0
    if isinstance(said, str) and said.startswith("0x"):
        return np.frombuffer(bytes.fromhex(said[2:]), dtype.newbyteorder(">"), 1)[0]
    return np.array(float(said) if dtype.kind == "f" else int(said)).astype(dtype)


def _decoded(attrs: Mapping[str, Any], layout: _Layout) -> dict[str, Any]:
    """Attributes with the fill value as a number: xarray writes it as base64, or leaves it to Zarr version 2.

    There the default of 0 means nothing, so only another one marks missing values.
    """
    found = dict(attrs)
    said = found.get("_FillValue")
    if isinstance(said, str) and layout.dtype.kind == "f":
        found["_FillValue"] = np.frombuffer(base64.b64decode(said), "<f8", 1)[0]
    elif said is None and layout.fill != 0:
        found["_FillValue"] = layout.fill
    return found
