"""The network: see the last frames, carry the field along the flow, correct what is left.

With n the field, D and D' the displacements of `flow.departure`, and d, d', r and h from the network, cell by cell::

    base = n_t(x + c D + d) + (g + h) [n_t(x + c D + d) - n_{t-1}(x + c D' + 2 d + d')]
    mean = base + r

d, d', r and h start at zero, so the untrained network is a trivial forecaster: persistence at c = g = 0, as it is made;
advection at c = 1; the Lagrangian increment with some g. `training.start` sets c and g to the best of these on the
training data, and training can only leave it where the data say so. What the trunk is shown has its local mean taken
off and is in units of its local spread, and r comes back in those units: how a structure moves does not depend on how
high it is. Source: physics.md of the design, "The reference task"; docs/decisions/031 has what was tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.model.config import NVPConfig
from nvp_agentkit.model.conservation import conserve, project, total
from nvp_agentkit.model.documented import DocumentedNetwork
from nvp_agentkit.model.flow import carry
from nvp_agentkit.model.flow import origin as find_origin
from nvp_agentkit.model.layers import Dense, ResidualBlock, blur, depth_to_space, gradients, pad, space_to_depth, warp

SMALLEST_SIDE = 16
LOG_VAR_RANGE = (-14.0, 6.0)  # of the variance in units of the field's own variance
FIRST_LOG_VAR = -4.0  # an untrained network's: a step changes roughly an eighth of a standard deviation
# Layers that see, or make, the four cells of a block as channels, cell by cell.
FOLDED_IN, FOLDED_OUT = "down_", "up_"
DOUBT_SHARE = 0.1  # of the likelihood's gradient that reaches the trunk
LARGEST_STEP = 0.25  # displacement in one frame, as a share of the shorter side
CONTRAST_SIGMA = 1.5  # blocks: the neighbourhood whose mean and spread are taken off
TINY_SHARE = 1e-6  # of cells with a value around a block
SMALLEST_SPREAD = 0.05  # of a neighbourhood, in units of the field's own: a flat one is not blown up


class Shown(NamedTuple):
    """What the trunk sees: frames (B, H, W, K), slopes (B, H, W, 2), and what there is of the rest, (B, H, W, ...)."""

    frames: jax.Array
    slopes: jax.Array
    origin: jax.Array | None
    seen: jax.Array | None
    beside: jax.Array | None


class Heads(NamedTuple):
    """What the trunk says of each cell: corrections d, d' of the flow (y, x), residual r, gain h and log-variance."""

    flow: jax.Array
    bend: jax.Array
    residual: jax.Array
    gain: jax.Array
    log_var: jax.Array


class Encoder(nn.Module):
    """Both paths' features down the levels; returns every level's features, finest first."""

    config: NVPConfig

    @nn.compact
    def __call__(self, x: jax.Array, inputs: jax.Array | None = None, training: bool = False) -> list[jax.Array]:
        """(B, h, w, C) -> levels; ``inputs`` (B, h s, w s, C') are averaged down to each level's grid (a pyramid)."""
        levels = []
        for level, features in enumerate(self.config.encoder_features):
            if level:
                x = Dense(features, name=f"{FOLDED_IN}{level}")(space_to_depth(x, 2))
                if inputs is not None:
                    x = x + Dense(features, name=f"pyramid_{level}")(_averaged(inputs, x.shape[1:3]))
            x = _block(self.config, features)(x, training)
            levels.append(x)
        return levels


class Decoder(nn.Module):
    """The latent up again, each level joined by the encoder's features of the same grid."""

    config: NVPConfig

    @nn.compact
    def __call__(self, latent: jax.Array, levels: list[jax.Array], training: bool = False) -> jax.Array:
        x = latent
        widths = self.config.decoder_features or self.config.encoder_features[::-1]
        for step, (features, beside) in enumerate(zip(widths, levels[::-1], strict=True)):
            if step:
                x = depth_to_space(Dense(4 * features, name=f"{FOLDED_OUT}{step}")(x), 2)
            x = x + Dense(x.shape[-1], name=f"beside_{step}")(beside)
            x = _block(self.config, features)(x, training)
        return x


class NVPModel(nn.Module):
    """Next-frame forecaster: ``model.apply(variables, energy_t, grad_x, grad_y) -> (mean, log_var)``.

    Works in normalised units (`bundle.Normalization`). Any H, W >= 16; sides that the levels do not divide
    are padded by the boundary and cropped again.
    """

    config: NVPConfig

    @nn.compact
    def __call__(
        self,
        energy_t: jax.Array,
        grad_x: jax.Array | None = None,
        grad_y: jax.Array | None = None,
        valid: jax.Array | None = None,
        origin: jax.Array | None = None,
        training: bool = False,
        beside: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Mean and log-variance of the next frame.

        Args:
            energy_t: (B, H, W, C), 1 <= C <= context_frames, oldest first; the oldest is repeated up to K.
            grad_x: (B, H, W, 1), dE/dx of the newest frame per cell; None: computed here.
            grad_y: the same in y.
            valid: (B, H, W, C), 1 where a cell has a value; used by a masked network, None means everywhere.
            origin: (B, H, W, 6), what `flow.origin` says of the frames; None: found here. It has no weights, so
                `MemberTrainer` finds it once a window, and it is compiled once for all networks.
            training: dropout on (needs an rng named "dropout" where dropout_rate > 0), and batch normalisation by the
                batch: apply with ``mutable=["batch_stats"]`` then, as `training.Trainer` does.
            beside: (B, H, W, N), the maps that ``config.beside`` names, normalised.

        Returns:
            Both (B, H, W, 1).

        Raises:
            InvalidField: rank, sides, frames or maps beside them that the network cannot take.
        """
        config = self.config
        _check(energy_t, beside, config)
        frames = _repeat_oldest(energy_t, config.context_frames)
        if grad_x is None or grad_y is None:
            grad_x, grad_y = gradients(frames[..., -1:], config.boundary)
        if config.document_grid is not None:
            network = DocumentedNetwork(config, config.document_grid, name="documented")
            return network(frames, grad_x, grad_y, training)
        drift, share = (self.param(name, nn.initializers.zeros, ()) for name in ("drift", "share"))
        if config.context_frames > 1 and origin is None:
            origin = find_origin(frames, config.boundary)
        known = jnp.ones_like(energy_t) if valid is None else valid
        seen = _repeat_oldest(known, config.context_frames) if config.masked else None
        slopes = jnp.concatenate([grad_x, grad_y], -1)
        shown = Shown(frames, slopes, None if config.context_frames == 1 else origin, seen, beside)
        heads = self._trunk(shown, training)
        mean = _base(frames, origin, drift, share, heads, config)[..., 0] + heads.residual
        counted, log_var = None if seen is None else seen[..., -1], jnp.clip(heads.log_var, *LOG_VAR_RANGE)
        mean, log_var = conserve(config.conservation, mean, log_var, frames[..., -1], counted)
        return mean[..., None], log_var[..., None]

    def predict(
        self,
        energy_t: jax.Array,
        grad_x: jax.Array | None = None,
        grad_y: jax.Array | None = None,
        deterministic: bool = True,
    ) -> jax.Array:
        """The next frame (B, H, W, 1): the mean, or else one draw of N(mean, exp(log_var)).

        A draw needs an rng: ``model.apply(params, energy_t, deterministic=False, method="predict",
        rngs={"sample": key})``. Cells are drawn each by itself, as the founding document has it; unless the domain is
        open, the draw's total is the mean's.
        """
        mean, log_var = self(energy_t, grad_x, grad_y)
        if deterministic:
            return mean
        draw = mean + jnp.exp(log_var / 2) * jax.random.normal(self.make_rng("sample"), mean.shape, mean.dtype)
        if self.config.conservation == "open":
            return draw
        return project(draw[..., 0], log_var[..., 0], total(mean[..., 0]))[0][..., None]

    def _trunk(self, shown: Shown, training: bool) -> Heads:
        config = self.config
        h, w = shown.frames.shape[1:3]
        unit = config.stem * 2 ** (len(config.encoder_features) - 1)
        extra = [(-side) % unit for side in (h, w)]
        before = [e // 2 for e in extra]
        after = [e - b for e, b in zip(extra, before, strict=True)]
        shown = jax.tree.map(lambda part: pad(part, before, after, config.boundary), shown)
        x, spread = self._contrast(shown)
        x = Dense(config.encoder_features[0], name="stem")(x.astype(config.precision))
        pyramid = jnp.concatenate(shown[:2], -1).astype(config.precision) if config.pyramid else None
        levels = Encoder(config, name="encoder")(x, pyramid, training)
        latent = Dense(config.latent_dim, name="fusion")(nn.gelu(levels[-1]))
        latent = nn.Dropout(config.dropout_rate, deterministic=not training)(nn.gelu(latent))
        x = nn.gelu(Decoder(config, name="decoder")(latent, levels, training)).astype(jnp.float32)
        cells = config.stem**2  # of a block, each made by weights of its own
        heads = Dense(6 * cells, kernel_init=nn.initializers.zeros, name="heads")(x)
        # The likelihood must not compete for the trunk, but with features nobody trains for it sigma is one number a
        # block (docs/decisions/025).
        held = DOUBT_SHARE * x + (1 - DOUBT_SHARE) * jax.lax.stop_gradient(x)
        doubt = Dense(cells, kernel_init=nn.initializers.zeros, name="doubt_heads")(held)
        reach = LARGEST_STEP * min(h, w)
        turns = reach * jnp.tanh(heads[..., : 4 * cells] / reach)
        residual, gain = jnp.split(heads[..., 4 * cells :], 2, -1)
        # Each output by itself: channels that stay together through this transpose cost a tenth of a training step.
        flow_y, flow_x, bend_y, bend_x, residual, gain, log_var = (
            depth_to_space(part, config.stem)[:, before[0] : before[0] + h, before[1] : before[1] + w, 0]
            for part in (*jnp.split(turns, 4, -1), spread * residual, gain, doubt + 2 * jnp.log(spread))
        )
        flow, bend = jnp.stack([flow_y, flow_x], -1), jnp.stack([bend_y, bend_x], -1)
        return Heads(flow, bend, residual, gain, log_var + FIRST_LOG_VAR)

    def _contrast(self, shown: Shown) -> tuple[jax.Array, jax.Array]:
        """What is seen of each block, (B, h, w, C), in units of the spread around it, and that spread, (B, h, w, 1).

        Both mean and spread are the newest frame's, of cells that have a value.
        """
        stem = self.config.stem
        newest = space_to_depth(shown.frames[..., -1:], stem)
        there = jnp.ones_like(newest) if shown.seen is None else space_to_depth(shown.seen[..., -1:], stem)
        moments = jnp.stack([(there * part).mean(-1) for part in (newest, newest**2, jnp.ones_like(newest))], -1)
        around = blur(jax.lax.stop_gradient(moments), CONTRAST_SIGMA, self.config.boundary)
        mean, square = jnp.split(around[..., :2] / jnp.maximum(around[..., 2:], TINY_SHARE), 2, -1)
        spread = jnp.sqrt(jnp.maximum(square - mean**2, 0) + SMALLEST_SPREAD**2)
        levels, changes, plain = [shown.frames], [shown.slopes], []
        if shown.origin is not None:
            places, moved, gained = jnp.split(shown.origin, (4, 5), -1)
            levels, changes, plain = [*levels, moved], [*changes, gained], [places[..., :2]]
        off = space_to_depth(jnp.concatenate(levels, -1), stem) - mean
        if shown.seen is not None:
            plain.append(shown.seen)
            known = jnp.ones((*shown.seen.shape[:3], len(levels) - 1), shown.seen.dtype)
            off = off * space_to_depth(jnp.concatenate([shown.seen, known], -1), stem)
        if shown.beside is not None:
            plain.append(shown.beside)
        parts = [off / spread, space_to_depth(jnp.concatenate(changes, -1), stem) / spread]
        parts += [space_to_depth(part, stem) for part in plain]
        return jnp.concatenate([*parts, jnp.log(spread)], -1), spread


def run(
    config: NVPConfig,
    variables: Mapping[str, Any],
    frames: jax.Array,
    valid: jax.Array | None = None,
    origin: jax.Array | None = None,
    beside: jax.Array | None = None,
    dropout: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """`NVPModel.apply` for normalised frames (B, H, W, K): mean and log-variance, (B, H, W) each.

    A key for ``dropout`` means training.
    """
    rngs = None if dropout is None else {"dropout": dropout}
    both: Any = NVPModel(config).apply(
        variables, frames, valid=valid, origin=origin, training=rngs is not None, beside=beside, rngs=rngs
    )
    return both[0][..., 0], both[1][..., 0]


def _base(
    frames: jax.Array, origin: jax.Array | None, drift: jax.Array, share: jax.Array, heads: Heads, config: NVPConfig
) -> jax.Array:
    """(B, H, W, 1): the field carried on, plus a share of what it gained on its way."""
    if origin is None or config.context_frames == 1:
        return warp(frames, heads.flow, config.boundary)
    once, twice = drift * origin[..., :2], drift * origin[..., 2:4]
    now, before = carry(frames, once + heads.flow, twice + 2 * heads.flow + heads.bend, config.boundary)
    return now + (share + heads.gain[..., None]) * (now - before)


def _block(config: NVPConfig, features: int) -> ResidualBlock:
    return ResidualBlock(features, config.boundary, config.norm, config.use_residual)


def _averaged(inputs: jax.Array, grid: tuple[int, ...]) -> jax.Array:
    """(B, H, W, C) averaged over blocks down to (B, *grid, C)."""
    b, h, w, c = inputs.shape
    return inputs.reshape(b, grid[0], h // grid[0], grid[1], w // grid[1], c).mean((2, 4))


def _repeat_oldest(frames: jax.Array, count: int) -> jax.Array:
    missing = count - frames.shape[-1]
    return jnp.concatenate([frames[..., :1]] * missing + [frames], -1) if missing else frames


def _check(energy: jax.Array, beside: jax.Array | None, config: NVPConfig) -> None:
    if energy.ndim != 4:
        raise InvalidField(f"frames have shape {energy.shape}; give (B, H, W, C)")
    if not 1 <= energy.shape[-1] <= config.context_frames:
        raise InvalidField(f"{energy.shape[-1]} frames given; this network takes 1 to {config.context_frames}")
    wanted = (*energy.shape[:3], len(config.beside)) if config.beside else None
    if (shown := None if beside is None else beside.shape) != wanted:
        raise InvalidField(f"maps {config.beside} beside the field: shape {shown} given, {wanted} wanted")
    if config.document_grid is not None and energy.shape[1:3] != config.document_grid:
        raise InvalidField(f"a field of {energy.shape[1:3]} cells; this network is built for {config.document_grid}")
    if min(energy.shape[1:3]) < SMALLEST_SIDE:
        raise InvalidField(f"a field of {energy.shape[1:3]} cells; both sides must be at least {SMALLEST_SIDE}")
