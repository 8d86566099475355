"""The best trivial forecaster that the untrained network can be, found on training data.

Where nothing beats persistence it stays persistence; on a flow it starts as advection plus a share of the
Lagrangian increment. So the first step of training already competes with the baseline it is judged by.
"""

from __future__ import annotations

import jax.numpy as jnp

from nvp_agentkit.model.predict import LARGEST_BATCH, forward
from nvp_agentkit.model.state import Variables
from nvp_agentkit.training.config import TrainingConfig
from nvp_agentkit.training.examples import Examples


def fitted_start(config: TrainingConfig, variables: Variables, examples: Examples) -> Variables:
    """``variables`` with drift 0 or 1 and share the least-squares one in [0, 1], whichever errs least."""
    batch = examples.batch(config.seed, 0, LARGEST_BATCH)
    valid = batch.valid if config.model_config.masked else None
    best: tuple[float, Variables] | None = None
    for drift in (0.0, 1.0):
        with_none, with_all = (_set(variables, drift, share) for share in (0.0, 1.0))
        mean = forward(config.model_config, with_none, batch.frames, valid)[0]
        gain = forward(config.model_config, with_all, batch.frames, valid)[0] - mean
        error = batch.weight * (batch.target - mean)
        share = float(jnp.vdot(gain, error) / jnp.maximum(jnp.vdot(gain, batch.weight * gain), 1e-12))
        share = min(max(share, 0.0), 1.0)
        loss = float(jnp.sum(batch.weight * jnp.square(error - share * gain)))
        if best is None or loss < best[0]:
            best = (loss, _set(variables, drift, share))
    assert best is not None
    return best[1]


def _set(variables: Variables, drift: float, share: float) -> Variables:
    return {"params": variables["params"] | {"drift": jnp.float32(drift), "share": jnp.float32(share)}}
