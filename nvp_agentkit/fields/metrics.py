"""How wrong a forecast is. NumPy; every function takes (..., H, W) arrays and counts only cells of ``mask``.

All errors pool the maps they are given: sums over cells and maps first, then one ratio. So a calm map, whose own
variance is next to nothing, cannot blow the figure up, and a forecast of many maps has one error.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields.sequence import Conservation

Array = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]

SMALLEST_SIGMA = 1e-20  # in the field's unit: no forecast claims less, so that none is infinitely wrong
TINY = 1e-30  # a field without variance: a perfect forecast scores 0, any other something huge but finite


def _checked(predicted: Array, truth: Array, mask: Mask | None) -> tuple[Array, Array, Array]:
    """(error, truth, weight) in float64, error and truth zero where the mask is False."""
    if predicted.shape != truth.shape or (mask is not None and mask.shape != truth.shape):
        raise InvalidField(
            f"forecast {predicted.shape}, truth {truth.shape}, mask {None if mask is None else mask.shape}: "
            "compare arrays of one shape"
        )
    valid = np.ones(truth.shape, np.bool_) if mask is None else mask
    if not valid.any():
        raise InvalidField("no valid cell to score: the mask is False everywhere; choose other frames")
    real = np.where(valid, truth, 0.0).astype(np.float64)
    error = np.where(valid, predicted, 0.0).astype(np.float64) - real
    return error, real, valid.astype(np.float64)


def _variance(real: Array, weight: Array) -> float:
    """Sum of squared deviations from each map's own mean."""
    cells = np.maximum(weight.sum((-2, -1), keepdims=True), 1.0)
    mean = real.sum((-2, -1), keepdims=True) / cells
    return float((weight * (real - mean) ** 2).sum())


def rmse(predicted: Array, truth: Array, mask: Mask | None = None) -> float:
    """Root mean square error, in the field's unit."""
    error, _, weight = _checked(predicted, truth, mask)
    return float(np.sqrt((error**2).sum() / weight.sum()))


def vrmse(predicted: Array, truth: Array, mask: Mask | None = None) -> float:
    """RMSE over the truth's spatial standard deviation. 0 is perfect, 1 as good as each map's mean.

    Source: The Well (Ohana et al. 2024), pooled over maps instead of averaged.
    """
    missed, there = vrmse_terms(predicted, truth, mask)
    return float(np.sqrt(missed / (there + TINY)))


def vrmse_terms(predicted: Array, truth: Array, mask: Mask | None = None) -> tuple[float, float]:
    """Sums of squared errors and of the truth's squared deviations: VRMSE^2 of several sets is their sums' ratio."""
    error, real, weight = _checked(predicted, truth, mask)
    return float((error**2).sum()), _variance(real, weight)


def nrmse(predicted: Array, truth: Array, mask: Mask | None = None) -> float:
    """RMSE over the truth's root mean square. 0 is perfect, 1 as good as forecasting 0."""
    error, real, _ = _checked(predicted, truth, mask)
    return float(np.sqrt((error**2).sum() / ((real**2).sum() + TINY)))


def h1(predicted: Array, truth: Array, mask: Mask | None = None, dx: float = 1.0) -> float:
    """Relative error of values and slopes together: 0 is perfect, 1 as good as each map's mean.

    sqrt of (sum e^2 + |grad e|^2) over (sum (E - mean)^2 + |grad E|^2), slopes between neighbouring valid cells in the
    field's unit over that of ``dx``. Blur that costs little VRMSE shows here.
    """
    error, real, weight = _checked(predicted, truth, mask)
    missed = float((error**2).sum()) + _slopes(error, weight, dx)
    return float(np.sqrt(missed / (_variance(real, weight) + _slopes(real, weight, dx) + TINY)))


def _slopes(maps: Array, weight: Array, dx: float) -> float:
    """Sum of squared differences between neighbours that are both valid, over dx^2."""
    total = 0.0
    for axis in (-2, -1):
        both = np.minimum(*(np.moveaxis(weight, axis, 0)[side] for side in (slice(1, None), slice(None, -1))))
        total += float((both * np.moveaxis(np.diff(maps, axis=axis), axis, 0) ** 2).sum())
    return total / dx**2


def spectral_error(predicted: Array, truth: Array, *, periodic: bool = True) -> dict[str, float]:
    """nRMSE in bands of wavenumber (waves across the shorter side): ``k<8``, ``8-32``, ``k>32``; bands it has.

    Args:
        predicted: maps without holes; a spectrum has no mask.
        truth: the same.
        periodic: False tapers the maps (Hann) so that their edges do not look like small scales.
    """
    missed, there = _powers(predicted, truth, periodic=periodic)
    return {
        name: float(np.sqrt(missed[..., band].sum() / (there[..., band].sum() + TINY)))
        for name, band in _bands(truth.shape[-2:]).items()
    }


def error_spectrum(predicted: Array, truth: Array, *, periodic: bool = True) -> tuple[float, ...]:
    """nRMSE by whole wavenumber, from 1 up to what the shorter side resolves; otherwise as `spectral_error`."""
    grid = truth.shape[-2:]
    wave, last = np.rint(_waves(grid)).astype(np.intp).ravel(), min(grid) // 2
    error, real = (
        np.bincount(wave, maps.reshape(-1, wave.size).sum(0))[1 : last + 1]
        for maps in _powers(predicted, truth, periodic=periodic)
    )
    return tuple(float(one) for one in np.sqrt(error / (real + TINY)))


def _powers(predicted: Array, truth: Array, *, periodic: bool) -> tuple[Array, Array]:
    """Squared moduli of the transforms of error and truth, (..., H, W)."""
    error, real, _ = _checked(predicted, truth, None)
    if not periodic:
        taper = np.outer(*(np.hanning(side + 2)[1:-1] for side in truth.shape[-2:]))
        error, real = error * taper, (real - real.mean((-2, -1), keepdims=True)) * taper
    missed, there = (np.abs(np.fft.fft2(maps)) ** 2 for maps in (error, real))
    return missed, there


def _waves(grid: tuple[int, ...]) -> Array:
    y, x = (np.fft.fftfreq(side, 1 / min(grid)) for side in grid)
    return np.asarray(np.hypot(y[:, None], x[None, :]))


def _bands(grid: tuple[int, ...]) -> dict[str, Mask]:
    wave = _waves(grid)
    named = {"k<8": wave < 8, "8-32": (wave >= 8) & (wave <= 32), "k>32": wave > 32}
    return {name: band for name, band in named.items() if band.any()}


def budget_error(predicted: Array, truth: Array, mask: Mask | None = None) -> float:
    """Mean over maps of |sum E_pred - sum E| / sum |E|: how wrong the total is, 0 is right."""
    error, real, _ = _checked(predicted, truth, mask)
    return float(np.mean(np.abs(error.sum((-2, -1))) / (np.abs(real).sum((-2, -1)) + TINY)))


def budget_violation(predicted: Array, before: Array, conservation: Conservation, mask: Mask | None = None) -> float:
    """Mean over maps of what the class forbids of sum E_pred - sum E_before, over sum |E_before|: 0 keeps it.

    ``closed`` forbids any change, ``dissipative`` a gain, ``open`` nothing. ``mask`` is that of ``before``.
    """
    change, known, _ = _checked(predicted, before, mask)
    gained = change.sum((-2, -1)) / (np.abs(known).sum((-2, -1)) + TINY)
    forbidden = {"closed": np.abs(gained), "dissipative": np.maximum(gained, 0.0)}
    return float(np.mean(forbidden.get(conservation, 0.0)))


def correlation(predicted: Array, truth: Array, mask: Mask | None = None) -> Array:
    """Pearson's, of each map: (...,) in [-1, 1]; 0 where one of the two is flat."""
    error, real, weight = _checked(predicted, truth, mask)
    cells = np.maximum(weight.sum((-2, -1), keepdims=True), 1.0)
    one, other = ((weight * (maps - maps.sum((-2, -1), keepdims=True) / cells)) for maps in (real + error, real))
    along = np.sqrt((one**2).sum((-2, -1)) * (other**2).sum((-2, -1)))
    found: Array = (one * other).sum((-2, -1)) / (along + TINY)
    return found


def correlation_time(predicted: Array, truth: Array, mask: Mask | None = None, *, threshold: float = 0.8) -> int:
    """Steps of a rollout (T, H, W) before its correlation with the truth first falls below ``threshold``."""
    below = correlation(predicted, truth, mask) < threshold
    return int(np.argmax(below)) if below.any() else len(below)


def skill(error: float, reference: float) -> float:
    """1 - error / reference: 1 is perfect, 0 as good as the reference, below 0 worse."""
    return 1.0 - error / max(reference, TINY)


def energy_fidelity(predicted: Array, truth: Array, mask: Mask | None = None) -> float:
    """max(1 - |sum E_pred - sum E| / sum |E|, 0), mean over maps: the share of each map's total that is right.

    A flat field at the mean scores 1 and doing nothing passes 0.90: report it, do not judge by it.
    Source: session S2, "Tracked Metrics".
    """
    error, real, _ = _checked(predicted, truth, mask)
    off = np.abs(error.sum((-2, -1))) / (np.abs(real).sum((-2, -1)) + TINY)
    return float(np.maximum(1.0 - off, 0.0).mean())


def spatial_entropy(maps: Array, mask: Mask | None = None) -> Array:
    """Shannon entropy of p = |E| / sum |E| over the cells of each map, (...,) in nat. Depends on offset, resolution."""
    share = np.abs(np.where(True if mask is None else mask, maps, 0.0).astype(np.float64))
    share /= np.maximum(share.sum((-2, -1), keepdims=True), TINY)
    found: Array = -(share * np.log(np.maximum(share, TINY))).sum((-2, -1))
    return found


def entropy_coherence(predicted: Array, truth: Array, mask: Mask | None = None) -> float:
    """max(1 - |S_pred - S| / |S|, 0) with the spatial entropy S of each map, mean over maps: 1 is perfect.

    Doing nothing passes 0.85: report it, do not judge by it.
    Source: session S2, "Tracked Metrics".
    """
    entropy = spatial_entropy(truth, mask)
    off = np.abs(spatial_entropy(predicted, mask) - entropy) / np.maximum(np.abs(entropy), TINY)
    return float(np.maximum(1.0 - off, 0.0).mean())
