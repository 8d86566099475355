"""The project's reference task, so that two engineers measure the same thing: Hasegawa-Wakatani on 256x256 cells.

Spin-up to t = 150 on 128x128 (steps of 0.04), on to t = 170 on 256x256 (steps of 0.05), then 101 frames every 0.5, in
splits of trajectories that share no seed. What a forecaster chooses, it chooses on "train" and "validation" alone.
"""

from __future__ import annotations

from nvp_agentkit.domains import plasma_physics
from nvp_agentkit.domains.hasegawa_wakatani import Parameters
from nvp_agentkit.domains.runs import Progress, check_counts, run
from nvp_agentkit.fields.sequence import SequenceSet
from nvp_agentkit.reference_task import FRAMES, PARTS, SIZE, Split

PARAMETERS = Parameters(
    alpha=1.0, kappa=1.0, k0=0.15, nu=1e-4, dt=0.05, frame_steps=10, spin_up=170.0, refine=20.0
)  # fmt: skip


def reference(
    split: Split,
    progress: Progress | None = None,
    *,
    size: int = SIZE,
    frames: int = FRAMES,
    parameters: Parameters | None = None,
    density: bool = False,
) -> SequenceSet:
    """The trajectories of ``split``, as maps of E or else of the density n.

    Another size, fewer frames or other ``parameters`` make a small stand-in.
    """
    check_counts(1, frames, size)
    part = PARTS[split]
    if size == SIZE:
        parameters = parameters or PARAMETERS
    return run(
        plasma_physics.process(size, part.seed, parameters, density=density), part.trajectories, frames, progress
    )
