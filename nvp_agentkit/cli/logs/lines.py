"""One line of a log, whoever wrote it: a worker (JSON, or text for people), Valkey or ArcadeDB."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.text import Text


class Level(StrEnum):
    """Least to most severe."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


STYLES = {Level.debug: "dim", Level.warning: "yellow", Level.error: "bold red"}
LEVELS = {level.value: level for level in Level} | {
    "critical": Level.error,
    ".": Level.debug, "-": Level.debug, "*": Level.info, "#": Level.warning,
    "FINE": Level.debug, "CONFI": Level.info, "INFO": Level.info, "WARNI": Level.warning, "SEVER": Level.error,
}  # fmt: skip
FORMATS = (
    re.compile(r"^(?P<at>\d{4}-\d\d-\d\dT[\d:.]+Z) \[(?P<level>\w+) *\] (?P<event>.*)$"),  # a worker, as text
    re.compile(r"^\d+:[A-Z] (?P<at>\d+ \w{3} \d{4} [\d:.]+) (?P<level>[.*#-]) (?P<event>.*)$"),  # Valkey
    re.compile(r"^(?P<at>\d{4}-\d\d-\d\d [\d:.]+) (?P<level>[A-Z]{4,5}) +(?P<event>.*)$"),  # ArcadeDB
)
ALREADY_SAID = {"timestamp", "level", "event", "worker", "name", "state", "error", "exception"}


@dataclass(frozen=True)
class Line:
    """``at`` is ISO 8601 in UTC, so that lines sort by it, empty while unknown; ``level`` None where none is named."""

    log: str
    at: str
    level: Level | None
    event: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    structured: bool = False

    def reaches(self, least: Level) -> bool:
        order = list(Level)
        return self.level is None or order.index(self.level) >= order.index(least)

    def as_json(self) -> str:
        """As it was written, with whose it is; what was no JSON is made an object of the same kind."""
        if self.structured:
            return json.dumps({"worker": self.log, **self.fields})
        level = {} if self.level is None else {"level": self.level.value}
        return json.dumps({"timestamp": self.at, **level, "worker": self.log, "event": self.event})

    def as_text(self) -> Text:
        """For a person: local time, who, how bad, what, and the rest as ``name=value``."""
        from rich.text import Text

        at = datetime.fromisoformat(self.at).astimezone() if self.at else None
        level = "" if self.level is None else self.level.value
        style = "" if self.level is None else STYLES.get(self.level, "")
        rest = "".join(
            f"  {name}={_shown(value)}"
            for name, value in self.fields.items()
            if name not in ALREADY_SAID and value not in ("", None)
        )
        return Text.assemble(
            (f"{at:%m-%d %H:%M:%S} " if at else " " * 15, "dim"),
            (f"{self.log:<10} ", "cyan"),
            (f"{level:<7} ", style),
            (self.event, style),
            (rest, "dim"),
            *(f"\n    {one}" for one in _traceback(self.fields)),
        )


def parse(log: str, text: str, before: Line | None) -> Line:
    """The line ``text`` of ``log``. Text without a time of its own goes on from a text line ``before`` it."""
    if (fields := _json(text)) is not None:
        return _structured(log, fields, before)
    for form in FORMATS:
        if (found := form.match(text)) and (at := _utc(found["at"])):
            return Line(log, at, LEVELS.get(found["level"]), found["event"])
    if before is None:
        return Line(log, "", None, text)
    # A traceback under a worker's JSON is nobody's continuation: it names no level, so it is always shown.
    return Line(log, before.at, None if before.structured else before.level, text)


def _structured(log: str, fields: dict[str, Any], before: Line | None) -> Line:
    at = _utc(str(fields.get("timestamp"))) or ("" if before is None else before.at)
    if "error" in fields and "event" not in fields:  # what `nvp up` ended with
        return Line(log, at, Level.error, str(fields["error"]), fields, structured=True)
    event = fields.get("event") or f"{fields.get('name', '')} {fields.get('state', '')}".strip()
    return Line(log, at, LEVELS.get(str(fields.get("level"))), str(event), fields, structured=True)


def _json(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _utc(written: str) -> str:
    """A time as `Line` has it; empty if it is none. The stores write local time, and Valkey the month's name."""
    for read in (datetime.fromisoformat, lambda text: datetime.strptime(text, "%d %b %Y %H:%M:%S.%f").astimezone()):
        try:
            return f"{read(written).astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
        except ValueError:
            continue
    return ""


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return json.dumps(text) if " " in text else text


def _traceback(fields: Mapping[str, Any]) -> Iterator[str]:
    """The lines of structlog's ``exception``, innermost frame last."""
    raised = fields.get("exception")
    for one in reversed(raised) if isinstance(raised, list) else ():
        for frame in one.get("frames", ()):
            yield f"{frame.get('filename')}:{frame.get('lineno')} in {frame.get('name')}"
        yield f"{one.get('exc_type')}: {one.get('exc_value')}"
