"""What a demo is asked to be."""

from __future__ import annotations

from dataclasses import dataclass

from nvp_agentkit.settings import Settings


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line."""

    settings: Settings
    data: str | None
    units: str
    budget_j: float
    size: int
    seed: int
    keep: bool
