"""A file of one's own as the one file that travels."""

from __future__ import annotations

import tempfile
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, cast

from nvp_agentkit.errors import InvalidInput

FIRST_DAY = (1980, 1, 1, 0, 0, 0)  # of the zip format: one folder gives one sequence of bytes


def as_one_file(source: Path) -> BinaryIO:
    """``source``, open; a folder (a Zarr store) as one zip file, unpacked because its chunks are packed already.

    Raises:
        InvalidInput: it is not there or cannot be read, or a link leads out of the folder.
    """
    try:
        if not source.is_dir():
            return source.open("rb")
        with ExitStack() as unless_done:
            packed = cast("BinaryIO", unless_done.enter_context(tempfile.TemporaryFile()))
            _zip(source, packed)
            packed.seek(0)
            unless_done.pop_all()
            return packed
    except OSError as error:
        raise InvalidInput(f"{source}: {error.strerror}") from error


def _zip(folder: Path, packed: BinaryIO) -> None:
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if not path.resolve().is_relative_to(folder.resolve()):
                raise InvalidInput(f"{path} links to {path.resolve()}, outside {folder}; copy it in")
            if path.is_file():
                entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), FIRST_DAY)
                archive.writestr(entry, path.read_bytes())
