"""Sequences of energy maps of plasma turbulence, from the equations in `hasegawa_wakatani`.

Values (N, T, size, size) of E = (n^2 + |grad phi|^2) / 2, or of n where a benchmark asks for it. Nothing here has an SI
unit: ``dt_s`` counts L_n / c_s and ``dx_m`` counts rho_s, as the provenance says. The density gradient drives the flow,
so the total is not conserved: conservation "open".
"""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from functools import partial

from nvp_agentkit.domains.hasegawa_wakatani import REFERENCE_DAMPING, Parameters, noise, solver
from nvp_agentkit.domains.runs import Process, Solver
from nvp_agentkit.fields.sequence import FieldMeta

SPIN_UP_SIZE = 128  # a grid finer than this starts coarse


def process(size: int, seed: int, parameters: Parameters | None = None, *, density: bool = False) -> Process:
    """Trajectories of ``seed`` differ in their initial noise; ``parameters`` default to `Parameters.for_size`.

    With ``density`` the same trajectories, shown by n instead of E.
    """
    parameters = parameters or Parameters.for_size(size)
    spin_up, meta = _spin_up(size, parameters), _meta(parameters, size, seed)
    return Process(
        first=partial(noise, spin_up[0][0].size, parameters, seed),
        spin_up=spin_up,
        solver=solver(size, parameters, density=density),
        coarser=lambda factor: solver(
            size // factor, replace(parameters, nu=parameters.nu * factor**4), density=density
        ),
        meta=_of_density(meta) if density else meta,
    )


def _spin_up(size: int, parameters: Parameters) -> tuple[tuple[Solver, int], ...]:
    period, fine = parameters.dt * parameters.frame_steps, solver(size, parameters)
    if size <= SPIN_UP_SIZE:
        return ((fine, round(parameters.spin_up / period)),)
    coarse_nu = REFERENCE_DAMPING / (parameters.k0 * SPIN_UP_SIZE / 3) ** 4
    # The reference task's spin-up; one frame's worth of steps is one unit of time.
    coarse = solver(SPIN_UP_SIZE, replace(parameters, nu=coarse_nu, dt=0.04, frame_steps=25))
    return (coarse, round(parameters.spin_up - parameters.refine)), (fine, round(parameters.refine / period))


def _of_density(meta: FieldMeta) -> FieldMeta:
    return replace(meta, units="n0 rho_s/L_n", positive=False).noting(shown="density")


def _meta(parameters: Parameters, size: int, seed: int) -> FieldMeta:
    return FieldMeta(
        domain="plasma_physics",
        units="n0 Te (rho_s/L_n)^2",
        dt_s=parameters.dt * parameters.frame_steps,
        dx_m=2 * math.pi / parameters.k0 / size,
        boundary=("periodic", "periodic"),
        conservation="open",
        positive=True,
        provenance={
            "equation": "modified Hasegawa-Wakatani",
            "time_unit": "L_n/c_s",
            "length_unit": "rho_s",
            "seed": seed,
            "parameters": asdict(parameters),
        },
    )
