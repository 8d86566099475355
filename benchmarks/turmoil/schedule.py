"""What is asked for and what goes wrong, and when: all of it from a seed, before anything runs."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

PACE_S = 0.12  # between two requests: about what two cores do while a fault a second slows them down
EVERY_S = 1.2  # a fault, on average
QUIET_S = 1.0  # at the beginning
LEASE_S = 2.0
FAULTS = {
    "kill front": 4, "kill child": 3, "stop front": 3, "stop child": 2, "kill recorder": 1, "kill valkey": 1.5,
    "stall valkey": 1.5, "cut connections": 1.5, "fill valkey": 0.5, "flush scripts": 0.5, "kill graph": 0.7,
}  # fmt: skip
Kind = Literal["predict", "jobs", "ensemble"]  # the streams that they go to
KINDS: dict[Kind, float] = {"predict": 50, "jobs": 25, "ensemble": 25}
NATURES = {"plain": 86.6, "copied": 8, "junk": 3, "poison": 0.4, "too small": 2}


@dataclass(frozen=True)
class Asked:
    """One request: after how long, of what kind, and what is odd about it."""

    at_s: float
    kind: Kind
    nature: str


@dataclass(frozen=True)
class Fault:
    at_s: float
    kind: str
    which: float  # of several, 0 to 1
    for_s: float  # where it lasts


def asked(rng: random.Random, jobs: int) -> list[Asked]:
    """``jobs`` requests, most of them plain."""
    natures = rng.choices(list(NATURES), list(NATURES.values()), k=jobs)
    kinds = rng.choices(list(KINDS), list(KINDS.values()), k=jobs)
    return [
        Asked(QUIET_S + number * PACE_S, "predict" if nature == "poison" else kind, nature)
        for number, (kind, nature) in enumerate(zip(kinds, natures, strict=True))
    ]


def faults(rng: random.Random, seconds: float) -> list[Fault]:
    """As many as fall into that time."""
    found, at_s = [], QUIET_S
    while (at_s := at_s + rng.expovariate(1 / EVERY_S)) < seconds:
        kind = rng.choices(list(FAULTS), list(FAULTS.values()))[0]
        found.append(Fault(at_s, kind, rng.random(), LEASE_S * rng.choice((0.3, 0.8, 1.5, 2.5))))
    return found
