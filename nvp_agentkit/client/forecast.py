"""What an agent gets back: the forecast, its uncertainty, what it cost, and the proof."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from nvp_agentkit.client.units import in_units
from nvp_agentkit.errors import InvalidInput, StoreUnavailable, UnknownName, VerificationFailed
from nvp_agentkit.messages import STARTER, TRIVIAL, Reading
from nvp_agentkit.messages.values import digest_of

UNFAMILIAR = 0.95  # of held-out fields are less unlike the training data
NORMAL_WIDTHS = {0.5: 0.674490, 0.9: 1.644854, 0.95: 1.959964}  # of |z|, z ~ N(0, 1): `model.bundle` has the same

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from numpy.typing import NDArray

    from nvp_agentkit.artifacts import Artifacts
    from nvp_agentkit.ensemble import Verdict


@dataclass(frozen=True)
class Exchange:
    """What was asked and what came, by digest: a certificate of anything else proves nothing here."""

    request_id: str
    field: str
    mean: str
    log_var: str


@dataclass(frozen=True)
class Certificate:
    """A quorum certificate: bytes that prove themselves to whoever trusts the deployment's root key.

    With an ``exchange`` it must be of that request and that answer; one read from a file has none.
    """

    raw: bytes
    root_key: Path
    artifacts: Artifacts
    exchange: Exchange | None = None

    def verify(self) -> Verdict:
        """Check signatures, keys and rule; recompute the agreement where the votes' arrays are kept.

        Raises:
            VerificationFailed: something does not hold; the text says what.
        """
        from nvp_agentkit.ensemble import RootOfTrust, verify

        asked = self.exchange
        verdict = verify(
            self.raw,
            RootOfTrust.read(self.root_key),
            fetch=self.artifacts.fetch_array,
            request_id=None if asked is None else asked.request_id,
            request_digest=None if asked is None else asked.field,
        )
        if asked is not None and (verdict.mean.digest, verdict.log_var.digest) != (asked.mean, asked.log_var):
            raise VerificationFailed(f"certificate of another answer: {verdict.mean.digest}, this one is {asked.mean}")
        return verdict

    @property
    def digest(self) -> str:
        """``sha256:...`` of the certificate's bytes."""
        return digest_of(self.raw)

    def members(self) -> dict[str, NDArray[np.float32]]:
        """The mean (H, W) of each vote whose array is still kept, by voter; `verify` tells whether they hold."""
        from nvp_agentkit.ensemble import votes_in

        found: dict[str, NDArray[np.float32]] = {}
        for vote in votes_in(self.raw):
            with suppress(UnknownName, StoreUnavailable):
                found[vote.voter] = self.artifacts.fetch_array(vote.mean).astype("float32", copy=False)
        return dict(sorted(found.items()))

    def save(self, path: Path | str) -> Path:
        """Write the certificate to a file that ``nvp verify`` reads."""
        target = Path(path)
        target.write_bytes(self.raw)
        return target


@dataclass(frozen=True)
class Axes:
    """When the last frame was, and how far frames and cells are apart, as far as the asker said.

    Raises:
        InvalidInput: a time without a zone, or a distance that is none.
    """

    frame_time: datetime | np.datetime64 | None = None
    dt_s: float | None = None
    dx_m: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.frame_time, datetime) and self.frame_time.tzinfo is None:
            raise InvalidInput(f"frame_time={self.frame_time}: has no time zone; give datetime(..., tzinfo=UTC)")
        for name, value in (("dt_s", self.dt_s), ("dx_m", self.dx_m)):
            if value is not None and not 0 < value < math.inf:
                raise InvalidInput(f"{name}={value!r}: give a finite number above 0, or leave it away")


@dataclass(frozen=True)
class Forecast:
    """The next frame as a distribution a cell: mean and log-variance, shape (H, W), in ``units``.

    ``widths``: half widths of its intervals in standard deviations, by level, as they held on data held out; those of a
    normal distribution where none were, and of a quorum, whose spread is what is calibrated (docs/decisions/045).
    ``ood``: share of held-out fields that are more like the training data than the one asked about, 0 to 1; None: not
    known, as of a quorum or of what was never trained. ``cached``: the earlier request that this answer was computed
    for, where the same question had been asked; then it cost nothing.
    """

    request_id: str
    domain: str
    field_digest: str
    mean: NDArray[np.float32]
    log_var: NDArray[np.float32]
    units: str
    axes: Axes
    energy: Reading
    models: dict[str, str]
    agreed: tuple[str, ...] = ()
    dissent: tuple[str, ...] = ()
    certificate: Certificate | None = None
    ood: float | None = None
    cached: str | None = None
    widths: Mapping[float, float] = field(default_factory=lambda: dict(NORMAL_WIDTHS))

    def interval(self, level: float = 0.9) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Low and high, (H, W) each, the mean's units: between them lies the next frame in a share ``level`` of cells.

        Raises:
            InvalidInput: another level than those calibrated.
        """
        if level not in self.widths:
            raise InvalidInput(f"level {level!r}: give one of {', '.join(map(str, sorted(self.widths)))}")
        reach = self.std * self.std.dtype.type(self.widths[level])
        return self.mean - reach, self.mean + reach

    @property
    def std(self) -> NDArray[np.float32]:
        """Standard deviation a cell, shape (H, W), same units as the mean."""
        import numpy as np  # whoever has a forecast has loaded it; a third of the client's import time otherwise

        spread: NDArray[np.float32] = np.exp(0.5 * self.log_var).astype(np.float32)
        return spread

    @property
    def trained(self) -> bool:
        """False for a trivial forecaster's and the starter model's: nothing was learnt of this account's data.

        Neither is the uncertainty calibrated on any: it is how far the last frame shown would have been missed.
        """
        return not self.models.keys() & {TRIVIAL, STARTER}

    @property
    def unfamiliar(self) -> bool:
        """Whether the field is so unlike the training data that the uncertainty may promise too much."""
        return self.ood is not None and self.ood > UNFAMILIAR

    @property
    def source(self) -> str:
        """Who answered, each voter with its model."""
        return ", ".join(model if voter == TRIVIAL else f"{voter} {model}" for voter, model in self.models.items())

    @property
    def assurance(self) -> str:
        return "single" if self.certificate is None else "quorum"

    def to_xarray(self) -> xr.Dataset:
        """The forecast as a dataset after CF-1.11, ready for ``to_netcdf``.

        ``mean`` and ``sigma`` (y, x); with a quorum ``members`` (member, y, x), the votes whose arrays are still
        kept. Coordinates are cells, or metres where ``dx_m`` was said; ``lead_time`` is in seconds where ``dt_s``
        was said, else in frames; ``forecast_reference_time`` is the ``frame_time`` that was said, ``time`` one ``dt_s``
        later. A unit that UDUNITS
        cannot read becomes ``1``, and stands in ``long_name`` and ``nvp_units``.

        Raises:
            MissingExtra: xarray is not installed.
        """
        from nvp_agentkit.client.cf import dataset

        return dataset(self)

    def __str__(self) -> str:
        height, width = self.mean.shape
        believed = f", {len(self.agreed)} voters agree" if self.certificate else ""
        cost = "answered before, 0 J" if self.cached else f"{self.energy.mj / 1000:.2f} J {self.energy.method}"
        origin = "" if self.trained else f" by {self.models.get(TRIVIAL, 'the starter model')}, not calibrated"
        return f"forecast of {height}x{width} cells {in_units(self.units)}{origin}{believed}, {cost}"
