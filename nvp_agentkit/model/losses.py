"""Thermodynamic penalties: the founding document's, and beside them what physics asks.

The document compares a forecast with its *target*; a law of nature compares it with its *input*. Both are shares or
nats, so one weight serves fields of any unit. Fields are in their own unit, (B, H, W, 1) or any (B, ...).
"""

from __future__ import annotations

from typing import get_args

import jax
import jax.numpy as jnp

from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.fields.sequence import Conservation

LAMBDA_CONSERVATION = 0.1  # session S2
LAMBDA_ENTROPY = 0.05  # session S2
TINY = 1e-12  # a field of zeros has no share and no entropy, and a gradient all the same


def compute_energy_conservation_loss(predicted: jax.Array, target: jax.Array) -> jax.Array:
    """|sum E_pred - sum E| / sum |E|, mean over the batch: 0 is perfect, 1 is all of it lost.

    Source: session S2, "Thermodynamic Constraints"; the denominator has bars, for a field's total may be zero.
    """
    return jnp.mean(conservation_residual(predicted, target))


def compute_entropy(energy: jax.Array) -> jax.Array:
    """Spatial Shannon entropy of p = |E| / sum |E|, nat, shape (B,): 0 for one cell, ln(H W) where all are equal.

    Depends on offset and resolution, and the second law says nothing about it but for plain diffusion.
    """
    size = jnp.abs(energy.reshape(energy.shape[0], -1))
    share = size / (jnp.sum(size, -1, keepdims=True) + TINY)
    return -jnp.sum(share * jnp.log(share + TINY), -1)


def compute_entropy_smoothness_loss(predicted: jax.Array, target: jax.Array, threshold: float = 0.0) -> jax.Array:
    """max(0, S(target) - S(pred) - threshold), mean over the batch.

    A forecast that is smoother than what came costs nothing: by itself this rewards blur.
    Source: session S2, "Thermodynamic Constraints".
    """
    return jnp.mean(entropy_deficit(predicted, target, threshold))


def compute_entropy_decrease_loss(predicted: jax.Array, energy_t: jax.Array, threshold: float = 0.0) -> jax.Array:
    """max(0, S(E_t) - S(pred) - threshold), mean over the batch: what diffusion alone forbids.

    For diffusive domains only: true magnetohydrodynamics lowers this entropy in most steps.
    """
    return compute_entropy_smoothness_loss(predicted, energy_t, threshold)


def compute_budget_violation_loss(predicted: jax.Array, energy_t: jax.Array, conservation: Conservation) -> jax.Array:
    """What a domain's class forbids of sum E_pred - sum E_t, as a share of sum |E_t|, mean over the batch.

    Args:
        predicted: E_{t+1} as forecast.
        energy_t: the newest frame given.
        conservation: ``closed`` forbids any change, ``dissipative`` a gain, ``open`` nothing.

    Raises:
        InvalidInput: another class.
    """
    if conservation not in get_args(Conservation):
        raise InvalidInput(f"conservation is {conservation!r}; give one of {', '.join(get_args(Conservation))}")
    change = _sums(predicted - energy_t) / (_sums(jnp.abs(energy_t)) + TINY)
    if conservation == "closed":
        return jnp.mean(jnp.abs(change))
    return jnp.mean(jnp.maximum(change, 0.0)) if conservation == "dissipative" else jnp.zeros(())


def conservation_residual(predicted: jax.Array, target: jax.Array) -> jax.Array:
    """`compute_energy_conservation_loss` of each map, (B,)."""
    return jnp.abs(_sums(predicted - target)) / (_sums(jnp.abs(target)) + TINY)


def entropy_deficit(predicted: jax.Array, target: jax.Array, threshold: float = 0.0) -> jax.Array:
    """`compute_entropy_smoothness_loss` of each map, (B,)."""
    return jnp.maximum(compute_entropy(target) - compute_entropy(predicted) - threshold, 0.0)


def _sums(energy: jax.Array) -> jax.Array:
    return jnp.sum(energy.reshape(energy.shape[0], -1), -1)
