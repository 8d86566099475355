"""A local folder of objects: atomic, on disk before `write` returns.

Plain files and not obstore's local store, because that one does not fsync: after a power cut a name could stand for
an empty file, and a reply might already have promised it.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from nvp_agentkit.artifacts import content
from nvp_agentkit.errors import StoreUnavailable

READ_AT_ONCE = 1 << 20
PARTIAL = "partial"  # what is being written; a killed writer's is cleared when the stack starts


class Folder:
    """Objects as files under ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        return self.root / name

    def read(self, name: str, size: int) -> bytes | None:
        """The object; None if there is none. Raises `DigestMismatch` if its size is another one."""
        try:
            with _open(self.path(name)) as file:
                content.check_size(name, os.fstat(file.fileno()).st_size, size)
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnavailable(f"cannot read {self.path(name)}: {error.strerror}; check that folder") from error

    def digest(self, name: str, size: int) -> str | None:
        """Of the object as it lies there, read in pieces; None if there is none. Raises as `read`."""
        try:
            with _open(self.path(name)) as file:
                content.check_size(name, os.fstat(file.fileno()).st_size, size)
                return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnavailable(f"cannot read {self.path(name)}: {error.strerror}; check that folder") from error

    def write(self, name: str, data: bytes) -> None:
        """Place the object, unless it is there; a damaged one is replaced.

        Raises:
            StoreUnavailable: the folder cannot take it: full, not writable, not a folder.
        """
        with self._writing(len(data)):
            if not _holds(self.path(name), data):
                with self._partial() as file:
                    file.write(data)
                    self._place(file, self.path(name))

    def write_file(self, source: BinaryIO) -> tuple[str, int]:
        """Place the object that ``source`` holds, copied in pieces: its digest and size. Raises as `write`."""
        size, digest = 0, hashlib.sha256()
        with self._writing(os.fstat(source.fileno()).st_size), self._partial() as file:
            while piece := source.read(READ_AT_ONCE):
                file.write(piece)
                digest.update(piece)
                size += len(piece)
            named = f"sha256:{digest.hexdigest()}"
            self._place(file, self.path(content.name_of(named)))
        return named, size

    def remove(self, name: str) -> None:
        """Forget the object, if it is there. Raises `StoreUnavailable` where the folder does not let it go."""
        try:
            self.path(name).unlink(missing_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"cannot remove {self.path(name)}: {error.strerror}; check that folder") from error

    @contextmanager
    def _writing(self, size: int) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreUnavailable(
                f"cannot write {size:,} bytes to the artifact folder {self.root}: {error.strerror}; "
                "make room there or point NVP_ARTIFACTS_URL elsewhere"
            ) from error

    @contextmanager
    def _partial(self) -> Iterator[BinaryIO]:
        """A file of its own for what has no name yet; gone afterwards, unless `_place` gave it one."""
        partial = self.root / PARTIAL / uuid.uuid4().hex
        partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("xb") as file:
                yield file
        finally:
            partial.unlink(missing_ok=True)

    def _place(self, file: BinaryIO, target: Path) -> None:
        new_folder = not target.parent.exists()
        target.parent.mkdir(parents=True, exist_ok=True)
        file.flush()
        os.fsync(file.fileno())
        Path(file.name).replace(target)
        sync(target.parent)
        if new_folder:
            sync(target.parent.parent)


def _open(path: Path) -> BufferedReader:
    """``path``, to be read. Opening waits for nobody: a named pipe in the place of an object would hold its reader."""
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


def _holds(target: Path, data: bytes) -> bool:
    return target.is_file() and target.stat().st_size == len(data) and target.read_bytes() == data


def sync(path: Path) -> None:
    """Have a file, or a folder's list of names, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
