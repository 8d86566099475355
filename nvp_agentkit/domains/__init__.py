"""Processes whose equations we can solve, one file each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nvp_agentkit.domains import (
    heat_diffusion,
    magnetohydrodynamics,
    plasma_physics,
    reaction_diffusion,
    shallow_water,
    shear_flow,
    turbulence_2d,
)
from nvp_agentkit.domains.runs import Process, Progress, check_counts, run
from nvp_agentkit.errors import UnknownDomain
from nvp_agentkit.fields.sequence import SequenceSet


@dataclass(frozen=True)
class Domain:
    """A process by name.

    Attributes:
        process: (size, seed, parameters or None) -> Process; refuses unstable parameters.
    """

    name: str
    description: str
    process: Callable[[int, int, Any], Process]

    def simulate(
        self,
        trajectories: int = 12,
        frames: int = 41,
        size: int = 64,
        seed: int = 0,
        progress: Progress | None = None,
        *,
        parameters: Any = None,
    ) -> SequenceSet:
        """Energy maps of independent runs, values (trajectories, frames, size, size).

        Args:
            trajectories: runs that differ in where they start.
            frames: delivered per run, evenly spaced.
            size: cells a side, even, >= 16.
            seed: equal seeds give equal bits on one platform.
            progress: called after every frame's worth of steps with (done, of); what it raises ends the run.
            parameters: the domain's own dataclass of physics and numbers; None for its defaults at ``size``.

        Raises:
            InvalidInput: counts or parameters out of range, or the run became unstable; names the limit.
        """
        check_counts(trajectories, frames, size)
        return run(self.process(size, seed, parameters), trajectories, frames, progress)


DOMAINS = {
    domain.name: domain
    for domain in (
        Domain("plasma_physics", "drift-wave turbulence, modified Hasegawa-Wakatani", plasma_physics.process),
        Domain("turbulence_2d", "decaying or forced turbulence of an incompressible fluid", turbulence_2d.process),
        Domain("shear_flow", "Kelvin-Helmholtz: two shear layers that roll up", shear_flow.process),
        Domain("magnetohydrodynamics", "Orszag-Tang vortex or random fields of a plasma", magnetohydrodynamics.process),
        Domain("shallow_water", "waves and eddies of a rotating layer of fluid", shallow_water.process),
        Domain("heat_diffusion", "heat in an uneven plate with flames and sinks", heat_diffusion.process),
        Domain("reaction_diffusion", "Gray-Scott: spots and waves of an autocatalyst", reaction_diffusion.process),
    )
}


def get_domain(name: str) -> Domain:
    """Raises `UnknownDomain`, naming the known ones."""
    if name not in DOMAINS:
        raise UnknownDomain(f"no simulator for domain {name!r}; known: {', '.join(sorted(DOMAINS))}, or import a file")
    return DOMAINS[name]
