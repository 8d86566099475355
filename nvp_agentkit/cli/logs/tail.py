"""The lines that come to a log, whether it is appended to, emptied by a restart or replaced by a new file."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from nvp_agentkit.cli.logs.lines import Line, parse


@dataclass
class Log:
    """One log, read from its beginning. ``name`` is whose it is."""

    name: str
    path: Path
    _offset: int = 0
    _inode: int = 0
    _last: Line | None = field(default=None, repr=False)

    def fresh(self) -> list[Line]:
        """The whole lines that came since the last call; none while there is no file."""
        try:
            with self.path.open("rb") as file:
                stat = os.fstat(file.fileno())
                if stat.st_ino != self._inode or stat.st_size < self._offset:
                    self._offset, self._last = 0, None
                self._inode = stat.st_ino
                file.seek(self._offset)
                whole, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return []
        self._offset += len(whole) + len(newline)
        found = []
        for text in whole.decode(errors="replace").split("\n"):
            if text.strip():
                self._last = parse(self.name, text.rstrip(), self._last)
                found.append(self._last)
        return _dated(found, datetime.fromtimestamp(stat.st_mtime, UTC))


def _dated(lines: list[Line], written: datetime) -> list[Line]:
    """Lines before the first that has a time get that time, or else the file's."""
    at = next((line.at for line in lines if line.at), f"{written:%Y-%m-%dT%H:%M:%S.%f}Z")
    return [line if line.at else replace(line, at=at) for line in lines]
