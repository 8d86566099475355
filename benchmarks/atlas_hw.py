"""What the reference task's data cost: 100 frames of Hasegawa-Wakatani turbulence, 256x256 cells, on one core.

One trajectory of the test split. CPU-seconds are the process's own, of the frames after the spin-up and without
compiling. Then one more frame from where it ended, in turn by us and by the same equation built from exponax parts.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.exponax_peer import PACKAGES, exponax
from benchmarks.one_core import pin
from benchmarks.throwaway import environment
from benchmarks.verdict import Figure
from nvp_agentkit.domains import plasma_physics
from nvp_agentkit.domains.reference import PARAMETERS
from nvp_agentkit.domains.runs import Solver, play
from nvp_agentkit.domains.spectral import Spectra
from nvp_agentkit.reference_task import PARTS, SIZE

FRAMES = 100
LIMIT_CPU_S = 24.0
ROUNDS = 9
LARGEST_DIFFERENCE = 1e-4  # of the density after a frame: each misses it by 1.3e-4, in much the same way


def measure(*, quick: bool) -> dict[str, Figure]:
    """Quick: 10 frames, after a spin-up of 2 units of time; without exponax."""
    pin()
    parameters = replace(PARAMETERS, spin_up=2.0, refine=1.0) if quick else PARAMETERS
    process = plasma_physics.process(SIZE, PARTS["test"].seed, parameters)
    frames, spent_s, last = 10 if quick else FRAMES, 0.0, None
    began_s = last_s = time.process_time()
    for last, maps in play(process, range(1), frames):  # noqa: B007 - the last states go on beside exponax
        now_s = time.process_time()
        if maps is not None:
            spent_s += now_s - last_s
        last_s = now_s
    (_, coarse), (_, fine) = process.spin_up
    figures = {
        "cpu_s": Figure(round(spent_s * FRAMES / frames, 2), "s", floor=LIMIT_CPU_S),
        "step_ms": Figure(round(1000 * spent_s / frames / parameters.frame_steps, 2), "ms"),
        "steps_a_frame": Figure(parameters.frame_steps, "steps"),
        "spin_up_cpu_s": Figure(round(last_s - began_s - spent_s, 2), "s"),
        "spin_up_steps_128": Figure(coarse * 25, "steps"),
        "spin_up_steps_256": Figure(fine * parameters.frame_steps, "steps"),
    }
    return figures if quick else figures | _beside_exponax(process.solver, np.asarray(last))


def _beside_exponax(solver: Solver, states: Spectra) -> dict[str, Figure]:
    """Nothing where it cannot be installed."""
    with tempfile.TemporaryDirectory(prefix="nvp-") as folder:
        python = environment(Path(folder) / "exponax", *PACKAGES)
        if python is None:
            return {}
        before = _our_step_ms(solver, states)
        theirs, their_ms = exponax(python, Path(folder), _fields(states), PARAMETERS, ROUNDS)
        our_ms = float(np.median(before + _our_step_ms(solver, states)))
    ours = _fields(np.asarray(solver.advance(states)))
    difference = float(np.linalg.norm(ours[1] - theirs[1]) / np.linalg.norm(ours[1]))
    return {
        "our_step_ms": Figure(round(our_ms, 2), "ms"),
        "exponax_step_ms": Figure(round(their_ms, 2), "ms"),
        "vs_exponax": Figure(round(our_ms / their_ms, 3), "ratio", goal=1.0),
        "difference": Figure(float(f"{difference:.2g}"), "1", floor=LARGEST_DIFFERENCE),
    }


def _our_step_ms(solver: Solver, states: Spectra) -> list[float]:
    took = []
    for _ in range(ROUNDS):
        began_s = time.process_time()
        solver.advance(states).block_until_ready()
        took.append(1000 * (time.process_time() - began_s) / PARAMETERS.frame_steps)
    return took


def _fields(states: Spectra) -> np.ndarray:
    """(zeta, n) of the one trajectory, (2, size, size)."""
    return np.fft.irfft2(states[0], s=(SIZE, SIZE)).astype(np.float32)
