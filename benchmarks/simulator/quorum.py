"""An ensemble for histories: real keys, real signed votes, arrays in memory; what a voter says is known beforehand."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from nvp_agentkit.artifacts.arrays import raw_bytes
from nvp_agentkit.ensemble import AgreementRule, EnsembleRecord, Member, init_keys, load_signer, make_vote, sign_vote
from nvp_agentkit.errors import UnknownName
from nvp_agentkit.messages import ArrayRef, ObjectRef
from nvp_agentkit.messages.values import digest_of
from nvp_agentkit.settings import VOTERS

DOMAIN = "plasma_physics"
LOG_VAR = np.zeros((4, 4), np.float32)
RULE = AgreementRule(
    units="1", spread=1.0, limit=1.0, peak_limit=1.0, variance_limit=1.0, budget_limit=1.0, quantile=0.5, margin=1.0,
    pairs=1,
)  # fmt: skip


class Shelf:
    """Artifacts in memory."""

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}

    def keep(self, array: np.ndarray, units: str = "1") -> ArrayRef:
        digest = digest_of(raw_bytes(array))
        self._arrays[digest] = array
        return ArrayRef(shape=array.shape, units=units, digest=digest, uri=f"memory://{digest}")

    async def put_array(self, array: np.ndarray, units: str = "1") -> ArrayRef:
        return self.keep(array, units)

    async def put(self, data: bytes, media_type: str = "") -> ObjectRef:
        return ObjectRef(uri="memory://certificate", digest=digest_of(data), bytes=len(data), media_type=media_type)

    async def get_array(self, ref: ArrayRef, max_cells: int = 0) -> np.ndarray:
        if ref.digest not in self._arrays:
            raise UnknownName(f"no array {ref.digest}")
        return self._arrays[ref.digest]


class Ensemble:
    """Three voters with keys of their own, in a folder that is gone with it."""

    def __init__(self, shelf: Shelf) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="nvp-")
        self.data_dir = Path(self._folder.name)
        init_keys(self.data_dir / "keys", (*VOTERS, "tally"))
        self._signers = {voter: load_signer(self.data_dir / "keys", voter) for voter in VOTERS}
        weights = ObjectRef(uri="memory://weights", digest=digest_of(b"weights"), bytes=7)
        members = tuple(Member(voter=voter, model_id=f"model:{voter}", weights=weights) for voter in VOTERS)
        self.record = EnsembleRecord(domain=DOMAIN, members=members, rule=RULE)
        self._log_var = shelf.keep(LOG_VAR)
        means = [np.full((4, 4), 1.0 + 9 * odd, np.float32) for odd in range(len(VOTERS) + 1)]
        self._means = [(mean, shelf.keep(mean)) for mean in means]
        self.envelope = lru_cache(4096)(self._envelope)

    def close(self) -> None:
        self._folder.cleanup()

    def _envelope(self, voter: str, request_id: str, digest: str, odd: int) -> tuple[str, str]:
        """What ``voter`` signs on that request, and its signature; an ``odd`` one says what no other does."""
        mean, ref = self._means[odd]
        said = make_vote(
            self.record, voter, mean, refs=(ref, self._log_var), request_id=request_id, request_digest=digest,
            issued_at_ms=0,
        )  # fmt: skip
        envelope = sign_vote(said, self._signers[voter])
        return envelope.encode().decode(), envelope.signatures[0].sig
