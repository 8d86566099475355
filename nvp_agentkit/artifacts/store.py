"""The artifact store: bytes named by their digest, verified whenever they are read."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

from nvp_agentkit.artifacts import arrays, content
from nvp_agentkit.artifacts.bucket import Bucket
from nvp_agentkit.artifacts.folder import Folder
from nvp_agentkit.errors import DigestMismatch, InvalidField, InvalidInput, UnknownName
from nvp_agentkit.messages.values import ArrayRef, ObjectRef
from nvp_agentkit.settings import Settings

HASH_INLINE_BYTES = 1024 * 1024  # above it (about 1 ms) hashing leaves the event loop


class Artifacts:
    """Objects under ``url``: a folder, ``file://``, ``s3://bucket/prefix`` or ``memory://``.

    Writing the same bytes twice is writing them once; an object is whole and on disk (in the bucket) before `put`
    returns; what `get` returns has the digest that was asked for.
    """

    def __init__(self, url: str, *, cache: Path | None = None) -> None:
        scheme = url.partition("://")[0] if "://" in url else "file"
        if scheme == "file":
            path = unquote(urlsplit(url).path) if "://" in url else url
            self._backend: Folder | Bucket = Folder(Path(path))
        elif scheme in ("s3", "memory"):
            self._backend = Bucket(url)
        else:
            raise InvalidInput(f"artifacts at {url!r}; known are a folder, s3://bucket/prefix and memory://")
        self._cache = None if cache is None else Folder(cache)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The store that the settings name; embedded: ``data_dir/artifacts``."""
        return cls(
            settings.artifacts_url or str(settings.data_dir / "artifacts"), cache=settings.data_dir / "artifact-cache"
        )

    async def put(self, data: bytes, media_type: str = "application/octet-stream") -> ObjectRef:
        """Keep ``data``. Raises `StoreUnavailable` (disk full, bucket away): then nothing is named."""
        digest = await _digest(data)
        await self._backend.write(content.name_of(digest), data)
        return ObjectRef(uri=content.uri_of(digest), digest=digest, bytes=len(data), media_type=media_type)

    async def get(self, ref: ObjectRef, max_bytes: int) -> bytes:
        """The bytes that ``ref`` names.

        Raises:
            InvalidInput: more than ``max_bytes``, or a URI that is none of ours; nothing was read.
            UnknownName: they are not here (any more).
            DigestMismatch: other bytes lie there.
        """
        _check_size(ref, max_bytes)
        return await self._read(ref.uri, ref.digest, ref.bytes)

    async def put_array(self, array: arrays.FloatArray, units: str = "1") -> ArrayRef:
        """Keep a float32 or float16 array of 1 to 4 dimensions. NaN is not looked for."""
        ref = await self.put(arrays.raw_bytes(array), "application/vnd.nvp.array")
        return ArrayRef(
            shape=array.shape,
            dtype=array.dtype.name,
            units=units,
            digest=ref.digest,
            uri=ref.uri,
        )

    async def get_array(self, ref: ArrayRef, max_cells: int) -> arrays.FloatArray:
        """The array that ``ref`` names or carries, read-only.

        Raises:
            InvalidField: more than ``max_cells`` by its declared shape (nothing was read), or bad base64.
            DigestMismatch: other bytes, or another number of them than the shape says.
            UnknownName: it is not here (any more).
        """
        arrays.check_cells(ref, max_cells)
        if ref.uri is None:
            return arrays.array_from(ref, arrays.inline_bytes(ref))
        return arrays.array_from(ref, await self._read(ref.uri, ref.digest, ref.nbytes))

    async def local_path(self, ref: ObjectRef, max_bytes: int) -> Path:
        """A file that holds the object, verified; from a bucket it is first copied into the cache.

        Raises:
            As `get`.
        """
        _check_size(ref, max_bytes)
        name = content.name_in(ref.uri, ref.digest)
        folder = self._backend if isinstance(self._backend, Folder) else self._cache
        if folder is None:
            raise InvalidInput("a local path of a remote object needs a cache folder: Artifacts(url, cache=...)")
        if folder is self._cache and await folder.size(name) != ref.bytes:
            await folder.write(name, await self.get(ref, max_bytes))
        if (size := await folder.size(name)) is None:
            raise _missing(ref.uri)
        if size != ref.bytes or await asyncio.to_thread(_file_digest, folder.path(name)) != ref.digest:
            raise DigestMismatch(f"{folder.path(name)} does not hold {ref.digest}; remove it and put it again")
        return folder.path(name)

    async def _read(self, uri: str, digest: str, size: int) -> bytes:
        name = content.name_in(uri, digest)
        data = await self._backend.read(name, size)
        if data is None:
            raise _missing(uri)
        if await _digest(data) != digest:
            raise DigestMismatch(f"the {size} bytes at {uri} are not {digest}; put them again")
        return data


async def _digest(data: bytes) -> str:
    if len(data) <= HASH_INLINE_BYTES:
        return content.digest_of(data)
    return await asyncio.to_thread(content.digest_of, data)


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _check_size(ref: ObjectRef, max_bytes: int) -> None:
    if ref.bytes > max_bytes:
        raise InvalidField(f"object of {ref.bytes:,} bytes, limit {max_bytes:,}; send a smaller one")


def _missing(uri: str) -> UnknownName:
    return UnknownName(f"nothing at {uri}; it was never put here or has expired: put it again")
