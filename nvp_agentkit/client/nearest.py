"""Which of many descriptors are nearest to one: all of them are looked at, so nothing near is missed."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nvp_agentkit.errors import InvalidInput

ROUNDING = float(np.finfo(np.float32).eps)


class Near(NamedTuple):
    """Places among the descriptors, the nearest first, and their distances."""

    places: NDArray[np.intp]
    distances: NDArray[np.float64]


class Descriptors:
    """Descriptors (N, D), ready to be asked.

    |a - b|^2 = |a|^2 - 2 a.b + |b|^2, so a question is one product in float32. Whoever could be among the nearest but
    for its rounding is then measured in float64: the answer is that of measuring each one.
    """

    def __init__(self, values: NDArray[Any]) -> None:
        """Raises `InvalidInput` if they are not (N, D), or not finite."""
        self._values = np.ascontiguousarray(values, np.float32)
        if self._values.ndim != 2 or 0 in self._values.shape or not np.isfinite(self._values).all():
            raise InvalidInput(f"descriptors of shape {self._values.shape}; give (N, D), at least one, all finite")
        self._middle = self._values.mean(0, dtype=np.float64).astype(np.float32)  # far from 0 the product loses digits
        self._centred = self._values - self._middle
        self._half_squares = 0.5 * np.einsum("nd,nd->n", self._centred, self._centred)
        self._reach = float(np.sqrt(2 * self._half_squares.max()) + np.linalg.norm(self._middle))

    def nearest(self, one: NDArray[Any], count: int = 10) -> Near:
        """The ``count`` nearest to ``one`` (D,), of equally near ones the first; fewer if there are fewer.

        Raises:
            InvalidInput: ``one`` has another length or is not finite, or ``count`` is none.
        """
        asked = np.asarray(one, np.float32)
        if asked.shape != self._values.shape[1:] or not np.isfinite(asked).all() or count < 1:
            raise InvalidInput(f"asked for {count} near {asked.shape}; give at least 1, and {self._values.shape[1:]}")
        centred = asked - self._middle
        rough = self._half_squares - self._centred @ centred
        last = min(count, len(rough)) - 1
        lost = 4 * ROUNDING * len(asked) * (self._reach + float(np.linalg.norm(centred))) ** 2
        places = np.flatnonzero(rough <= np.partition(rough, last)[last] + lost)
        distances = np.linalg.norm(self._values[places].astype(np.float64) - asked, axis=1)
        order = np.lexsort((places, distances))[:count]
        return Near(places[order], distances[order])
