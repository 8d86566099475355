"""One update, compiled once: loss, gradients, Muon and AdamW, averaged weights."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from nvp_agentkit.model.bundle import Floats
from nvp_agentkit.model.network import run
from nvp_agentkit.model.state import Variables, pack, unpack
from nvp_agentkit.training.examples import Batch
from nvp_agentkit.training.member_config import MemberConfig
from nvp_agentkit.training.optimiser import optimiser

# What a step does not depend on, or only by its arguments: one program whatever they are.
ALIKE: dict[str, Any] = {
    "seed": 0, "features": None, "learning_rate": 1.0, "warmup_steps": 0, "max_steps": 0, "validations": 1,
    "rollout_steps": 1,
}  # fmt: skip

Scale = np.float32 | Floats


class TrainingState(NamedTuple):
    """All that a run is between two steps: resumed from it, the numbers are the same.

    Weights are one vector (`model.state.pack`): an optimiser over one leaf instead of sixty takes 3 s less to
    compile, half of the whole step.
    """

    step: jax.Array
    weights: jax.Array
    average: jax.Array
    opt_state: optax.OptState


def first_state(config: MemberConfig, variables: Variables) -> TrainingState:
    """The state before the first step, starting from ``variables``."""
    weights = pack(variables)
    moments = jax.eval_shape(optimiser(config).init, weights)  # all zero, and no program is compiled to say so
    empty = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), moments)
    # A buffer each: the step gives all of them away.
    opt_state = jax.tree.map(jnp.array, empty)
    return TrainingState(jnp.array(np.int32(0)), jnp.array(weights), jnp.array(weights), opt_state)


def loss_of(config: MemberConfig, weights: jax.Array, batch: Batch, scale: Scale, key: jax.Array) -> jax.Array:
    """Squared error in units of persistence's (``scale``), plus the likelihood of the log-variance head.

    The likelihood sees the error as given (no gradient into the mean): beta-NLL with beta = 1 (Seitzer et al.
    2022), so an overconfident variance cannot pull the mean away from the data. Later targets of ``batch`` are forecast
    from forecasts.
    """
    network, variables = config.model_config, unpack(config.model_config, weights)
    frames, valid, origin = (jnp.asarray(part) for part in (batch.frames, batch.valid, batch.origin))
    seen = valid if network.masked else None
    beside = None if batch.beside is None else jnp.asarray(batch.beside)
    mean, log_var = run(network, variables, frames, seen, origin, beside, dropout=key)
    loss: jax.Array = _misfit(config, mean, log_var, batch.target, batch.weight, scale)
    if batch.later is None or batch.later_weight is None:
        return loss
    ahead = batch.later.shape[-1]
    for place in range(ahead):  # a forecast has a value in every cell
        frames = jnp.concatenate([frames[..., 1:], mean[..., None]], -1)
        seen = None if seen is None else jnp.concatenate([seen[..., 1:], jnp.ones_like(seen[..., :1])], -1)
        mean, log_var = run(network, variables, frames, seen, None, beside, jax.random.fold_in(key, place))
        # Errors that add up step by step grow with the square of their number.
        target, weight = batch.later[..., place], batch.later_weight[..., place]
        loss += _misfit(config, mean, log_var, target, weight, scale) / (place + 2) ** 2
    loss /= 1 + ahead
    return loss


def _misfit(
    config: MemberConfig, mean: jax.Array, log_var: jax.Array, target: Floats, weight: Floats, scale: Scale
) -> jax.Array:
    error2 = jnp.square(mean - target)
    likelihood = 0.5 * (log_var + jax.lax.stop_gradient(error2) * jnp.exp(-log_var))
    cells = jnp.maximum(jnp.sum(weight), 1.0)
    misfit: jax.Array = jnp.sum(weight * (error2 / scale + config.variance_weight * likelihood)) / cells
    return misfit


def train_step(
    config: MemberConfig, state: TrainingState, batch: Batch, rate: float, scale: float | Floats
) -> tuple[TrainingState, jax.Array]:
    """The state after one batch at learning rate ``rate``, and its loss, NaN where weights were left as they are.

    ``state`` is used up. ``scale``: of persistence's squared error, one for all windows or (B, 1, 1), one for each.

    Compiled once a network, batch shape and number of steps ahead: seeds, widths and schedules share it.
    """
    knobs = Knobs(np.float32(rate), np.asarray(scale, np.float32), np.uint32(config.seed))
    after, loss = _step(replace(config, **ALIKE), state, batch, knobs)
    return after, loss


class Knobs(NamedTuple):
    """What may change from step to step, or from run to run, without a new compile."""

    rate: np.float32
    scale: Scale
    seed: np.uint32


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _step(config: MemberConfig, state: TrainingState, batch: Batch, knobs: Knobs) -> tuple[TrainingState, jax.Array]:
    key = jax.random.fold_in(jax.random.key(knobs.seed), state.step)
    loss, gradient = jax.value_and_grad(lambda w: loss_of(config, w, batch, knobs.scale, key))(state.weights)
    sound = jnp.isfinite(loss) & jnp.all(jnp.isfinite(gradient))  # else the weights stay as they are
    gradient = jnp.where(sound, gradient, 0)
    direction, opt_state = optimiser(config).update(gradient, state.opt_state, state.weights)
    weights = state.weights - jnp.where(sound, knobs.rate, 0) * direction
    # A young average would remember the first weights: its memory grows with the run up to ema_decay.
    decay = jnp.minimum(config.ema_decay, (1.0 + state.step) / (10.0 + state.step))
    average = decay * state.average + (1 - decay) * weights
    return TrainingState(state.step + 1, weights, average, opt_state), jnp.where(sound, loss, jnp.nan)
