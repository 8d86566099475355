"""What killed processes leave in a data folder: scratch files, and what they had written by half.

Processes they leave are `lock.sweep`'s.
"""

from __future__ import annotations

import shutil
import time
import zlib
from pathlib import Path

SCRATCH = "tmp"  # TMPDIR of all workers
ABANDONED_S = 3600.0  # a client may be writing an artifact this very moment


def clear(folder: Path) -> None:
    """Remove it all. Only under the folder's lock, with nothing running on it."""
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    (folder / SCRATCH).mkdir(mode=0o700, exist_ok=True)
    for store in ("artifacts", "artifact-cache"):
        for path in (folder / store / "partial").glob("*"):
            if time.time() - path.stat().st_mtime > ABANDONED_S:
                path.unlink(missing_ok=True)
    for path in (folder / "valkey").glob("**/temp-*"):  # an append-only file on its way to be written anew
        path.unlink(missing_ok=True)
    for path in (folder / "compile-cache").glob("*-cache"):
        if _is_cut(path):
            path.unlink(missing_ok=True)


def _is_cut(path: Path) -> bool:
    """True for a compiled program that ends too early.

    JAX 0.10 writes it in place and never replaces it (`lru_cache.py`, put), so it would be compiled again at every
    start from then on. It is zlib's format where zstandard is not installed; of others nothing is said.
    """
    data = path.read_bytes()
    if not data:
        return True
    if data[:1] != b"\x78":
        return False
    stream = zlib.decompressobj()
    try:
        stream.decompress(data)
    except zlib.error:
        return True
    return not stream.eof
