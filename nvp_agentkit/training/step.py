"""One update, compiled once: loss, gradients, AdamW, averaged weights."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from nvp_agentkit.model.network import run
from nvp_agentkit.model.state import Variables, initial_variables
from nvp_agentkit.training.config import TrainingConfig
from nvp_agentkit.training.examples import Batch

LARGEST_GRADIENT = 1.0  # clipped to this global norm
BETA_2 = 0.99  # a run of a few hundred steps is over before 0.999 has a memory


class TrainingState(NamedTuple):
    """All that a run is between two steps: resumed from it, the numbers are the same."""

    step: jax.Array
    variables: Variables
    average: Variables
    opt_state: optax.OptState


def optimiser(config: TrainingConfig) -> optax.GradientTransformation:
    """AdamW without its learning rate, which the pacer decides from step to step."""
    return optax.chain(
        optax.clip_by_global_norm(LARGEST_GRADIENT),
        optax.scale_by_adam(b2=BETA_2),
        optax.add_decayed_weights(config.weight_decay),
    )


def first_state(config: TrainingConfig) -> TrainingState:
    """The state before the first step."""
    variables = initial_variables(config.model_config, config.seed)
    average = jax.tree.map(jnp.copy, variables)  # its own buffers: the step gives both away
    return TrainingState(jnp.zeros((), jnp.int32), variables, average, optimiser(config).init(variables))


def loss_of(
    config: TrainingConfig, variables: Variables, batch: Batch, step_variance: jax.Array, dropout: jax.Array
) -> jax.Array:
    """Squared error in units of persistence's, plus the normal likelihood of the log-variance head.

    The likelihood sees the error as given (no gradient into the mean): beta-NLL with beta = 1 (Seitzer et al.
    2022), so an overconfident variance cannot pull the mean away from the data.
    """
    network = config.model_config
    valid = batch.valid if network.masked else None
    mean, spread = run(network, variables, batch.frames, valid, dropout)
    error2 = jnp.square(mean - batch.target)
    likelihood = 0.5 * (spread + jax.lax.stop_gradient(error2) * jnp.exp(-spread))
    cells = jnp.maximum(jnp.sum(batch.weight), 1.0)
    loss: jax.Array = jnp.sum(batch.weight * (error2 / step_variance + config.variance_weight * likelihood)) / cells
    return loss


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def train_step(
    config: TrainingConfig, state: TrainingState, batch: Batch, rate: jax.Array, step_variance: jax.Array
) -> tuple[TrainingState, jax.Array]:
    """The state after one batch, and its loss. An update that is not finite is not applied."""
    dropout = jax.random.fold_in(jax.random.key(config.seed), state.step)
    loss, gradient = jax.value_and_grad(lambda v: loss_of(config, v, batch, step_variance, dropout))(state.variables)
    direction, opt_state = optimiser(config).update(gradient, state.opt_state, state.variables)
    sound = jnp.isfinite(loss) & jnp.isfinite(optax.global_norm(gradient))
    variables = jax.tree.map(lambda v, d: v - rate * d, state.variables, direction)
    # A young average would remember the first weights: its memory grows with the run up to ema_decay.
    decay = jnp.minimum(config.ema_decay, (1.0 + state.step) / (10.0 + state.step))
    average = jax.tree.map(lambda a, v: decay * a + (1 - decay) * v, state.average, variables)
    new = TrainingState(state.step, variables, average, opt_state)
    kept: TrainingState = jax.tree.map(lambda after, before: jnp.where(sound, after, before), new, state)
    return kept._replace(step=state.step + 1), loss
