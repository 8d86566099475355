"""Published networks for the same task: pdequinox's classic U-Net, FNO and ResNet as their package has them.

They see what our network sees of a field, two frames of E and the slopes of the newest, and say how much comes on top
of the newest frame: that residual form was the better one for every network tried.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.verdict import BrokenError
from nvp_agentkit.fields.sequence import Boundary
from nvp_agentkit.model.layers import gradients

NAMES = ("u_net", "fno", "res_net")
FRAMES, CHANNELS = 2, 4
Weights = Any  # their pytree of arrays


class Peer(NamedTuple):
    """``apply(weights, frames (B, H, W, 2)) -> (B, H, W)``, normalised, not compiled."""

    weights: Weights
    apply: Callable[[Weights, jax.Array], jax.Array]

    @property
    def parameters(self) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(self.weights))


def peer(name: str, seed: int, boundary: tuple[Boundary, Boundary]) -> Peer:
    """One of `NAMES`, untrained, in the package's default size.

    Raises:
        BrokenError: the package is not installed.
    """
    try:
        import equinox
        from pdequinox import arch
    except ImportError as error:
        raise BrokenError(f"no peers ({error}); pip install -c constraints.txt --group benchmarks") from error
    made = {"u_net": arch.ClassicUNet, "fno": arch.ClassicFNO, "res_net": arch.ClassicResNet}[name]
    edges = "periodic" if "periodic" in boundary else "neumann"
    network = made(2, CHANNELS, 1, boundary_mode=edges, key=jax.random.key(seed))
    weights, rest = equinox.partition(network, equinox.is_inexact_array)

    def apply(weights: Weights, frames: jax.Array) -> jax.Array:
        shown = jnp.concatenate([frames, *gradients(frames[..., -1:], boundary)], -1)
        change = jax.vmap(equinox.combine(weights, rest))(jnp.moveaxis(shown, -1, 1))
        return frames[..., -1] + jnp.asarray(change)[:, 0]

    return Peer(weights, apply)
