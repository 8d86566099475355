"""What the reference task's data cost: 100 frames of Hasegawa-Wakatani turbulence, 256x256 cells, on one core.

One trajectory. CPU-seconds are the process's own, of the frames after the spin-up and without compiling.
"""

from __future__ import annotations

import time
from dataclasses import replace

from benchmarks.one_core import pin
from benchmarks.verdict import Figure
from nvp_agentkit.domains import plasma_physics
from nvp_agentkit.domains.reference import PARAMETERS, SIZE, SPLITS
from nvp_agentkit.domains.runs import play

FRAMES = 100
LIMIT_CPU_S = 24.0


def measure(*, quick: bool) -> dict[str, Figure]:
    """One trajectory of the test split; quick: of 10 frames, after a spin-up of 2 units of time."""
    pin()
    parameters = replace(PARAMETERS, spin_up=2.0, refine=1.0) if quick else PARAMETERS
    process = plasma_physics.process(SIZE, SPLITS["test"][1], parameters)
    frames, spent_s = 10 if quick else FRAMES, 0.0
    began_s = last_s = time.process_time()
    for _, maps in play(process, range(1), frames):
        now_s = time.process_time()
        if maps is not None:
            spent_s += now_s - last_s
        last_s = now_s
    steps = frames * parameters.frame_steps
    (_, coarse), (_, fine) = process.spin_up
    return {
        "cpu_s": Figure(round(spent_s * FRAMES / frames, 2), "s", floor=LIMIT_CPU_S),
        "step_ms": Figure(round(1000 * spent_s / steps, 2), "ms"),
        "steps_a_frame": Figure(parameters.frame_steps, "steps"),
        "spin_up_cpu_s": Figure(round(last_s - began_s - spent_s, 2), "s"),
        "spin_up_steps_128": Figure(coarse * 25, "steps"),
        "spin_up_steps_256": Figure(fine * parameters.frame_steps, "steps"),
    }
