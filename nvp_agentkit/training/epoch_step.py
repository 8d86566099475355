"""The founding document's loss and one update by it, compiled once a network and batch shape."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nvp_agentkit.model.losses import compute_entropy, conservation_residual, entropy_deficit
from nvp_agentkit.model.network import NVPModel
from nvp_agentkit.model.state import TrainState, Variables
from nvp_agentkit.training.config import Objective
from nvp_agentkit.training.data import WindowBatch

Terms = dict[str, jax.Array]


class Knobs(NamedTuple):
    """What may differ from run to run without a new compile: field = offset + scale * normalised, and the seed.

    ``share``: of the optimiser's learning rate.
    """

    offset: np.float32
    scale: np.float32
    seed: np.uint32
    share: np.float32


def terms_of(
    objective: Objective, variables: Variables, batch: WindowBatch, knobs: Knobs, dropout: jax.Array | None
) -> tuple[Terms, Variables]:
    """Each term of the loss for each window, (B,), and the running averages after this batch.

    A key for ``dropout`` means training.
    """
    energy_t, target = ((jnp.asarray(batch[name]) - knobs.offset) / knobs.scale for name in ("energy_t", "energy_next"))
    slopes = (jnp.asarray(batch[name]) / knobs.scale for name in ("grad_x", "grad_y"))
    # Nothing is mutable and nothing dropped without a key.
    rngs, mutable = (None, []) if dropout is None else ({"dropout": dropout}, ["batch_stats"])
    told: Any = NVPModel(objective.network).apply(
        variables, energy_t, *slopes, training=dropout is not None, mutable=mutable, rngs=rngs
    )
    (mean, log_var), updated = told
    error2 = jnp.square(mean - target)
    field, came = knobs.offset + knobs.scale * mean, jnp.asarray(batch["energy_next"])
    conservation = conservation_residual(field, came)
    deficit = entropy_deficit(field, came, objective.entropy_threshold)
    terms = {
        "mse_loss": jnp.mean(error2, (1, 2, 3)),
        "conservation_loss": conservation,
        "entropy_loss": deficit,
        "energy_fidelity": jnp.maximum(1 - conservation, 0),
        "entropy_coherence": _coherence(field, came),
    }
    terms["total_loss"] = (
        terms["mse_loss"] + objective.lambda_conservation * conservation + objective.lambda_entropy * deficit
    )
    if objective.variance_weight:  # the error as given: a variance must not pull at the mean (beta-NLL, beta = 1)
        likelihood = 0.5 * (log_var + jax.lax.stop_gradient(error2) * jnp.exp(-log_var))
        terms["total_loss"] += objective.variance_weight * jnp.mean(likelihood, (1, 2, 3))
    return terms, dict(updated)


def _coherence(field: jax.Array, came: jax.Array) -> jax.Array:
    entropy = compute_entropy(came)
    return jnp.maximum(1 - jnp.abs(compute_entropy(field) - entropy) / (jnp.abs(entropy) + 1e-12), 0)


def summary(terms: Terms) -> Terms:
    """Means over the windows; ``rmse`` is of all their cells."""
    means = {name: jnp.mean(values) for name, values in terms.items()}
    return means | {"rmse": jnp.sqrt(means["mse_loss"])}


@partial(jax.jit, static_argnums=(0, 4))
def loss(
    objective: Objective, variables: Variables, batch: WindowBatch, knobs: Knobs, training: bool, step: int | jax.Array
) -> Terms:
    """The terms of `terms_of`, compiled; ``step`` chooses what dropout drops."""
    return terms_of(objective, variables, batch, knobs, _dropout(knobs, step) if training else None)[0]


@partial(jax.jit, static_argnums=0)
def update(objective: Objective, state: TrainState, batch: WindowBatch, knobs: Knobs) -> tuple[TrainState, Terms]:
    """The state after one batch, running averages included, and the batch's summary.

    Where loss or gradient is not finite the weights stay as they are, and the loss told is NaN.
    """

    def total(variables: Variables) -> tuple[jax.Array, tuple[Terms, Variables]]:
        terms, updated = terms_of(objective, variables, batch, knobs, _dropout(knobs, state.step))
        means = summary(terms)
        return means["total_loss"], (means, updated)

    gradient, (means, updated) = jax.grad(total, has_aux=True)(state.params)
    sound = jnp.isfinite(means["total_loss"])
    for leaf in jax.tree.leaves(gradient):
        sound &= jnp.all(jnp.isfinite(leaf))
    direction, moments = state.tx.update(gradient, state.opt_state, state.params)
    moved = jax.tree.map(lambda weight, along: weight + knobs.share * along, state.params, direction)
    after = (moved | updated, moments)
    params, opt_state = jax.tree.map(partial(jnp.where, sound), after, (state.params, state.opt_state))
    means["total_loss"] = jnp.where(sound, means["total_loss"], jnp.nan)
    return state.replace(step=state.step + 1, params=params, opt_state=opt_state), means


def _dropout(knobs: Knobs, step: int | jax.Array) -> jax.Array:
    return jax.random.fold_in(jax.random.key(knobs.seed), step)
