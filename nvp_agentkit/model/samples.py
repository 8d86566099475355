"""Samples that are coherent fields: each cell as uncertain as the forecast says, neighbours erring together.

    sample = mean + gain s^stretch noise,        s = sigma / `Normalization.scale`

with ``noise`` a Gaussian field of unit variance whose power by wavenumber is that of (truth - mean) / sigma on held-out
trajectories. Nothing is trained or compiled beside the forecast, and one forward pass serves any number of samples;
samplers trained with fair CRPS and by flow matching were measured against it (`docs/decisions/029-samples.md`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.fields.metrics import SMALLEST_SIGMA
from nvp_agentkit.fields.sequence import Conservation
from nvp_agentkit.model.beside import Beside
from nvp_agentkit.model.bundle import WAVENUMBERS, Coherence, Floats, ModelBundle
from nvp_agentkit.model.config import NVPConfig
from nvp_agentkit.model.conservation import bounded, project
from nvp_agentkit.model.layers import Edges
from nvp_agentkit.model.predict import Mask, newest, predict_next

LARGEST_COUNT = 10_000
STRETCH = (0.5, 2.0)  # of sigma's exponent: beyond, the data were too few to tell
HALVINGS = 12  # of that range
WINDOWS = 64  # that a fit looks at


def sample_next(
    bundle: ModelBundle,
    frames: npt.ArrayLike,
    count: int,
    seed: int,
    mask: Mask | None = None,
    beside: Beside | None = None,
) -> Floats:
    """Fields that may come next, as likely each as the model thinks.

    Args:
        bundle: a model that knows how its errors hang together (`training.with_coherence`; `MemberTrainer`'s do).
        frames: (B, K, H, W), as `predict_next` takes them, and ``mask`` of that shape.
        count: how many samples of each window.
        seed: equal seeds give equal samples; the first do not depend on how many follow, or on later windows.
        beside: as `predict_next` takes it.

    Returns:
        (count, B, H, W) float32 in the field's unit, around the mean of `predict_next`. Unless the domain is open
        the total of each is the mean's; where the field cannot be negative none is.

    Raises:
        InvalidField: frames that `predict_next` refuses.
        InvalidInput: a count or seed out of range, or a model that does not know how its errors hang together.
    """
    coherence = _checked(bundle, count, seed)
    mean, log_var = predict_next(bundle, frames, mask, beside)
    weight = newest(bundle, frames, mask)[1][..., -1] if bundle.config.masked else None
    scale = bundle.normalization.scale
    doubt = np.exp(log_var / 2) / scale
    sigma: Floats = np.asarray(scale * coherence.gain * doubt**coherence.stretch, np.float32)
    drawn = noises(coherence, bundle.config.boundary, mean.shape, count, seed)
    return np.stack([_kept(bundle.config, mean, sigma * noise, sigma, weight) for noise in drawn])


def fit_coherence(
    mean: Floats, log_var: Floats, truth: Floats, mask: Mask | None, *, scale: float, boundary: Edges
) -> Coherence:
    """How errors of forecasts (N, H, W) hang together, and what sigma is worth.

    ``stretch`` and ``gain`` make both the mean square of the samples' spread the errors', which is what spread-skill
    compares, and the mean of their ratio by cell one: by ``gain`` alone sure cells get too much.

    Args:
        mean: the field's unit.
        log_var: as `predict_next` gives it.
        truth: what came.
        mask: True where it was observed; None: everywhere.
        scale: `Normalization.scale`.
        boundary: (y, x).
    """
    some = np.unique(np.linspace(0, len(mean) - 1, WINDOWS).round().astype(int))
    there = np.isfinite(truth[some]) if mask is None else mask[some]
    errors = np.where(there, (truth[some] - mean[some]) / np.float32(scale), 0).astype(np.float64)
    log_sigma = np.maximum(log_var[some] / 2 - np.log(scale), np.log(SMALLEST_SIGMA)).astype(np.float64)
    seen, doubt = np.square(errors[there]), log_sigma[there]

    def gain2(stretch: float) -> float:
        return float(np.mean(seen) / np.mean(np.exp(2 * stretch * doubt)))

    low, high = STRETCH
    for _ in range(HALVINGS):
        stretch = (low + high) / 2
        if np.mean(seen * np.exp(-2 * stretch * doubt)) < gain2(stretch):
            low = stretch
        else:
            high = stretch
    spectrum = _spectrum(errors * np.exp(-stretch * log_sigma), boundary)
    return Coherence(max(float(np.sqrt(gain2(stretch))), SMALLEST_SIGMA), stretch, spectrum)


def _checked(bundle: ModelBundle, count: int, seed: int) -> Coherence:
    if not 1 <= count <= LARGEST_COUNT:
        raise InvalidInput(f"count is {count}; give 1 to {LARGEST_COUNT}")
    if seed < 0:
        raise InvalidInput(f"seed is {seed}; give 0 or more")
    if bundle.coherence is None:
        raise InvalidInput(
            "this model does not know how its errors hang together, so it cannot be sampled: fit that on data it was "
            "not trained on by training.with_coherence(bundle, data)"
        )
    return bundle.coherence


def _spectrum(errors: npt.NDArray[np.float64], boundary: Edges) -> tuple[float, ...]:
    """Mean power of (N, H, W) at each of `WAVENUMBERS`, 1 on average over the modes; flat where there is none."""
    for axis, kind in enumerate(boundary, start=1):
        if kind != "periodic":  # its mirror image joins it without a step
            errors = np.concatenate([errors, np.flip(errors, axis)], axis)
    power = np.mean([np.abs(np.fft.rfft2(one)) ** 2 for one in errors], 0)
    bins = np.abs(np.log(_radius(errors.shape[1:])[..., None]) - np.log(WAVENUMBERS)).argmin(-1)
    sums, modes = (np.bincount(bins.ravel(), weights, len(WAVENUMBERS)) for weights in (power.ravel(), None))
    known = modes > 0
    found = np.interp(np.log(WAVENUMBERS), np.log(WAVENUMBERS)[known], sums[known] / modes[known])
    return tuple(float(value) for value in (found / power.mean() if power.any() else np.ones_like(found)))


def _radius(grid: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Wavenumber of each mode of `rfft2` in cycles a cell; what is constant counts as the longest wave."""
    found = np.hypot(np.fft.fftfreq(grid[0])[:, None], np.fft.rfftfreq(grid[1]))
    return np.asarray(np.maximum(found, WAVENUMBERS[0]), np.float64)


def noises(coherence: Coherence, boundary: Edges, shape: tuple[int, ...], count: int, seed: int) -> Iterator[Floats]:
    """``count`` times noise (B, H, W) of unit variance."""
    windows, *grid = shape
    # Edges that do not meet must not be alike: noise is periodic, so it is cut from twice the side.
    rows, columns = (side if kind == "periodic" else 2 * side for side, kind in zip(grid, boundary, strict=True))
    modes = np.interp(np.log(_radius((rows, columns))), np.log(WAVENUMBERS), coherence.spectrum)
    twice = np.full(modes.shape[1], 2.0)  # such a mode stands for its conjugate too
    twice[[0, -1] if columns % 2 == 0 else [0]] = 1
    filtering = np.sqrt(modes * (rows * columns / np.sum(modes * twice))).astype(np.float32)
    for place in range(count):
        white = np.random.default_rng([seed, place]).standard_normal((windows, rows, columns), np.float32)
        noise = np.fft.irfft2(np.fft.rfft2(white) * filtering, (rows, columns))
        yield np.asarray(noise[:, : grid[0], : grid[1]], np.float32)


def _kept(config: NVPConfig, mean: Floats, errors: Floats, sigma: Floats, weight: Floats | None) -> Floats:
    """``mean`` + ``errors`` within what the domain allows."""
    low = np.float32(0 if config.positive else -np.inf)
    if config.conservation == "open":
        return np.asarray(np.maximum(mean + errors, low), np.float32)
    means, drawn, log_var = (jnp.asarray(part) for part in (mean, errors, 2 * np.log(sigma)))
    counted = None if weight is None else jnp.asarray(weight)
    return np.asarray(_conserved(config.conservation, means, drawn, log_var, low, counted))


@partial(jax.jit, static_argnums=0)
def _conserved(
    kind: Conservation,
    mean: jax.Array,
    errors: jax.Array,
    log_var: jax.Array,
    low: np.float32,
    weight: jax.Array | None,
) -> jax.Array:
    """With the total of ``mean``: errors add up to nothing, first by their variance, then above ``low``."""
    balanced = project(errors, log_var, jnp.zeros(len(mean)), weight)[0]
    return bounded(kind, mean + balanced, log_var, low, jnp.inf, weight)
