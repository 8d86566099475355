"""On an accelerator: the network's forward pass and training step against the roofline, bfloat16 beside float32.

The bound of a program is the larger of its arithmetic at the speed of a large matrix product and of the bytes that XLA
says it moves at the speed of a large copy, both measured here. Times are of the wall; the search for the flow, which a
worker does on the CPU, is not among them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.clock import finish, gflop, roofline_gflop_s, side_by_side
from benchmarks.verdict import BrokenError, Figure
from nvp_agentkit.domains import DOMAINS
from nvp_agentkit.model import ModelBundle, NVPConfig
from nvp_agentkit.model.config import PRECISIONS
from nvp_agentkit.model.predict import forward_program, lowest, origins
from nvp_agentkit.model.state import Variables, initial_variables
from nvp_agentkit.training import MemberConfig, MemberTrainer, StepPacer, evaluate
from nvp_agentkit.training.examples import Batch
from nvp_agentkit.training.step import first_state, train_step

GOAL_OF_BOUND = 0.5
COPIED_ROUNDS = 7
DOMAIN = "turbulence_2d"


class Plan(NamedTuple):
    """How much; by default what an accelerator is given."""

    network: NVPConfig = NVPConfig()
    side: int = 256
    batch: int = 256
    rounds: int = 20
    matmul_side: int = 8192
    copied_mb: int = 1024
    trained_side: int = 64
    trained_frames: int = 41
    trained_steps: int = 1000


TINY = Plan(
    NVPConfig(latent_dim=9, encoder_features=(8, 8)), side=16, batch=2, rounds=2, matmul_side=64, copied_mb=1,
    trained_side=16, trained_frames=6, trained_steps=2,
)  # fmt: skip


def measure(*, quick: bool) -> dict[str, Figure]:
    """Quick: next to nothing, on any device, held to nothing."""
    if not quick and jax.default_backend() == "cpu":
        raise BrokenError("no accelerator here; --quick shows that it would run")
    return dict(_figures(TINY if quick else Plan(), held=not quick))


def _figures(plan: Plan, *, held: bool) -> Iterator[tuple[str, Figure]]:
    copied_gb_s = _copy_gb_s(plan.copied_mb)
    yield "copy", Figure(copied_gb_s, "GB/s")
    for precision in PRECISIONS:
        peak = roofline_gflop_s(jnp.dtype(precision), side=plan.matmul_side)
        yield f"{precision}/matmul", Figure(peak / 1000, "TFLOP/s")
        config = replace(plan.network, precision=precision)
        program, arguments = _forward(config, plan)
        took = side_by_side({"forward": partial(program, *arguments)}, plan.rounds)["forward"].p50_ms
        bound = 1000 * max(gflop(program, *arguments) / peak, _gb(program, arguments) / copied_gb_s)
        goal = GOAL_OF_BOUND if held and precision == "float32" else None
        yield f"{precision}/forward", Figure(took, "ms")
        yield f"{precision}/forward_a_second", Figure(1000 * plan.batch / took, "fields")
        yield f"{precision}/of_bound", Figure(bound / took, "share", goal=goal, higher_is_better=True)
        step = side_by_side({"step": _step(config, plan)}, plan.rounds)["step"].p50_ms
        yield f"{precision}/train_step_per_sample", Figure(step / plan.batch, "ms")
    errors = _errors(plan)
    for name, error in errors.items():
        yield f"{name}/error", Figure(error, "VRMSE")
    yield "bfloat16/error_over_float32", Figure(errors["bfloat16"] / errors["float32"], "ratio")


def _forward(config: NVPConfig, plan: Plan) -> tuple[Any, tuple[Any, ...]]:
    """The compiled network of a bundle, and arguments that are on the device."""
    bundle = ModelBundle(config, initial_variables(config, 0))
    windows = _windows(config, plan)
    variables: Variables = jax.tree.map(jnp.asarray, bundle.variables)
    network = forward_program(config, windows.frames.shape)
    return network, (variables, windows.frames, None, windows.origin, lowest(bundle))


def _windows(config: NVPConfig, plan: Plan) -> Batch:
    """One window so many times: what it holds does not matter to time."""
    drawn = np.random.default_rng(0).standard_normal((1, plan.side, plan.side, config.context_frames), np.float32)
    parts = drawn, np.ones_like(drawn), origins(config, drawn), drawn[..., 0], np.ones_like(drawn[..., 0])
    windows: Batch = jax.tree.map(jnp.asarray, Batch(*(np.repeat(part, plan.batch, 0) for part in parts)))
    return windows


def _step(config: NVPConfig, plan: Plan) -> Callable[[], jax.Array]:
    member = MemberConfig(config, batch_size=plan.batch)
    state, windows = first_state(member, member.first_variables()), _windows(config, plan)

    def step() -> jax.Array:
        nonlocal state
        state, loss = train_step(member, state, windows, member.learning_rate, 1.0)
        return loss

    return step


def _gb(program: Any, arguments: tuple[Any, ...]) -> float:
    """What XLA says that the compiled program reads and writes."""
    return float(program.lower(*arguments).compile().cost_analysis()["bytes accessed"]) / 1e9


def _copy_gb_s(megabytes: int) -> float:
    """The best of some copies; each byte is read and written."""
    source = jnp.zeros(megabytes << 18, jnp.float32)
    copy = jax.jit(lambda array: array + 1)
    finish(copy(source))
    took = []
    for _ in range(COPIED_ROUNDS):
        began = time.perf_counter()
        finish(copy(source))
        took.append(time.perf_counter() - began)
    return 2 * source.nbytes / min(took) / 1e9


def _errors(plan: Plan) -> dict[str, float]:
    """VRMSE of each precision after as many steps on the same data, on trajectories not trained on."""
    train, validation, test = (
        DOMAINS[DOMAIN].simulate(4, plan.trained_frames, plan.trained_side, seed) for seed in (1, 2, 3)
    )
    found: dict[str, float] = {}
    for precision in PRECISIONS:
        config = MemberConfig(replace(plan.network, precision=precision))
        trained = MemberTrainer(config).fit(train, validation, StepPacer(plan.trained_steps))
        found[precision] = evaluate(trained.bundle, test).vrmse
    return found
