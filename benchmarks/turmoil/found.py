"""What a checker finds, and what answers mean."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

Answers = dict[str, dict[str, Any]]  # request id -> kind of answer -> event


@dataclass
class Found:
    """What was found: ``wrong`` in words, the rest in numbers."""

    lost: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)  # acknowledged by the store, which has no trace of them
    doubled: list[str] = field(default_factory=list)
    joules: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    spoken: Counter[str] = field(default_factory=Counter)  # kind of answer -> how many
    innocent: list[str] = field(default_factory=list)  # plain requests that were refused, and why
    exact: int = 0  # answered ones that cost once what they cost

    @property
    def wrong(self) -> list[str]:
        return [*self.lost, *self.forgotten, *self.doubled, *self.joules, *self.left]


def finished(kind: str) -> bool:
    """Whether an answer of this kind is what was asked for."""
    return kind.endswith((".completed.v1", ".certified.v1"))


def certified(kind: str) -> bool:
    return kind.endswith(".certified.v1")


def named_mj(said: dict[str, Any]) -> int:
    """The joules that the answers to one request name."""
    return sum((event["data"].get("energy") or {}).get("mj", 0) for event in said.values())
