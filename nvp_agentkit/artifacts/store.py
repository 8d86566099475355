"""The artifact store: bytes named by their digest, verified whenever they are read."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import unquote, urlsplit

from nvp_agentkit.artifacts import arrays, content
from nvp_agentkit.artifacts.bucket import Bucket
from nvp_agentkit.artifacts.folder import Folder
from nvp_agentkit.errors import InvalidInput, UnknownName
from nvp_agentkit.messages.values import ArrayRef, ObjectRef, digest_of
from nvp_agentkit.settings import Settings

MAX_OBJECT_BYTES = 2 * 1024**3
MAX_CELLS = 16_777_216  # as `Settings.max_cells`


class Artifacts:
    """Objects under ``url``: a folder, ``file://``, ``s3://bucket/prefix`` or ``memory://``.

    Writing the same bytes twice is writing them once; an object is whole and on disk (in the bucket) before `put`
    returns; what `get` returns has the digest that was asked for. Reading and hashing happen in threads.
    """

    def __init__(self, url: str, *, cache: Path | None = None) -> None:
        scheme = url.partition("://")[0] if "://" in url else "file"
        if scheme == "file":
            try:
                path = unquote(urlsplit(url).path) if "://" in url else url
            except ValueError as error:
                raise InvalidInput(f"artifacts at {url!r}: {error}; write file:///folder") from error
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
        return await asyncio.to_thread(self._put, data, media_type)

    async def put_file(self, source: BinaryIO, media_type: str = "application/octet-stream") -> ObjectRef:
        """`put` for an open file. Into a folder it is copied in pieces; a bucket is given it whole."""
        return await asyncio.to_thread(self._put_file, source, media_type)

    async def remove(self, ref: ObjectRef) -> None:
        """Forget an object that nobody else can have put: equal bytes are one object. One that is not here is fine."""
        name = content.name_in(ref.uri, ref.digest)
        await asyncio.to_thread(self._backend.remove, name)
        if self._cache is not None:
            await asyncio.to_thread(self._cache.remove, name)

    async def get(self, ref: ObjectRef, max_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        """The bytes that ``ref`` names.

        Raises:
            InvalidInput: more than ``max_bytes``, or a URI that is none of ours; nothing was read.
            UnknownName: they are not here (any more).
            DigestMismatch: other bytes lie there.
        """
        _check_size(ref, max_bytes)
        return await asyncio.to_thread(self._read, ref.uri, ref.digest, ref.bytes)

    async def put_array(self, array: arrays.FloatArray, units: str = "1") -> ArrayRef:
        """Keep a float32 or float16 array of 1 to 4 dimensions. NaN is not looked for."""
        ref = await self.put(arrays.raw_bytes(array), "application/vnd.nvp.array")
        return ArrayRef(shape=array.shape, dtype=array.dtype.name, units=units, digest=ref.digest, uri=ref.uri)

    async def get_array(self, ref: ArrayRef, max_cells: int = MAX_CELLS) -> arrays.FloatArray:
        """The array that ``ref`` names or carries, read-only.

        Raises:
            InvalidField: more than ``max_cells`` by its declared shape (nothing was read), or bad base64.
            InvalidInput: a URI that is none of ours.
            DigestMismatch: other bytes, or another number of them than the shape says.
            UnknownName: it is not here (any more).
        """
        return await asyncio.to_thread(self.fetch_array, ref, max_cells)

    def fetch_array(self, ref: ArrayRef, max_cells: int = MAX_CELLS) -> arrays.FloatArray:
        """`get_array` for code that is not asynchronous, such as a certificate's verification."""
        arrays.check_cells(ref, max_cells)
        raw = arrays.inline_bytes(ref) if ref.uri is None else self._read(ref.uri, ref.digest, ref.nbytes)
        return arrays.array_from(ref, raw)

    async def local_path(self, ref: ObjectRef, max_bytes: int = MAX_OBJECT_BYTES) -> Path:
        """A file that holds the object, verified just now; from a bucket it is first copied into the cache.

        Raises:
            As `get`.
        """
        _check_size(ref, max_bytes)
        return await asyncio.to_thread(self._local_path, ref)

    def _put(self, data: bytes, media_type: str) -> ObjectRef:
        digest = digest_of(data)
        self._backend.write(content.name_of(digest), data)
        return ObjectRef(uri=content.uri_of(digest), digest=digest, bytes=len(data), media_type=media_type)

    def _put_file(self, source: BinaryIO, media_type: str) -> ObjectRef:
        if not isinstance(self._backend, Folder):
            return self._put(source.read(), media_type)
        digest, size = self._backend.write_file(source)
        return ObjectRef(uri=content.uri_of(digest), digest=digest, bytes=size, media_type=media_type)

    def _read(self, uri: str, digest: str, size: int) -> bytes:
        data = self._backend.read(content.name_in(uri, digest), size)
        if data is None:
            raise _absent(uri)
        content.check(data, digest)
        return data

    def _local_path(self, ref: ObjectRef) -> Path:
        if isinstance(self._backend, Folder):
            name = content.name_in(ref.uri, ref.digest)
            found = self._backend.digest(name, ref.bytes)
            if found is None:
                raise _absent(ref.uri)
            content.check_digest(found, ref.digest, ref.bytes)
            return self._backend.path(name)
        data = self._read(ref.uri, ref.digest, ref.bytes)
        if self._cache is None:
            raise InvalidInput("a local path of a remote object needs a cache folder: Artifacts(url, cache=...)")
        self._cache.write(content.name_of(ref.digest), data)
        return self._cache.path(content.name_of(ref.digest))


def _absent(uri: str) -> UnknownName:
    return UnknownName(f"nothing at {uri}; it was never put here or was removed: put it again")


def _check_size(ref: ObjectRef, max_bytes: int) -> None:
    if ref.bytes > max_bytes:
        raise InvalidInput(f"object of {ref.bytes:,} bytes, limit {max_bytes:,}; send a smaller one")
