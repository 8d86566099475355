"""A deployment with keys, and ensembles of honest members of slightly different skill to break things in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nvp_agentkit.ensemble import (
    Answer,
    Ballots,
    Decision,
    EnsembleRecord,
    KeyRing,
    Member,
    RootOfTrust,
    Vote,
    calibrate_rule,
    certify,
    collect,
    decide,
    init_keys,
    load_signer,
    make_vote,
    sign_vote,
)
from nvp_agentkit.ensemble.canonical import array_digest, to_base64
from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.messages import ArrayRef, ObjectRef, Reading, VoteCast
from nvp_agentkit.messages.values import digest_of

REQUEST = "request-1"
FIELD = digest_of(b"the field that was asked about")
UNITS = "J"


def smooth(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Periodic random maps of unit variance with structures of a few cells, shape (count, size, size)."""
    wave = np.fft.fftfreq(size, 1 / size)
    shape = np.exp(-(wave[:, None] ** 2 + wave[None, :] ** 2) / (2 * 3.0**2))
    maps = np.fft.ifft2(np.fft.fft2(rng.normal(size=(count, size, size))) * shape).real
    return maps / maps.std(axis=(1, 2), keepdims=True)


def honest(seed: int, members: int, samples: int, size: int = 16) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, log-variances (n, S, H, W) and truths (S, H, W) of members that err by 5% to 7%, half of it in common."""
    rng = np.random.default_rng(seed)
    truths = (1 + 0.4 * smooth(rng, samples, size)) ** 2
    common = smooth(rng, samples, size)
    means, log_vars = [], []
    for member in range(members):
        skill = 0.05 * (1 + 0.4 * member / members)
        errors = skill * truths.std() * (0.5**0.5 * common + 0.5**0.5 * smooth(rng, samples, size))
        means.append(truths + errors)
        log_vars.append(2 * np.log(skill * truths.std()) + 0.2 * smooth(rng, samples, size))
    return np.float32(means), np.float32(log_vars), np.float32(truths)


def ref(array: np.ndarray, units: str = UNITS, *, inline: bool = True) -> ArrayRef:
    """Where an array lies: inline, or in a store this test keeps as a dict by digest."""
    digest = array_digest(array)
    place = {"inline": to_base64(array.astype("<f4").tobytes())} if inline else {"uri": f"artifact:{digest}"}
    return ArrayRef(shape=array.shape, units=units, digest=digest, **place)


@dataclass
class Case:
    """One request to an ensemble of n, its honest answers, and what the tally would make of any votes."""

    folder: Path
    root: RootOfTrust
    keys: KeyRing
    record: EnsembleRecord
    answers: dict[str, Answer]
    inline: bool = True
    mask: np.ndarray | None = None
    store: dict[str, np.ndarray] = field(default_factory=dict)

    def place(self, array: np.ndarray, units: str = UNITS) -> ArrayRef:
        self.store[array_digest(array)] = array
        return ref(array, units, inline=self.inline)

    def fetch(self, at: ArrayRef) -> np.ndarray:
        if at.uri is None or not at.uri.startswith("artifact:"):
            raise InvalidInput(f"{at.uri} is none of ours")
        if at.digest not in self.store:
            raise FileNotFoundError(at.digest)
        return self.store[at.digest]

    def vote(self, voter: str, answer: Answer | None = None, **changes: Any) -> Vote:
        """The vote of ``voter`` for an answer (its own by default); a broken voter also ``changes`` what it says."""
        mean, log_var = answer or self.answers[voter]
        told = np.where(np.isfinite(mean), mean, np.float32(0))
        refs = (self.place(mean), self.place(log_var))
        made = make_vote(self.record, voter, told, refs=refs, request_id=REQUEST, request_digest=FIELD,
                         issued_at_ms=1_000, mask=self.mask)
        return made.model_copy(update=changes)

    def cast(self, voter: str, answer: Answer | None = None, *, signer: str | None = None, **changes: Any) -> VoteCast:
        envelope = sign_vote(self.vote(voter, answer, **changes), load_signer(self.folder, signer or voter))
        return self.said(voter, envelope=envelope.encode().decode())

    def said(self, voter: str, **words: Any) -> VoteCast:
        """What somebody put on the votes stream in the name of ``voter``."""
        return VoteCast(request_id=REQUEST, request_digest=FIELD, record=self.record.digest, voter=voter, **words)

    def casts(self) -> dict[str, VoteCast]:
        return {voter: self.cast(voter) for voter in self.record.voters}

    def collect(self, casts: Iterable[VoteCast]) -> Ballots:
        return collect(casts, keys=self.keys, record=self.record, request_id=REQUEST, request_digest=FIELD)

    def decide(
        self, casts: Iterable[VoteCast], answers: Mapping[str, Answer] | None = None, *, closed: bool = True
    ) -> Decision:
        """The decision; a voter's answer is what lies in the store under the digests it voted for, unless given."""
        ballots = self.collect(casts)
        read = {voter: Answer(self.store[vote.mean.digest], self.store[vote.log_var.digest])
                for voter, vote in ballots.votes.items() if vote.mean.digest in self.store}
        return decide(self.record, ballots, read | dict(answers or {}), mask=self.mask, closed=closed)

    def certificate(self, casts: Iterable[VoteCast], decision: Decision | None = None) -> bytes:
        casts = list(casts)
        made = decision or self.decide(casts)
        assert made.answer is not None
        return certify(
            made, self.collect(casts), self.record, request_id=REQUEST, request_digest=FIELD,
            mean=self.place(made.answer.mean), log_var=self.place(made.answer.log_var), account="ace-1",
            energy=Reading(mj=40, lo_mj=20, hi_mj=90, method="modelled", sensor="cpu-time"),
            keys=self.keys, tally=load_signer(self.folder, "tally"),
        )


@pytest.fixture(scope="session")
def key_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    init_keys(folder, [*(f"voter-{k}" for k in range(8)), "tally"])
    return folder


@pytest.fixture(scope="session")
def new_case(key_folder: Path):
    """``new_case(n, seed, size)``: a calibrated ensemble of n and one new request with honest answers."""
    root, keys = RootOfTrust.read(key_folder / "root.pub"), KeyRing.read(key_folder)
    records: dict[tuple[int, int], EnsembleRecord] = {}

    def make(n: int = 3, *, seed: int = 1, size: int = 16, inline: bool = True) -> Case:
        if (n, size) not in records:
            rule = calibrate_rule(*honest(100, n, 60, size), units=UNITS)
            weights = ObjectRef(uri="artifact:weights", digest=digest_of(b"weights"), bytes=7)
            members = tuple(Member(voter=f"voter-{k}", model_id=f"model:{k}", weights=weights) for k in range(n))
            records[n, size] = EnsembleRecord(domain="plasma_physics", members=members, rule=rule)
        means, log_vars, _ = honest(seed, n, 1, size)
        answers = {f"voter-{k}": Answer(means[k, 0], log_vars[k, 0]) for k in range(n)}
        return Case(key_folder, root, keys, records[n, size], answers, inline)

    return make


@pytest.fixture
def case(new_case) -> Case:
    """Three honest voters and a request."""
    return new_case(3)
