"""One forecast of a 256x256 field on a CPU: ours, the founding document's network, a published U-Net and FNO.

All in one process on all cores it may use, a call each in turn. ``ours`` is what a worker runs, `predict_next`, units
and the search for the flow included; ``ours_network`` its compiled network alone. Weights are fresh ones: time does
not depend on them. ``of_roofline`` is by CPU-seconds. In ONNX Runtime, tried once by hand, ours converted only with
changes and was seven times slower, so it is not among them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.clock import Timed, gflop, roofline_gflop_s, side_by_side
from benchmarks.documented import documented
from benchmarks.peers import FRAMES, peer
from benchmarks.verdict import Figure
from nvp_agentkit.model import ModelBundle, NVPConfig, NVPModel, predict_next
from nvp_agentkit.model.predict import forward_program, lowest, origins
from nvp_agentkit.model.state import initial_variables

SIZE, ROUNDS, QUICK_ROUNDS = 256, 50, 2
PEERS = ("u_net", "fno")
FLOOR_TIMES, GOAL_TIMES, GOAL_MS = 12.0, 30.0, 10.0


def measure(*, quick: bool) -> dict[str, Figure]:
    """p50 of `ROUNDS` calls each after warm-up, batch 1."""
    frames = np.random.default_rng(0).standard_normal((1, FRAMES, SIZE, SIZE), np.float32)
    peak = roofline_gflop_s(clock=time.process_time)
    calls: dict[str, Callable[[], Any]] = {}
    computed: dict[str, float] = {}
    calls["ours"], calls["ours_network"], computed["ours_network"] = _ours(frames)
    for name, program, weights in [_documented(), *map(_peer, PEERS)]:
        shown = jnp.asarray(
            np.moveaxis(frames, 1, -1)[..., -1:] if name == "documented" else np.moveaxis(frames, 1, -1)
        )
        calls[name] = partial(program, weights, shown)
        computed[name] = gflop(program, weights, shown)
    timed = side_by_side(calls, QUICK_ROUNDS if quick else ROUNDS)
    return _figures(timed, computed, peak)


def _ours(frames: Any) -> tuple[Callable[[], Any], Callable[[], Any], float]:
    config = NVPConfig()
    bundle = ModelBundle(config, jax.tree.map(jnp.asarray, initial_variables(config, 0)))
    shown = np.moveaxis(frames, 1, -1)
    arguments = (bundle.variables, shown, None, origins(config, shown), lowest(bundle))
    network = forward_program(config, shown.shape)
    return partial(predict_next, bundle, frames), partial(network, *arguments), gflop(network, *arguments)


def _documented() -> tuple[str, Any, Any]:
    config, weights = documented(SIZE)
    return "documented", jax.jit(NVPModel(config).apply), weights


def _peer(name: str) -> tuple[str, Any, Any]:
    found = peer(name, 0, ("periodic", "periodic"))
    return name, jax.jit(found.apply), found.weights


def _figures(timed: dict[str, Timed], computed: dict[str, float], peak: float) -> dict[str, Figure]:
    ours = timed["ours"].p50_ms
    figures = {
        "threads": Figure(len(os.sched_getaffinity(0)), "cores"),
        "roofline": Figure(peak, "GFLOP/CPU-s"),
        "ours/p50": Figure(ours, "ms", goal=GOAL_MS),
        "documented/over_ours": Figure(
            timed["documented"].p50_ms / ours, "x", floor=FLOOR_TIMES, goal=GOAL_TIMES, higher_is_better=True
        ),
    }
    for name in PEERS:
        figures[f"{name}/over_ours"] = Figure(timed[name].p50_ms / ours, "x", floor=1.0, higher_is_better=True)
    for name, took in timed.items():
        figures.setdefault(f"{name}/p50", Figure(took.p50_ms, "ms"))
        figures[f"{name}/cpu"] = Figure(took.cpu_ms, "CPU-ms")
        if name in computed:
            figures[f"{name}/computed"] = Figure(computed[name], "GFLOP")
            figures[f"{name}/of_roofline"] = Figure(computed[name] / took.cpu_ms * 1000 / peak, "share")
    return figures
