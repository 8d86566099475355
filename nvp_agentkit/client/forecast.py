"""What an agent gets back: the forecast, its uncertainty, what it cost, and the proof."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nvp_agentkit.errors import VerificationFailed
from nvp_agentkit.messages import TRIVIAL, Reading

if TYPE_CHECKING:
    import numpy as np
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

    def save(self, path: Path | str) -> Path:
        """Write the certificate to a file that ``nvp verify`` reads."""
        target = Path(path)
        target.write_bytes(self.raw)
        return target


@dataclass(frozen=True)
class Forecast:
    """The next frame as a distribution a cell: mean and log-variance, shape (H, W), in ``units``."""

    request_id: str
    mean: NDArray[np.float32]
    log_var: NDArray[np.float32]
    units: str
    energy: Reading
    models: dict[str, str]
    agreed: tuple[str, ...] = ()
    dissent: tuple[str, ...] = ()
    certificate: Certificate | None = None

    @property
    def std(self) -> NDArray[np.float32]:
        """Standard deviation a cell, shape (H, W), same units as the mean."""
        import numpy as np  # whoever has a forecast has loaded it; a third of the client's import time otherwise

        spread: NDArray[np.float32] = np.exp(0.5 * self.log_var).astype(np.float32)
        return spread

    @property
    def trained(self) -> bool:
        """False for a trivial forecaster's: made without training, and its uncertainty is not calibrated."""
        return TRIVIAL not in self.models

    @property
    def assurance(self) -> str:
        return "single" if self.certificate is None else "quorum"

    def __str__(self) -> str:
        height, width = self.mean.shape
        believed = f", {len(self.agreed)} voters agree" if self.certificate else ""
        cost = f"{self.energy.mj / 1000:.2f} J {self.energy.method}"
        origin = "" if self.trained else f" by {self.models[TRIVIAL]}, not calibrated"
        return f"forecast of {height}x{width} cells in {self.units}{origin}{believed}, {cost}"
