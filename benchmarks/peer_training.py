"""A published network trained as ours is: the same windows and loss, Adam, warm-up and cosine, averaged weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.peers import Weights, peer
from nvp_agentkit.fields.sequence import FieldMeta, Floats, Mask, SequenceSet
from nvp_agentkit.model import Normalization, NVPConfig
from nvp_agentkit.training import MemberConfig, Pacer
from nvp_agentkit.training.examples import Examples

WARMUP_STEPS, AVERAGED, LARGEST_GRADIENT, BETA_2 = 20, 0.98, 1.0, 0.99
WHOLE_FIELDS = ("fno",)  # its modes are waves of the whole domain: on crops it would learn others
EVALUATED_AT_ONCE = 4


class _State(NamedTuple):
    weights: Weights
    average: Weights
    moments: Any


@dataclass(frozen=True)
class PeerForecaster:
    """A trained peer behind the signature of all forecasters; it has no doubt of its own."""

    name: str
    weights: Weights
    apply: Callable[[Weights, jax.Array], jax.Array]
    units: Normalization
    meta: FieldMeta
    steps: int
    context_frames: int = 2

    def predict_next(self, frames: Any, mask: Mask | None = None) -> tuple[Floats, Floats]:
        """The mean, and nothing about its error."""
        shown = np.moveaxis((np.asarray(frames, np.float32) - self.units.offset) / self.units.scale, 1, -1)
        parts = np.array_split(shown, math.ceil(len(shown) / EVALUATED_AT_ONCE))
        told = np.concatenate([np.asarray(self.apply(self.weights, part.astype(np.float32))) for part in parts])
        mean = np.float32(self.units.offset) + np.float32(self.units.scale) * told
        mean = np.maximum(mean, 0) if self.meta.positive else mean
        return mean, np.zeros_like(mean)


class PeerTrainer:
    """Compiled once, so that a run's allowance pays for steps alone."""

    def __init__(self, name: str, train: SequenceSet, config: MemberConfig) -> None:
        """Of ``config`` the batch and crop."""
        self.name, self._train, self._batch = name, train, config.batch_size
        self._crop = max(train.grid) if name in WHOLE_FIELDS else config.crop
        self._network = NVPConfig(boundary=train.meta.boundary, positive=train.meta.positive)
        self._peer = peer(name, 0, train.meta.boundary)
        self._apply = jax.jit(self._peer.apply)
        self._step = jax.jit(self._stepped, donate_argnums=0)

    def fit(self, seed: int, rate: float, pacer: Pacer) -> PeerForecaster:
        """Until ``pacer`` says stop."""
        begun = peer(self.name, seed, self._train.meta.boundary)
        units = Normalization.fit(self._train.values)
        examples = Examples(self._train, self._network, units, self._crop)
        weights, average = (jax.tree.map(jnp.array, begun.weights) for _ in range(2))  # a step uses them up
        state, step = _State(weights, average, _optimiser().init(begun.weights)), 0
        while pacer.may_continue(step):
            batch = examples.batch(seed, step, self._batch)
            warm = min(1.0, (step + 1) / WARMUP_STEPS)
            now = rate * warm * 0.5 * (1 + math.cos(math.pi * pacer.fraction_used(step)))
            state, loss = self._step(
                state, batch.frames, batch.target, batch.weight, np.float32(now), np.float32(min(step, 100))
            )
            step += 1
            float(loss)  # waits for the step, so that its CPU time is counted
        return PeerForecaster(self.name, state.average, self._apply, units, self._train.meta, step)

    def _stepped(
        self, state: _State, frames: Floats, target: Floats, weight: Floats, rate: jax.Array, step: jax.Array
    ) -> tuple[_State, jax.Array]:
        def loss_of(weights: Weights) -> jax.Array:
            return jnp.sum(weight * jnp.square(self._peer.apply(weights, jnp.asarray(frames)) - target)) / jnp.sum(
                weight
            )

        loss, gradient = jax.value_and_grad(loss_of)(state.weights)
        direction, moments = _optimiser().update(gradient, state.moments, state.weights)
        weights = jax.tree.map(lambda old, way: old - rate * way, state.weights, direction)
        decay = jnp.minimum(AVERAGED, (1 + step) / (10 + step))
        average = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state.average, weights)
        return _State(weights, average, moments), loss


def _optimiser() -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(LARGEST_GRADIENT), optax.scale_by_adam(b2=BETA_2))
