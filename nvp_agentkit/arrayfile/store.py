"""The objects of a Zarr store, in a folder or in one zip file, by key."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nvp_agentkit.arrayfile.limits import MAX_CHUNKS
from nvp_agentkit.errors import InvalidFile

DESCRIPTIONS = ("zarr.json", ".zarray", ".zgroup", ".zattrs")


@dataclass(frozen=True)
class FolderStore:
    """A folder that nothing in it leads out of."""

    root: Path

    def keys(self) -> Iterator[str]:
        """Every description in it. Raises `InvalidFile` on a link that leads out, or on too many files."""
        top, count = self.root.resolve(), 0
        for folder, folders, files in os.walk(self.root):
            count += len(folders) + len(files)
            if count > 2 * MAX_CHUNKS:
                raise InvalidFile(f"{self.root.name}: more than {2 * MAX_CHUNKS:,} files; rechunk it")
            for name in (*folders, *files):
                path = Path(folder, name)
                if path.is_symlink() and not path.resolve().is_relative_to(top):
                    raise InvalidFile(f"{path.name} links to {path.resolve()}, outside {self.root.name}; copy it in")
            yield from (Path(folder, name).relative_to(self.root).as_posix() for name in files if name in DESCRIPTIONS)

    def get(self, key: str, limit: int) -> bytes | None:
        """The object; None if there is none. Raises `InvalidFile` beyond ``limit`` bytes."""
        path = self.root / key
        if not path.is_file():
            return None
        _check_size(key, path.stat().st_size, limit)
        return path.read_bytes()

    def size(self) -> int:
        """Bytes of all objects."""
        return sum(Path(folder, name).stat().st_size for folder, _, files in os.walk(self.root) for name in files)


@dataclass(frozen=True)
class ZipStore:
    """A zip file, all or only one folder of it."""

    archive: zipfile.ZipFile
    root: str

    def keys(self) -> Iterator[str]:
        """Every description in it."""
        for name in self.archive.namelist():
            if name.startswith(self.root) and name.rpartition("/")[2] in DESCRIPTIONS:
                yield name.removeprefix(self.root)

    def get(self, key: str, limit: int) -> bytes | None:
        """The object; None if there is none. Raises `InvalidFile` beyond ``limit`` bytes."""
        try:
            entry = self.archive.getinfo(self.root + key)
        except KeyError:
            return None
        _check_size(key, entry.file_size, limit)
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InvalidFile(f"{key[:80]}: packed by method {entry.compress_type} in the zip file; store it unpacked")
        with self.archive.open(entry) as stream:
            return stream.read(limit)

    def size(self) -> int:
        """Bytes of all objects, as they are packed."""
        return sum(entry.compress_size for entry in self.archive.infolist())


def zip_root(archive: zipfile.ZipFile) -> str | None:
    """Where in the archive a Zarr store begins: at its top, or in its only folder; None if it is no such store."""
    tops = {name.partition("/")[0] for name in archive.namelist()}
    for root in ("", *(f"{top}/" for top in tops if len(tops) == 1)):
        if any(root + name in archive.NameToInfo for name in DESCRIPTIONS):
            return root
    return None


def _check_size(key: str, size: int, limit: int) -> None:
    if size > limit:
        raise InvalidFile(f"{key[:80]}: {size:,} bytes, limit {limit:,}; rechunk it")
