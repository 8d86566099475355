"""What a dataset looks like, in numbers that are found once: series over time, a spectrum, and a descriptor.

A descriptor is 64 numbers of order one that depend on neither unit nor, up to what a grid can show, size: two datasets
whose descriptors are near each other are alike.

    0..31   share of the variance in space in waves longer than each of 32 lengths: 1 to 512 across the shorter side
    32..47  quantiles of the values, in standard deviations from the mean
    48..55  correlation of maps 1, 2, 3, 4, 6, 8, 12 and 16 frames apart, each less its own mean
    56..63  entropy below its largest, log10 of dissipation (slopes squared), log2 of slopes down over across, asinh of
            skewness, of excess kurtosis and of mean over sigma, spread of the total over time, share of cells observed
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from nvp_agentkit.fields.metrics import TINY, correlation, spatial_entropy
from nvp_agentkit.fields.sequence import Floats, Mask, SequenceSet

LENGTHS = np.geomspace(1, 512, 32)
QUANTILES = np.linspace(0.005, 0.995, 16)
LAGS = (1, 2, 3, 4, 6, 8, 12, 16)
SAMPLED = 64  # maps, spread over all, that spectrum and descriptor look at
VALUES = 2**18  # of these
PAIRS = 16  # of maps a lag
FLAT = 1.0  # a slope of one standard deviation a side; the longest wave has 6
SIZE = 64


class Description(NamedTuple):
    """``total`` and ``entropy`` (N, T) of each map: the sum of its observed cells, and Shannon's over them in nat;
    ``spectrum`` (2, K): waves across the shorter side, and the mean variance in them; ``descriptor`` (64,);
    ``statistics``: mean, sd, least and most of what was observed, in the field's unit.
    """

    total: Floats
    entropy: Floats
    spectrum: Floats
    descriptor: Floats
    statistics: dict[str, float]


def describe(sequences: SequenceSet, told: Callable[[int, int], None] = lambda done, of: None) -> Description:
    """Look at all of ``sequences`` once, a map at a time; ``told`` (done, of) may end that by raising."""
    shape = sequences.values.shape[:2]
    total, entropy = np.zeros(shape), np.zeros(shape)
    moments, least, most = np.zeros(3), math.inf, -math.inf
    for number, one in enumerate(sequences):
        told(number, shape[0])
        for frame, values in enumerate(one.values):
            observed = values if one.mask is None else values[one.mask[frame]]
            if not observed.size:
                continue
            total[number, frame] = observed.sum(dtype=np.float64)
            entropy[number, frame] = spatial_entropy(observed.reshape(1, -1))
            moments += (observed.size, total[number, frame], np.vdot(observed, observed.astype(np.float64)))
            least, most = min(least, float(observed.min())), max(most, float(observed.max()))
    count, first, second = moments
    mean = first / count
    statistics = {"mean": mean, "sd": math.sqrt(max(second / count - mean**2, 0.0)), "least": least, "most": most}
    spectrum = _spectrum(sequences)
    descriptor = _descriptor(sequences, spectrum, statistics, total, entropy)
    arrays = [np.asarray(one, np.float32) for one in (total, entropy, spectrum, descriptor)]
    return Description(arrays[0], arrays[1], arrays[2], arrays[3], statistics)


def _sampled(sequences: SequenceSet) -> Iterator[tuple[Floats, Mask]]:
    """Of at most `SAMPLED` maps, spread evenly over trajectories and frames."""
    frames = sequences.frames
    whole = sequences.trajectories * frames
    for at in np.unique(np.linspace(0, whole - 1, min(SAMPLED, whole)).astype(int)):
        number, frame = divmod(int(at), frames)
        mask = None if sequences.mask is None else sequences.mask[number, frame]
        values = sequences.values[number, frame]
        yield values, np.ones(values.shape, np.bool_) if mask is None else mask


def _spectrum(sequences: SequenceSet) -> np.ndarray:
    """Variance by shells of wavenumber, mean over sampled maps; fill counts, edges that do not meet fade."""
    height, width = sequences.grid
    y, x = (np.fft.fftfreq(side, 1 / min(height, width)) for side in (height, width))
    shell = np.rint(np.hypot(y[:, None], x[None, :])).astype(int)
    waves = np.arange(1, min(height, width) // 2 + 1)
    tapers = [
        np.ones(side) if edge == "periodic" else np.hanning(side + 2)[1:-1]
        for side, edge in zip((height, width), sequences.meta.boundary, strict=True)
    ]
    taper = np.outer(*tapers)
    power = np.zeros(shell.max() + 1)
    maps = list(_sampled(sequences))
    for values, _ in maps:
        waving = np.abs(np.fft.fft2((values - values.mean(dtype=np.float64)) * taper)) ** 2
        power += np.bincount(shell.ravel(), waving.ravel(), len(power))
    return np.stack([waves, power[waves] / (len(maps) * (height * width) ** 2 * np.mean(taper**2))])


def _descriptor(
    sequences: SequenceSet, spectrum: np.ndarray, known: dict[str, float], total: np.ndarray, entropy: np.ndarray
) -> np.ndarray:
    waves, power = spectrum
    longer = np.interp(LENGTHS, waves, np.cumsum(power) / (power.sum() + TINY))
    values = np.concatenate([values[there] for values, there in _sampled(sequences)])
    values = values[:: max(1, values.size // VALUES)]
    standard = (values - known["mean"]) / (known["sd"] + TINY) if known["sd"] else np.zeros_like(values)
    down, across = _slopes(sequences)
    cells = math.prod(sequences.grid)
    drift = total.std() / (np.abs(total).mean() + TINY)
    observed = 1.0 if sequences.mask is None else float(np.mean([there.mean() for _, there in _sampled(sequences)]))
    rest = [
        1 - entropy.mean() / math.log(cells),
        math.log10(down + across + FLAT),
        math.log2((down + FLAT) / (across + FLAT)),
        math.asinh(float((standard * standard * standard).mean())),
        math.asinh(float((standard * standard * standard * standard).mean()) - 3),
        math.asinh(known["mean"] / known["sd"]) if known["sd"] else 0.0,
        float(drift),
        observed,
    ]
    return np.concatenate([longer, np.quantile(standard, QUANTILES), _memory(sequences), rest])


def _slopes(sequences: SequenceSet) -> tuple[float, float]:
    """Mean squared slopes down and across over the variance of maps, a slope being counted over the shorter side."""
    steps, variance = np.zeros(2), 0.0
    for values, _ in _sampled(sequences):
        real = values.astype(np.float64)
        steps += [float((np.diff(real, axis=axis) ** 2).mean()) for axis in (0, 1)]
        variance += float(real.var())
    down, across = steps * min(sequences.grid) ** 2 / (variance + TINY)
    return float(down), float(across)


def _memory(sequences: SequenceSet) -> list[float]:
    """Mean correlation of maps so many frames apart; 0 for lags that there are no frames for."""
    found = []
    for lag in LAGS:
        pairs = sequences.trajectories * max(0, sequences.frames - lag)
        if not pairs:
            found.append(0.0)
            continue
        correlations = []
        for at in np.unique(np.linspace(0, pairs - 1, min(PAIRS, pairs)).astype(int)):
            number, frame = divmod(int(at), sequences.frames - lag)
            one = sequences[number]
            there = None if one.mask is None else one.mask[frame] & one.mask[frame + lag]
            if there is None or there.any():
                correlations.append(float(correlation(one.values[frame + lag], one.values[frame], there)))
        found.append(float(np.mean(correlations)) if correlations else 0.0)
    return found
