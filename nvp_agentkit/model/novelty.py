"""How unlike its training data a field is: a few descriptors of it, and how far out they lie.

A network says something of any field, and its intervals hold for fields like those it was calibrated on. The distance
is Mahalanobis' from the training windows, over descriptors that do not depend on where things are or how large the
grid is; what is reported is its rank among windows held out (`docs/decisions/027-doubt-beyond-one-step.md`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
import numpy.typing as npt

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.model.bundle import Floats, ModelBundle
from nvp_agentkit.model.predict import Mask, newest

BANDS = (0.0, 1 / 16, 1 / 8, 1 / 4, 1.0)  # edges in cycles a cell
TINY = 1e-6  # of the training data's spread, squared: below, nothing is told apart
COUNTED = 128  # windows of a set that are described: their neighbours say nothing new
SHRINKAGE = 0.2  # of correlations towards none: windows are many, trajectories few
ROOM = 1.25  # on how far out a window is that is still known: those held out are of a few trajectories
SMALLEST_SPREAD = 0.02  # of a descriptor: training data may have one that never changes, and rounding is no novelty
DESCRIPTORS = 5 + 2 * (len(BANDS) - 1)

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Novelty:
    """What the training data look like.

    Attributes:
        centre: (D,), mean of the descriptors.
        whitening: (D, D), takes a departure from it to one whose length is the distance.
        distances: of windows held out, times `ROOM`, ascending.
    """

    centre: Numbers
    whitening: Numbers
    distances: Numbers

    @classmethod
    def fit(cls, known: Numbers, held_out: Numbers) -> Self:
        """From `descriptors` of training windows (N, D) and of windows of other trajectories (M, D)."""
        centre = known.mean(0)
        covariance = np.cov(known, rowvar=False, ddof=0)
        own = np.diag(np.diag(covariance))
        shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * own + SMALLEST_SPREAD**2 * np.eye(len(centre))
        whitening = np.linalg.inv(np.linalg.cholesky(shrunk))
        found = cls(centre, whitening, np.zeros(0))
        return cls(centre, whitening, np.sort(ROOM * found.distance(held_out)))

    def distance(self, described: Numbers) -> Numbers:
        """(B, D) -> (B,): 0 is the centre."""
        far: Numbers = np.linalg.norm((described - self.centre) @ self.whitening.T, axis=1)
        return far

    def score(self, described: Numbers) -> Numbers:
        """(B, D) -> (B,): the share of held-out windows that are less unusual, in [0, 1).

        One minus the conformal p-value, but for the margin: of fields like those held out, at most 5% score above 0.95.
        """
        nearer = np.searchsorted(self.distances, self.distance(described), side="left")
        return nearer / (len(self.distances) + 1)


def novelty_of(bundle: ModelBundle, frames: npt.ArrayLike, mask: Mask | None = None) -> Numbers | None:
    """`Novelty.score` of frames (B, K, H, W) as `predict_next` takes them; None where the bundle cannot tell.

    Raises:
        InvalidField: frames that `predict_next` refuses.
    """
    return None if bundle.novelty is None else bundle.novelty.score(descriptors(*newest(bundle, frames, mask)))


def descriptors(frames: Floats, seen: Floats) -> Numbers:
    """(B, H, W, K) normalised frames, holes at nought, and where they have values -> (B, D), see the module.

    Mean, log spread and skewness of the newest frame, log kurtosis of it and of its slopes; by octave of wavenumber the
    log of its power, as a share, and of how much of it the last step changed.
    """
    if frames.ndim != 4 or frames.shape != seen.shape:
        raise InvalidField(f"frames have shape {frames.shape}, where they have values {seen.shape}; give (B, H, W, K)")
    newest, there = frames[..., -1], seen[..., -1]
    cells = np.maximum(there.sum((1, 2)), 1)

    def mean(values: Floats) -> Numbers:
        """Of what is nought in holes."""
        total: Numbers = values.sum((1, 2), dtype=np.float64) / cells
        return total

    middle = mean(there * newest)
    apart = there * (newest - middle.astype(np.float32)[:, None, None])
    square = np.square(apart)
    variance = mean(square) + TINY
    slopes = np.square(np.diff(apart, axis=1)[:, :, 1:]) + np.square(np.diff(apart, axis=2)[:, 1:])
    power, changed = (_bands(part) for part in (apart, there * (newest - frames[..., -2:][..., 0])))
    return np.stack(
        [
            middle,
            np.log(variance) / 2,
            np.arcsinh(mean(square * apart) / variance**1.5),
            np.log(mean(np.square(square)) / variance**2 + TINY),
            np.log((mean(np.square(slopes)) + TINY**2) / (mean(slopes) + TINY) ** 2),
            *(np.log(power + TINY) - np.log(power.sum(0) + TINY)),
            *(np.log(changed + TINY) - np.log(power + TINY)),
        ],
        axis=1,
    )


def _bands(maps: Floats) -> Numbers:
    """Mean square of (B, H, W) in each octave: (bands, B)."""
    h, w = maps.shape[1:]
    power: Floats = np.square(np.abs(np.fft.rfft2(maps) / (h * w)))
    return (power.reshape(len(maps), -1) @ _octaves(h, w)).T.astype(np.float64)


@lru_cache(maxsize=8)
def _octaves(h: int, w: int) -> Floats:
    """(waves, bands): 1 where a wave is in a band, 2 where its mirror image, which `rfft2` leaves out, is as well."""
    x = np.fft.rfftfreq(w)
    wave = np.hypot(np.fft.fftfreq(h)[:, None], x)
    counted = np.where((x > 0) & (x < 0.5), 2, 1)
    bands = [counted * ((low < wave) & (wave <= high)) for low, high in itertools.pairwise(BANDS)]
    return np.stack(bands, -1).reshape(-1, len(bands)).astype(np.float32)
