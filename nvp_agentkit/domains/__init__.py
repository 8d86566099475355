"""Processes whose equations we can solve, one file each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from nvp_agentkit import plugins
from nvp_agentkit.domains import (
    heat_diffusion,
    magnetohydrodynamics,
    plasma_physics,
    reaction_diffusion,
    shallow_water,
    shear_flow,
    turbulence_2d,
)
from nvp_agentkit.domains.magnetohydrodynamics import STARTS, Plasma
from nvp_agentkit.domains.runs import Process, Progress, check_counts, run
from nvp_agentkit.errors import InvalidInput, UnknownDomain
from nvp_agentkit.fields.sequence import SequenceSet


@dataclass(frozen=True)
class Domain:
    """A process by name.

    Attributes:
        process: (size, seed, parameters or None) -> Process; refuses unstable parameters.
        variants: by name, what gives a variant's parameters at a size; the first is the one that nobody need ask for.
    """

    name: str
    description: str
    process: Callable[[int, int, Any], Process]
    variants: Mapping[str, Callable[[int], Any]] = field(default_factory=dict)

    def chosen(self, size: int, seed: int, variant: str | None = None) -> Process:
        """The process of ``variant``, whose maps say which one they are of where there are several; as `check`."""
        self.check(variant)
        if not self.variants:
            return self.process(size, seed, None)
        name = variant or next(iter(self.variants))
        process = self.process(size, seed, self.variants[name](size))
        return process._replace(meta=process.meta.noting(variant=name))

    def check(self, variant: str | None) -> None:
        """Raises `InvalidInput` if there is no such variant, naming those there are."""
        if variant is not None and variant not in self.variants:
            known = f"there are {', '.join(self.variants)}" if self.variants else "there are none: leave it away"
            raise InvalidInput(f"{self.name} has no variant {variant!r}; {known}")

    def simulate(
        self,
        trajectories: int = 12,
        frames: int = 41,
        size: int = 64,
        seed: int = 0,
        progress: Progress | None = None,
        *,
        variant: str | None = None,
        parameters: Any = None,
    ) -> SequenceSet:
        """Energy maps of independent runs, values (trajectories, frames, size, size).

        Args:
            trajectories: runs that differ in where they start.
            frames: delivered per run, evenly spaced.
            size: cells a side, even, >= 16.
            seed: equal seeds give equal bits on one platform.
            progress: called after every frame's worth of steps with (done, of); what it raises ends the run.
            variant: by its name.
            parameters: the domain's own dataclass of physics and numbers, instead of those of a variant.

        Raises:
            InvalidInput: counts or parameters out of range, no such variant, or the run became unstable; names the
                limit.
        """
        check_counts(trajectories, frames, size)
        if parameters is None:
            return run(self.chosen(size, seed, variant), trajectories, frames, progress)
        if variant is not None:
            raise InvalidInput(f"variant {variant!r} and parameters; give one of them")
        return run(self.process(size, seed, parameters), trajectories, frames, progress)


DOMAINS = {
    domain.name: domain
    for domain in (
        Domain("plasma_physics", "drift-wave turbulence, modified Hasegawa-Wakatani", plasma_physics.process),
        Domain("turbulence_2d", "decaying or forced turbulence of an incompressible fluid", turbulence_2d.process,
               {"decaying": turbulence_2d.decaying, "forced": turbulence_2d.forced}),
        Domain("shear_flow", "Kelvin-Helmholtz: two shear layers that roll up", shear_flow.process),
        Domain("magnetohydrodynamics", "Orszag-Tang vortex or random fields of a plasma", magnetohydrodynamics.process,
               {start: partial(Plasma.for_size, start=start) for start in STARTS}),
        Domain("shallow_water", "waves and eddies of a rotating layer of fluid", shallow_water.process),
        Domain("heat_diffusion", "heat in an uneven plate with flames and sinks", heat_diffusion.process),
        Domain("reaction_diffusion", "Gray-Scott: spots and waves of an autocatalyst", reaction_diffusion.process),
    )
}  # fmt: skip


def get_domain(name: str) -> Domain:
    """One of ours, or of a plug-in of the group ``nvp_agentkit.domains`` (docs/extending.md).

    Raises:
        UnknownDomain: neither; the text names those there are.
        PluginFailed: what is found by that name is no `Domain` of that name.
    """
    if name in DOMAINS:
        return DOMAINS[name]
    if name not in known_domains():
        raise UnknownDomain(f"no simulator for domain {name!r}; known: {', '.join(known_domains())}, or import a file")
    plugin = plugins.load(plugins.DOMAINS, name)
    found = plugin.thing
    if not isinstance(found, Domain) or found.name != name:
        raise plugin.failed(f"it is {found!r:.60}, no Domain of that name")
    return found


def known_domains() -> tuple[str, ...]:
    """The names of all domains that can be simulated, in order."""
    return tuple(sorted({*DOMAINS, *plugins.names(plugins.DOMAINS)}))
