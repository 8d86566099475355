"""A standard error that never fails: a log without room for a line loses the line, not the work it is about."""

from __future__ import annotations

import io
import sys
from typing import Any


class _Lossy(io.FileIO):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:  # a full disk, a terminal that is gone
            return len(data)


def make_lossy() -> None:
    """From now on what cannot be written to standard error is left out."""
    sys.stderr = io.TextIOWrapper(
        _Lossy(2, "w", closefd=False), encoding="utf-8", errors="backslashreplace", write_through=True
    )
