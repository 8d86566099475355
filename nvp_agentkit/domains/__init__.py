"""Processes whose equations we can solve, one file each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nvp_agentkit.domains import plasma_physics
from nvp_agentkit.errors import UnknownDomain
from nvp_agentkit.fields.sequence import SequenceSet


@dataclass(frozen=True)
class Domain:
    """A process by name.

    Attributes:
        simulate: (trajectories, frames, size, seed, progress) -> SequenceSet, whose meta holds units, spacing,
            boundary and conservation class.
    """

    name: str
    description: str
    simulate: Callable[..., SequenceSet]


DOMAINS = {
    domain.name: domain
    for domain in (
        Domain("plasma_physics", "drift-wave turbulence, modified Hasegawa-Wakatani", plasma_physics.simulate),
    )
}


def get_domain(name: str) -> Domain:
    """Raises `UnknownDomain`, naming the known ones."""
    if name not in DOMAINS:
        raise UnknownDomain(f"no simulator for domain {name!r}; known: {', '.join(sorted(DOMAINS))}, or import a file")
    return DOMAINS[name]
