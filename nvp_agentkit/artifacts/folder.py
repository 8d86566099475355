"""A local folder of objects: atomic, on disk before `write` returns.

Plain files and not obstore's local store, because that one does not fsync: after a power cut a name could stand for
an empty file, and a reply might already have promised it.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from nvp_agentkit.artifacts import content
from nvp_agentkit.errors import StoreUnavailable

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
            with self.path(name).open("rb") as file:
                content.check_size(name, os.fstat(file.fileno()).st_size, size)
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnavailable(f"cannot read {self.path(name)}: {error.strerror}; check that folder") from error

    def write(self, name: str, data: bytes) -> None:
        """Place the object, unless it is there; a damaged one is replaced.

        Raises:
            StoreUnavailable: the folder cannot take it: full, not writable, not a folder.
        """
        target = self.path(name)
        try:
            if _holds(target, data):
                return
            new_folder = not target.parent.exists()
            target.parent.mkdir(parents=True, exist_ok=True)
            self._place(target, data)
            _sync(target.parent)
            if new_folder:
                _sync(target.parent.parent)
        except OSError as error:
            raise StoreUnavailable(
                f"cannot write {len(data):,} bytes to the artifact folder {self.root}: {error.strerror}; "
                "make room there or point NVP_ARTIFACTS_URL elsewhere"
            ) from error

    def _place(self, target: Path, data: bytes) -> None:
        partial = self.root / PARTIAL / uuid.uuid4().hex
        partial.parent.mkdir(exist_ok=True)
        try:
            with partial.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


def _holds(target: Path, data: bytes) -> bool:
    return target.exists() and target.stat().st_size == len(data) and target.read_bytes() == data


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
