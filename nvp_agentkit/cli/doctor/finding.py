"""What a check found: all is well, a warning, or something broken - and then, always, the remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "broken"]


@dataclass(frozen=True)
class Finding:
    """``what`` was found at ``name``, and what to do about it; one line, whatever library had its say in it."""

    name: str
    state: State
    what: str
    remedy: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "what", " ".join(self.what.split()))


def ok(name: str, what: str) -> Finding:
    return Finding(name, "ok", what)


def warning(name: str, what: str, remedy: str) -> Finding:
    return Finding(name, "warning", what, remedy)


def broken(name: str, what: str, remedy: str) -> Finding:
    return Finding(name, "broken", what, remedy)
