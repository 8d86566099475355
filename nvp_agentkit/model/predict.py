"""Frames in, mean and log-variance of the next frame out: the fifth hop of the walk of a prediction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.model.beside import Beside, normal_maps
from nvp_agentkit.model.bundle import Floats, ModelBundle, Normalization
from nvp_agentkit.model.config import NVPConfig
from nvp_agentkit.model.conservation import bounded
from nvp_agentkit.model.flow import origin
from nvp_agentkit.model.layers import Edges
from nvp_agentkit.model.network import run
from nvp_agentkit.model.state import Variables

Mask = npt.NDArray[np.bool_]
Maps = jax.Array | Floats
UNBOUNDED = np.float32(-np.inf)
LARGEST_BATCH = 16  # bounds memory, and with powers of two the number of shapes that are ever compiled


_programs: dict[tuple[NVPConfig, tuple[int, ...]], Callable[..., jax.Array]] = {}  # by the shape of their frames
_origins: dict[tuple[Edges, tuple[int, ...]], Callable[..., jax.Array]] = {}  # by grid (H, W)


def forward(
    config: NVPConfig,
    variables: Variables,
    frames: Maps,
    valid: Maps | None,
    origin: Maps,
    low: np.float32 = UNBOUNDED,
    beside: Maps | None = None,
) -> jax.Array:
    """Normalised (B, H, W, K) -> (2, B, H, W): mean, nowhere below ``low``, and log-variance."""
    told: jax.Array = forward_program(config, frames.shape)(variables, frames, valid, origin, low, beside)
    return told


def forward_program(config: NVPConfig, shape: tuple[int, ...]) -> Any:
    """`forward` of frames of that shape without ``config``, as `jax.jit` has it; compiled once, kept until `forget`."""
    if (key := (config, shape)) not in _programs:
        _programs[key] = _program(_forward, config)
    return _programs[key]


def _forward(
    config: NVPConfig,
    variables: Variables,
    frames: jax.Array,
    valid: jax.Array | None,
    origin: jax.Array,
    low: np.float32,
    beside: jax.Array | None = None,
) -> jax.Array:
    mean, log_var = run(config, variables, frames, valid, origin, beside)
    counted = None if valid is None else valid[..., -1]
    return jnp.stack([bounded(config.conservation, mean, log_var, low, jnp.inf, counted), log_var])


def _program(function: Callable[..., jax.Array], *fixed: Hashable, **named: Hashable) -> Callable[..., jax.Array]:
    """A program of its own, with which goes what XLA made of it; a shared ``jax.jit`` lets go of all shapes or none."""
    own = partial(function, *fixed, **named)
    own.__name__ = function.__name__.strip("_")  # type: ignore[attr-defined]
    return jax.jit(own)


def forget(kept: Collection[tuple[NVPConfig, tuple[int, int]]]) -> None:
    """Let go of what was compiled for other networks and grids (H, W)."""
    for key in [(config, shape) for config, shape in _programs if (config, shape[1:3]) not in kept]:
        del _programs[key]
    grids = {(config.boundary, grid) for config, grid in kept}
    for one in _origins.keys() - grids:
        del _origins[one]


def lowest(bundle: ModelBundle) -> np.float32:
    """The normalised value that no cell can be below."""
    units = bundle.normalization
    return np.float32(-units.offset / units.scale) if bundle.config.positive else UNBOUNDED


def origins(config: NVPConfig, frames: Floats) -> Floats:
    """What `flow.origin` says of each window of (B, H, W, K): (B, H, W, 6), no channels where K is 1.

    One program a grid, for the last two frames of a window at a time: networks, batch sizes and training share it,
    and what it says of a window does not depend on which others were asked about.
    """
    if config.context_frames == 1:
        return np.zeros((*frames.shape[:3], 0), np.float32)
    if (key := (config.boundary, frames.shape[1:3])) not in _origins:
        _origins[key] = _program(origin, boundary=config.boundary)
    return np.concatenate([np.asarray(_origins[key](window[None, ..., -2:])) for window in frames])


def predict_next(
    bundle: ModelBundle, frames: npt.ArrayLike, mask: Mask | None = None, beside: Beside | None = None
) -> tuple[Floats, Floats]:
    """Forecast one frame ahead.

    Args:
        bundle: the trained model.
        frames: (B, K, H, W), oldest first, in the field's unit. Fewer frames than the model's context:
            the oldest is repeated; more: the newest are used. NaN counts as masked, which a network must be made for.
        mask: (B, K, H, W), True where a cell has a value; None: wherever it is finite.
        beside: what ``config.beside`` names, by name (`model.beside`).

    Returns:
        Mean (B, H, W) in the field's unit and log-variance (B, H, W) of that unit squared, calibrated.
        Cells that have no input value get a forecast all the same, drawn from their neighbours.

    Raises:
        InvalidField: rank, sides, dtype, infinite values, no valid cell in a frame, cells without a value where
            all had one in training, or maps beside the field that are not those the network looks at.
    """
    normal, seen = newest(bundle, frames, mask)
    maps = normal_maps(bundle, beside, normal.shape[:3])
    parts = []
    size = batch_size(len(normal))
    for start in range(0, len(normal), size):
        some = slice(start, start + size)
        parts.append(_batch(bundle, normal[some], seen[some], None if maps is None else maps[some], size))
    mean, log_var = np.concatenate(parts, axis=1)
    claimed = log_var + 2 * np.float32(np.log(bundle.normalization.scale))
    return in_units(bundle, mean), bundle.calibration.log_var(claimed)


def newest(bundle: ModelBundle, frames: npt.ArrayLike, mask: Mask | None) -> tuple[Floats, Floats]:
    """The frames that the network looks at, and where they have values, as it wants them: (B, H, W, K) each.

    Raises:
        InvalidField: as `predict_next`.
    """
    values, valid = checked(frames, mask)
    # As many as the network takes, so that one program serves all who ask.
    kept = np.maximum(np.arange(-bundle.config.context_frames, 0), -values.shape[1])
    values, valid = values[:, kept], valid[:, kept]
    if not bundle.config.masked and not valid.all():
        raise InvalidField(
            f"{int((~valid).sum()):,} of {valid.size:,} cells have no value, and this network learnt from fields that "
            "have all: fill them, or train on data with such cells (masked=True)"
        )
    return normalise(values, valid, bundle.normalization)


def batch_size(count: int) -> int:
    """Of the batches that ``count`` windows go through a network in: a power of two."""
    return min(LARGEST_BATCH, 1 << (count - 1).bit_length())


def in_units(bundle: ModelBundle, mean: Floats) -> Floats:
    """Normalised forecasts in the field's unit, none below zero where it cannot be."""
    mean = bundle.normalization.offset + bundle.normalization.scale * mean
    return np.maximum(mean, 0, dtype=np.float32) if bundle.config.positive else mean


def normalise(values: Floats, valid: Mask, units: Normalization) -> tuple[Floats, Floats]:
    """(B, K, H, W) to the network's (B, H, W, K): unit spread, holes at the mean, and where values are."""
    filled = np.where(valid, (values - np.float32(units.offset)) / np.float32(units.scale), np.float32(0))
    return np.ascontiguousarray(filled.transpose(0, 2, 3, 1)), valid.transpose(0, 2, 3, 1).astype(np.float32)


def _batch(bundle: ModelBundle, frames: Floats, seen: Floats, beside: Floats | None, size: int) -> Floats:
    count = len(frames)
    full, there, known = (padded(part, size) for part in (frames, seen, origins(bundle.config, frames)))
    valid, maps = there if bundle.config.masked else None, None if beside is None else padded(beside, size)
    both = forward(bundle.config, bundle.variables, full, valid, known, lowest(bundle), maps)
    return np.asarray(both)[:, :count]


def padded(part: Floats, size: int) -> Floats:
    """(B, H, W, C) with its last window repeated up to ``size`` of them."""
    return np.pad(part, ((0, size - len(part)), *[(0, 0)] * 3), mode="edge")


def checked(frames: npt.ArrayLike, mask: Mask | None) -> tuple[Floats, Mask]:
    """``frames`` (B, K, H, W) as float32, and where they have a value; `InvalidField` as `predict_next`."""
    values = np.asarray(frames)
    if values.ndim != 4 or 0 in values.shape:
        raise InvalidField(f"frames have shape {values.shape}; give (B, K, H, W)")
    if min(values.shape[2:]) < 16:
        raise InvalidField(f"a field of {values.shape[2:]} cells; both sides must be at least 16")
    if values.dtype.kind not in "fiu":
        raise InvalidField(f"frames are {values.dtype}; give real numbers")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
        values = values.astype(np.float32)
    if np.isinf(values).any():
        raise InvalidField("frames hold infinite values (or more than float32 holds); mark missing cells with NaN")
    valid = np.isfinite(values)
    if mask is not None:
        if np.shape(mask) != values.shape:
            raise InvalidField(f"mask has shape {np.shape(mask)}, frames {values.shape}; they must be equal")
        valid &= np.asarray(mask, bool)
    if not valid.any(axis=(2, 3)).all():
        raise InvalidField("a frame has no valid cell; leave that frame out")
    return values, valid
