"""What a hindcast leaves: which arrays of the artifact store hold which forecasts, and how good they were."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from pydantic import Field

from nvp_agentkit.messages.values import Digest, DomainName, Payload

MODEL = "model"  # among the forecasters that are judged


class Place(NamedTuple):
    """Of one part: whose starts it has, and which of them."""

    trajectory: int
    first: int
    size: int


class Part(Payload):
    """Forecasts from some starts of one trajectory: arrays (starts, steps, height, width) of little-endian float32."""

    mean: Digest
    std: Digest


class Skill(NamedTuple):
    """At one lead time. VRMSE over the starts that were judged; ``best``: the trivial forecaster with the least."""

    lead: int
    vrmse: float
    persistence: float
    best: str
    best_vrmse: float

    @property
    def over_persistence(self) -> float:
        """1 is perfect, 0 as good as persistence."""
        return _skill(self.vrmse, self.persistence)

    @property
    def over_best(self) -> float:
        return _skill(self.vrmse, self.best_vrmse)


class Manifest(Payload):
    """A hindcast as far as it is done.

    Parts go by trajectory, then by start, ``together`` starts each but for the last of a trajectory. One work gives one
    sequence of parts, so that who takes over knows from their number where to go on. ``missed`` and ``spread`` are sums
    of squares by lead time: of each forecaster's errors, and of the truth's deviations from each map's mean.
    """

    work: Digest
    domain: DomainName
    data: Digest
    model: str
    ensemble: Digest
    steps: int
    every: int
    trajectories: int
    frames: int
    height: int
    width: int
    units: str
    dt_s: float
    dx_m: float
    start_ms: int = Field(description="of the first frame, since 1970; 0: it has no time")
    rows_descend: bool = False
    first: int = Field(description="frame of each trajectory from which its first forecast starts")
    starts: int = Field(description="of each trajectory")
    together: int
    parts: tuple[Part, ...] = ()
    judged: int = Field(0, description="starts that the scores are of")
    missed: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    spread: tuple[float, ...] = ()
    attempt: str | None = Field(None, description="of a manifest that is still written: who writes it")

    @property
    def parts_in_all(self) -> int:
        return self.trajectories * self._each

    @property
    def done(self) -> bool:
        return len(self.parts) == self.parts_in_all

    @property
    def _each(self) -> int:
        return math.ceil(self.starts / self.together)

    def place(self, part: int) -> Place:
        """What the part of that number is of."""
        trajectory, block = divmod(part, self._each)
        first = block * self.together
        return Place(trajectory, first, min(self.together, self.starts - first))

    def frame(self, start: int) -> int:
        """The newest frame that the forecast from that start was shown."""
        return self.first + start * self.every

    def skill(self) -> Iterator[Skill]:
        """By lead time; nothing where no start with something observed was judged."""
        trivial = sorted(self.missed.keys() - {MODEL})
        for place, spread in enumerate(self.spread):
            if spread > 0:
                vrmse = {name: math.sqrt(sums[place] / spread) for name, sums in self.missed.items()}
                best = min(trivial, key=vrmse.__getitem__)
                yield Skill(place + 1, vrmse[MODEL], vrmse["persistence"], best, vrmse[best])


def _skill(error: float, reference: float) -> float:
    return 1 - error / reference if reference > 0 else 0.0
