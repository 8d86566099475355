"""What the named queries answer with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nvp_agentkit.lineage.walk import Thing


@dataclass(frozen=True)
class Joules:
    """Millijoules of one phase known by one method. Methods are never summed without showing the split."""

    phase: str
    method: str
    mj: int
    lo_mj: int
    hi_mj: int
    readings: int


@dataclass(frozen=True)
class Recipe:
    """What it takes to make a thing again; ``missing`` names what the graph does not know of it."""

    thing: Thing
    run: Thing | None
    configs: tuple[dict[str, Any], ...]
    seeds: tuple[int, ...]
    code: Thing | None
    environment: Thing | None
    inputs: tuple[Thing, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Ballot:
    """What one voter said. ``dissent`` is None where no tally has judged it."""

    voter: str
    model_id: str | None
    value_digest: str | None
    dissent: bool | None
    signature: str | None
    at_ms: int | None


@dataclass(frozen=True)
class Decided:
    """How one request was answered: who asked, who voted what, who decided, who paid."""

    decision: Thing
    asked_by: str | None
    decided_by: str | None
    models: tuple[str, ...]
    ballots: tuple[Ballot, ...]
    joules: tuple[Joules, ...]
    paid_by: tuple[str, ...]


@dataclass(frozen=True)
class Statement:
    """What an account was charged, as the graph knows it; the live balance is the ledger's."""

    account: Thing
    lines: tuple[Joules, ...]


@dataclass(frozen=True)
class Best:
    """The model a domain's agent should ask, and the better ones that were passed over as tainted."""

    model: Thing
    metric: str
    value: float
    passed_over: tuple[str, ...]
