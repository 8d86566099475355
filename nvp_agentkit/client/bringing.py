"""A file of one's own as the bytes that travel."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from nvp_agentkit.errors import InvalidInput

FIRST_DAY = (1980, 1, 1, 0, 0, 0)  # of the zip format: one folder gives one sequence of bytes


def file_bytes(source: Path) -> bytes:
    """What ``source`` has; a folder (a Zarr store) as one zip file, unpacked because its chunks are packed already.

    Raises:
        InvalidInput: it is not there or cannot be read, or a link leads out of the folder.
    """
    try:
        if not source.is_dir():
            return source.read_bytes()
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for path in sorted(source.rglob("*")):
                if not path.resolve().is_relative_to(source.resolve()):
                    raise InvalidInput(f"{path} links to {path.resolve()}, outside {source}; copy it in")
                if path.is_file():
                    entry = zipfile.ZipInfo(path.relative_to(source).as_posix(), FIRST_DAY)
                    archive.writestr(entry, path.read_bytes())
        return packed.getvalue()
    except OSError as error:
        raise InvalidInput(f"{source}: {error.strerror}") from error
