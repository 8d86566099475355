"""AdamW over one vector of weights, with Muon for the kernels of convolutions."""

from __future__ import annotations

import math
from collections import defaultdict
from functools import cache

import jax
import jax.numpy as jnp
import optax

from nvp_agentkit.model.config import NVPConfig
from nvp_agentkit.model.state import shapes
from nvp_agentkit.training.member_config import MemberConfig

LARGEST_GRADIENT = 1.0  # clipped to this global norm
BETA_2 = 0.99  # a run of a few hundred steps is over before 0.999 has a memory
SCHULZ, SCHULZ_TURNS = (3.4445, -4.7750, 2.0315), 5


def optimiser(config: MemberConfig) -> optax.GradientTransformation:
    """Without its learning rate, which the pacer decides from step to step: AdamW, but Muon for convolutions.

    Their kernels, as matrices of what a channel sees by what it gives, all move by one length in every direction that
    the averaged gradient has. Fewer steps are needed for the same error (docs/decisions/031). Source: Jordan et al.,
    "Muon" (2024), the momentum Adam's.
    """
    adam = optax.scale_by_adam(b2=BETA_2)

    def update(
        gradient: optax.Updates, state: optax.OptState, weights: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        direction, state = adam.update(gradient, state, weights)
        return _turned(config.model_config, direction, state.mu), state

    return optax.chain(
        optax.clip_by_global_norm(LARGEST_GRADIENT),
        optax.GradientTransformation(adam.init, update),
        optax.add_decayed_weights(config.weight_decay),
    )


def _turned(network: NVPConfig, direction: jax.Array, momentum: jax.Array) -> jax.Array:
    """``direction`` with that of each kernel orthogonal; kernels of one shape are turned together."""
    for (rows, columns), starts in _kernels(network).items():
        size = rows * columns
        stacked = jnp.stack([momentum[start : start + size].reshape(rows, columns) for start in starts])
        turned = orthogonal(stacked) * math.sqrt(max(1, rows / columns))
        for start, one in zip(starts, turned, strict=True):
            direction = direction.at[start : start + size].set(one.ravel())
    return direction


def orthogonal(matrices: jax.Array) -> jax.Array:
    """About U V' of each matrix U S V', (n, rows, columns): singular values end between 0.7 and 1.2, zero stays zero.

    Newton-Schulz with the coefficients of the source, which are chosen to lift small values fast.
    """
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x / (jnp.linalg.norm(x, axis=(1, 2), keepdims=True) + 1e-12)
    a, b, c = SCHULZ

    def turn(_: int, x: jax.Array) -> jax.Array:
        square = x @ x.mT
        return a * x + (b * square + c * square @ square) @ x

    x = jax.lax.fori_loop(0, SCHULZ_TURNS, turn, x)  # unrolled it takes longer to compile
    found: jax.Array = x if wide else x.mT
    return found


@cache
def _kernels(network: NVPConfig) -> dict[tuple[int, int], list[int]]:
    """Where the vector of weights has the convolutions' kernels, by their shape as matrices."""
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    start = 0
    for shape in shapes(network).values():
        if len(shape) == 4:
            found[math.prod(shape[:3]), shape[3]].append(start)
        start += math.prod(shape)
    return dict(found)
