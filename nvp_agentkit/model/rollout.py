"""Many steps ahead: each forecast is the newest frame of the next, and doubt is carried along with what it is about.

A parcel's variance is the sum of what each step added on its way, v_k(x) = s_k^2(x) + v_{k-1}(x + c D(x)), with c and D
as in `network`; calibration scales it by lead (`docs/decisions/027-doubt-beyond-one-step.md`). Forecasts stay within
`Normalization.low` and ``high``, or the range of the frames shown with the same margin where that is wider: a network
fed with its own errors may leave any range, and what it says there is nothing it has learnt.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.model.beside import Beside, normal_maps
from nvp_agentkit.model.bundle import MARGIN, Calibration, Floats, ModelBundle
from nvp_agentkit.model.config import NVPConfig
from nvp_agentkit.model.conservation import bounded
from nvp_agentkit.model.flow import origin
from nvp_agentkit.model.layers import warp
from nvp_agentkit.model.predict import (
    UNBOUNDED,
    Mask,
    batch_size,
    forward,
    in_units,
    lowest,
    newest,
    origins,
    padded,
)
from nvp_agentkit.model.state import Variables

STEPS_AT_ONCE = 4  # of the one program that is compiled for a shape, however many are asked for


class Underway(NamedTuple):
    """Between two steps, normalised: frames and where they have values (B, H, W, K), variance so far (B, H, W).

    ``beside``: (B, H, W, N), the maps beside the first frames, which stay as they were.
    """

    frames: jax.Array
    seen: jax.Array
    variance: jax.Array
    beside: jax.Array | None = None


class Limits(NamedTuple):
    """Between which forecasts stay, normalised, (B, 1, 1) each."""

    low: Floats
    high: Floats


Walk = Callable[[ModelBundle, Underway, Limits, int], list[Floats]]


def rollout(
    bundle: ModelBundle, frames: npt.ArrayLike, steps: int, mask: Mask | None = None, beside: Beside | None = None
) -> tuple[Floats, Floats]:
    """Forecast ``steps`` frames ahead, by `lax.scan`; compiled once a shape.

    Args:
        bundle: the trained model.
        frames: (B, K, H, W), as `predict_next` takes them, and ``mask`` of that shape.
        steps: how many, at least 1.
        beside: as `predict_next` takes it; what is not constant in time is held as it was, for nobody forecasts it.

    Returns:
        Means (B, steps, H, W) in the field's unit and log-variances (B, steps, H, W) of that unit squared, calibrated
        for their lead. A cell without a value in all frames shown stays without one for the network; it gets a
        forecast all the same.

    Raises:
        InvalidField: no step asked for, or frames that `predict_next` refuses.
    """
    return _rolled(bundle, frames, steps, mask, beside, _scanned)


def rollout_by_steps(
    bundle: ModelBundle, frames: npt.ArrayLike, steps: int, mask: Mask | None = None, beside: Beside | None = None
) -> tuple[Floats, Floats]:
    """`rollout` through what a forecast of one step has compiled already: dearer a step, and nothing to compile."""
    return _rolled(bundle, frames, steps, mask, beside, _stepped)


def _rolled(
    bundle: ModelBundle, frames: npt.ArrayLike, steps: int, mask: Mask | None, beside: Beside | None, walk: Walk
) -> tuple[Floats, Floats]:
    if steps < 1:
        raise InvalidField(f"{steps} steps; give at least 1")
    shown, seen = newest(bundle, frames, mask)
    maps = normal_maps(bundle, beside, shown.shape[:3])
    size = batch_size(len(shown))
    by_lead = [bundle.calibration.at(lead) for lead in range(1, steps + 1)]
    means, log_vars = [], []
    for start in range(0, len(shown), size):
        count = min(size, len(shown) - start)
        full, there, *held = (
            padded(part[start : start + size], size) for part in (shown, seen, maps) if part is not None
        )
        limits, nothing = _limits(bundle, full), np.zeros(full.shape[:3], np.float32)
        begun = Underway(*(jnp.asarray(part) for part in (full, there, nothing, *held)))
        told = walk(bundle, begun, limits, steps)
        mean, variance = np.moveaxis(np.concatenate(told)[:steps, :, :count], 0, 2)
        counted = there[:count].max(-1) if bundle.config.masked else None
        told_means = [damped(mean[:, place], known.kept, counted) for place, known in enumerate(by_lead)]
        means.append(in_units(bundle, np.stack(told_means, 1)))
        log_vars.append(_calibrated(bundle, by_lead, variance, (limits.high - limits.low)[:count, None]))
    return np.concatenate(means), np.concatenate(log_vars)


def damped(mean: Floats, kept: float, counted: Floats | None = None) -> Floats:
    """Forecasts (B, H, W) with so much of their deviations from their own mean, of cells that are ``counted``.

    No total changes, and none leaves the range it had.
    """
    if kept == 1:
        return mean
    middle = np.average(mean.astype(np.float64), axis=(1, 2), weights=counted, keepdims=True)
    closer: Floats = (middle + kept * (mean - middle)).astype(np.float32)
    return closer


def _calibrated(bundle: ModelBundle, by_lead: list[Calibration], variance: Floats, reach: Floats) -> Floats:
    """Log-variance in the field's unit squared of (B, steps, H, W); who stays within ``reach`` errs by no more."""
    unit = 2 * np.float32(np.log(bundle.normalization.scale))
    claimed = np.log(variance) + unit
    told = np.stack([known.log_var(claimed[:, place]) for place, known in enumerate(by_lead)], 1)
    largest = 2 * np.log(np.maximum(reach, np.float32(1))) + unit
    log_var: Floats = np.minimum(told, largest)
    return log_var


def _scanned(bundle: ModelBundle, state: Underway, limits: Limits, steps: int) -> list[Floats]:
    told = []
    for _ in range(0, steps, STEPS_AT_ONCE):
        state, some = _scan(bundle.config, bundle.variables, state, limits)
        told.append(np.asarray(some))
    return told


def _stepped(bundle: ModelBundle, state: Underway, limits: Limits, steps: int) -> list[Floats]:
    told = []
    for _ in range(steps):
        known = origins(bundle.config, np.asarray(state.frames))
        where = _where(bundle.config, state)
        both = forward(bundle.config, bundle.variables, state.frames, where, known, lowest(bundle), state.beside)
        state, one = _advanced(bundle.config, bundle.variables, state, limits, known, both)
        told.append(np.asarray(one)[None])
    return told


@partial(jax.jit, static_argnums=0)
def _scan(config: NVPConfig, variables: Variables, state: Underway, limits: Limits) -> tuple[Underway, jax.Array]:
    """`STEPS_AT_ONCE` steps: where they lead, and mean and variance of each, (steps, 2, B, H, W)."""

    def step(state: Underway, _: None) -> tuple[Underway, jax.Array]:
        known = origin(state.frames, config.boundary) if config.context_frames > 1 else state.frames[..., :0]
        both = forward(config, variables, state.frames, _where(config, state), known, UNBOUNDED, state.beside)
        return _advance(config, variables, state, limits, known, both)

    return jax.lax.scan(step, state, length=STEPS_AT_ONCE)


def _where(config: NVPConfig, state: Underway) -> jax.Array | None:
    return state.seen if config.masked else None


def _advance(
    config: NVPConfig, variables: Variables, state: Underway, limits: Limits, known: jax.Array, both: jax.Array
) -> tuple[Underway, jax.Array]:
    """One step on, after the network has said ``both`` mean and log-variance of the frames of ``state``."""
    counted = state.seen[..., -1] if config.masked else None
    mean = bounded(config.conservation, both[0], both[1], limits.low, limits.high, counted)
    carried = state.variance
    if config.context_frames > 1:
        displacement = variables["params"]["drift"] * known[..., :2]
        carried = warp(carried[..., None], displacement, config.boundary)[..., 0]
    variance = carried + jnp.exp(both[1])
    there = jnp.max(state.seen, -1)
    frames, seen = (
        jnp.concatenate([old[..., 1:], new[..., None]], -1)
        for old, new in ((state.frames, there * mean), (state.seen, there))
    )
    return state._replace(frames=frames, seen=seen, variance=variance), jnp.stack([mean, variance])


_advanced = jax.jit(_advance, static_argnums=0)


def _limits(bundle: ModelBundle, shown: Floats) -> Limits:
    """Of the training data and of the frames themselves, (B, H, W, K), whichever is wider."""
    units = bundle.normalization
    least, most = (extreme(shown, axis=(1, 2, 3), keepdims=True)[..., 0] for extreme in (np.min, np.max))
    low, high = least - MARGIN * (most - least), most + MARGIN * (most - least)
    if units.low is not None and units.high is not None:
        low = np.minimum(low, (units.low - units.offset) / units.scale)
        high = np.maximum(high, (units.high - units.offset) / units.scale)
    if bundle.config.positive:
        low = np.maximum(low, -units.offset / units.scale)
    return Limits(low.astype(np.float32), np.maximum(low, high).astype(np.float32))
