"""``python -m benchmarks.starter_weights FILE``: the starter model's weights, trained in all simulators together.

Every step sees one window of each domain, normalised to its own data and its error in units of persistence's, so that
no domain weighs more for being hard; every other step the frames are twice as far apart. Equal bits on one core of one
kind of CPU. `benchmarks.starter` says what they are worth; docs/starter.md is the model's card.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.one_core import pin
from nvp_agentkit.domains import DOMAINS
from nvp_agentkit.fields.sequence import Floats, SequenceSet
from nvp_agentkit.model import ModelBundle, save_model
from nvp_agentkit.model.bundle import Normalization
from nvp_agentkit.model.state import unpack
from nvp_agentkit.training import MemberConfig
from nvp_agentkit.training.examples import Batch, Examples
from nvp_agentkit.training.start import fitted_start
from nvp_agentkit.training.step import first_state, train_step

SEED, STEPS = 7, 1500
SIDE, TRAJECTORIES, FRAMES = 64, 8, 33
WIDER = 80  # cells of a domain with edges: crops from inside look like a domain without
STRIDES = (1, 2)  # frames are delivered this many apart
TOLD_EVERY = 100
# Edges are configuration, not weights: one program is trained, on windows where none is seen.
CONFIG = MemberConfig(seed=SEED, crop=SIDE, learning_rate=4e-3, ema_decay=0.99)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.starter_weights", description="Train the starter.")
    parser.add_argument("file", type=Path, help="where its weights go")
    parser.add_argument("--steps", type=int, default=STEPS, help="fewer, to see that it runs")
    asked = parser.parse_args()
    pin()
    print(save_model(trained(asked.steps), asked.file), f"{time.process_time():.0f} CPU-s in all")


def trained(steps: int, beside: Sequence[str] = ()) -> ModelBundle:
    """The weights after so many steps, averaged over the last of them; its units and calibration are nobody's.

    ``beside``: of `facts` those that the network is told of each window; the starter none.
    """
    config = replace(CONFIG, model_config=replace(CONFIG.model_config, beside=tuple(beside)))
    shown = examples()
    print(f"data: {time.process_time():.0f} CPU-s", flush=True)
    first, _ = _batch(shown, 0, beside)
    state = first_state(config, fitted_start(config.model_config, config.first_variables(), first))
    for step in range(steps):
        batch, scale = _batch(shown, step, beside)
        warm, cooled = min(1.0, (step + 1) / config.warmup_steps), 0.5 * (1 + math.cos(math.pi * step / steps))
        state, loss = train_step(config, state, batch, config.learning_rate * warm * cooled, scale)
        if (step + 1) % TOLD_EVERY == 0:
            print(f"step {step + 1}: loss {float(loss):.4f}, {time.process_time():.0f} CPU-s", flush=True)
    recipe = {"domains": list(DOMAINS), "seed": SEED, "steps": steps, "strides": list(STRIDES), "side": SIDE}
    variables = unpack(config.model_config, np.asarray(state.average))
    units = tuple(Normalization() for _ in beside)
    return ModelBundle(config.model_config, variables, domain="starter", recipe=recipe, beside=units)


def facts(name: str, stride: int) -> dict[str, float]:
    """Of windows of that domain, with frames so far apart, what a network could be told."""
    return {"spacing": float(stride)} | {domain: float(domain == name) for domain in DOMAINS}


def examples() -> dict[str, tuple[Examples, ...]]:
    """By domain, then by stride."""
    return {name: _examples(name) for name in DOMAINS}


def _examples(name: str) -> tuple[Examples, ...]:
    """Of the domain, by stride."""
    domain = DOMAINS[name]
    edged = domain.chosen(SIDE, SEED).meta.boundary != CONFIG.model_config.boundary
    data = domain.simulate(TRAJECTORIES, FRAMES, WIDER if edged else SIDE, SEED)
    own = replace(CONFIG, model_config=replace(CONFIG.model_config, boundary=data.meta.boundary))
    return tuple(Examples.of(SequenceSet(data.values[:, ::stride], None, data.meta), own) for stride in STRIDES)


def _batch(
    shown: Mapping[str, tuple[Examples, ...]], step: int, beside: Sequence[str] = ()
) -> tuple[Batch, Floats]:
    """One window of each domain, and persistence's squared error in each, (B, 1, 1)."""
    turn, place = step % len(STRIDES), step // len(STRIDES)
    chosen = [of_strides[turn] for of_strides in shown.values()]
    batches = [one.batch(SEED, place, 1) for one in chosen]
    parts = [
        np.concatenate([np.asarray(part) for part in same]) for same in zip(*(one[:5] for one in batches), strict=True)
    ]
    scale = np.array([one.step_variance for one in chosen], np.float32)
    batch = Batch(*parts)
    if beside:
        told = [[facts(name, STRIDES[turn])[fact] for fact in beside] for name in shown]
        maps = np.broadcast_to(np.array(told, np.float32)[:, None, None], (*batch.target.shape, len(beside)))
        batch = batch._replace(beside=np.array(maps))
    return batch, scale[:, None, None]


if __name__ == "__main__":
    main()
