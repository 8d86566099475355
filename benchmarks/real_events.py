"""Real events of every type as agents and workers send them, and the ensemble that the votes are about."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Self

import numpy as np
from redis.asyncio import Redis

from nvp_agentkit import messages as m
from nvp_agentkit.artifacts import inline_array
from nvp_agentkit.ensemble import AgreementRule, EnsembleRecord, Member, Signer, load_signer, make_vote, sign_vote
from nvp_agentkit.messages.values import digest_of
from nvp_agentkit.settings import VOTERS, Settings
from nvp_agentkit.streams import Completion, emit
from nvp_agentkit.workers.serving import registry

DOMAIN, UNSERVED, SIDE = "plasma_physics", "alchemy", 16
BUDGET_MJ = 5000
SHARES = {
    "predict": 0.26, "ensemble": 0.1, "jobs": 0.09, "urgent": 0.03, "service": 0.08, "cancel": 0.1, "votes": 0.14,
    "lineage": 0.1, "": 0.1,
}  # fmt: skip
RULE = AgreementRule(units="J", spread=1.0, limit=0.5, peak_limit=2.0, variance_limit=1.0, budget_limit=0.5,
                     quantile=0.99, margin=1.5, pairs=9)  # fmt: skip
READING = m.Reading(mj=12, lo_mj=6, hi_mj=24, method="modelled", sensor="modelled")
FIELD = inline_array(np.sin(np.arange(2 * SIDE * SIDE, dtype=np.float32).reshape(2, SIDE, SIDE) / 40), "J")
OBJECT = m.ObjectRef(uri="artifact:nowhere", digest=digest_of(b"nowhere"), bytes=7)
FORECAST = m.PredictionRequested(domain=UNSERVED, field=FIELD, model="trivial:persistence")


class Events:
    """Draws events; votes are signed anew, three voters to a question."""

    def __init__(self, record: EnsembleRecord, signers: dict[str, Signer]) -> None:
        self._record, self._signers = record, signers
        self._votes = self._cast()

    @classmethod
    async def made(cls, redis: Redis, settings: Settings, account: str) -> Self:
        """With an ensemble in service whose weights nobody has."""
        members = tuple(Member(voter=voter, model_id=f"model:{OBJECT.digest}", weights=OBJECT) for voter in VOTERS)
        record = EnsembleRecord(domain=DOMAIN, members=members, rule=RULE, frames=(2, SIDE, SIDE))
        await emit(redis, account, Completion(fields=registry.registration(record)))
        return cls(record, {voter: load_signer(settings.keys_dir, voter) for voter in VOTERS})

    def draw(self, rng: random.Random) -> tuple[str, m.Event]:
        """A stream's suffix and an event of a kind that belongs there; of other kinds anywhere."""
        (suffix,) = rng.choices(list(SHARES), list(SHARES.values()))
        if suffix == "votes":
            return suffix, _event(next(self._votes))
        if suffix == "":
            return rng.choice(list(SHARES)[:-1]), _event(rng.choice(ANSWERS), replyto=f"fuzz-{rng.randrange(10**6)}")
        return suffix, _event(rng.choice(PAYLOADS[suffix]))

    def forecast(self) -> tuple[str, m.Event]:
        """A request that is answered with a forecast."""
        return "predict", _event(FORECAST)

    def _cast(self) -> Iterator[m.VoteCast]:
        mean = np.ones((SIDE, SIDE), np.float32)
        ref = inline_array(mean, "J")
        for number in itertools.count():
            request = f"question-{number}"
            for voter in VOTERS:
                said = make_vote(
                    self._record,
                    voter,
                    mean,
                    refs=(ref, ref),
                    request_id=request,
                    request_digest=FIELD.digest,
                    issued_at_ms=int(datetime.now(UTC).timestamp() * 1000),
                )
                about = {"request_id": request, "request_digest": FIELD.digest, "record": self._record.digest}
                envelope = sign_vote(said, self._signers[voter]).encode().decode()
                yield m.VoteCast(**about, voter=voter, envelope=envelope, energy=READING)
            yield m.VoteCast(**about, voter=VOTERS[0], failed="deadline_exceeded: too late")


def _event(payload: m.Payload, replyto: str | None = None) -> m.Event:
    deadline = datetime.now(UTC) + timedelta(seconds=30)
    return m.new_event(
        payload, source="nvp:agent:fuzz", subject=DOMAIN, deadline=deadline, budget_mj=BUDGET_MJ, replyto=replyto
    )


JOBS = tuple(m.JobRequested(spec=spec) for spec in (
    m.SimulateSpec(domain=UNSERVED),
    m.ImportSpec(domain=UNSERVED, source=OBJECT, filename="a.npz"),
    m.TrainSpec(domain=UNSERVED, data=OBJECT),
    m.JoinSpec(domain=UNSERVED, parts=(OBJECT, OBJECT)),
    m.EvaluateSpec(domain=UNSERVED, data=OBJECT),
    m.CheckSpec(domain=UNSERVED, data=OBJECT),
))  # fmt: skip
PAYLOADS: dict[str, tuple[m.Payload, ...]] = {
    "predict": (FORECAST, m.PredictionRequested(domain=UNSERVED, field=FIELD),
                m.PredictionRequested(domain=DOMAIN, field=FIELD, inline_answer=True)),
    "ensemble": (m.PredictionRequested(domain=DOMAIN, field=FIELD, assurance="quorum"),
                 m.PredictionRequested(domain=UNSERVED, field=FIELD, assurance="quorum")),
    "jobs": JOBS,
    "urgent": JOBS,
    "service": (m.ServiceChangeRequested(domain=UNSERVED, model="@challenger"),
                m.ServiceChangeRequested(domain=DOMAIN, model="@previous", reason="it errs"),
                m.ServiceChangeRequested(domain=DOMAIN, model=OBJECT.digest, share=0.1)),
    "cancel": (m.JobCancelRequested(job_id="fuzz-1", reason="no more"), m.JobCancelRequested(job_id="nobody's")),
    "lineage": (m.LineageRecorded(
        nodes=(m.NodeFact(label="Decision", id="decision:1", properties={"outcome": "refused", "quorum": 2}),
               m.NodeFact(label="Agent", id="agent:fuzz", properties={"name": "fuzz"})),
        edges=(m.EdgeFact(type="WAS_ASSOCIATED_WITH", from_label="Decision", from_id="decision:1", to_label="Agent",
                          to_id="agent:fuzz"),),
    ),),
}  # fmt: skip
ANSWERS: tuple[m.Payload, ...] = (
    m.PredictionCompleted(request_id="r", model_id="model:x", mean=FIELD, log_var=FIELD, energy=READING),
    m.PredictionCertified(request_id="r", mean=FIELD, log_var=FIELD, certificate=OBJECT, agreed=VOTERS, energy=READING),
    m.PredictionAbstained(request_id="r", reason="no quorum", votes={"voter-0": "missing"}, energy=READING),
    m.PredictionRefused(request_id="r", code="unknown_model", detail="none", retry_after_s=5.0),
    m.JobProgressed(job_id="j", phase="train", step=1, used_mj=1, granted_mj=2, method="modelled"),
    m.JobCompleted(job_id="j", kind="simulate", energy=READING, seconds=1.0, dataset=OBJECT, summary={"frames": 4}),
    m.JobRefused(job_id="j", code="budget_too_small", detail="too little", needed_mj=5),
    m.JobSuspended(job_id="j", reason="spent", energy=READING, checkpoint=OBJECT),
    m.JobFailed(job_id="j", code="compute_failed", detail="broken", energy=READING),
    m.ServiceChanged(request_id="r", domain=DOMAIN, champion=OBJECT.digest, warm=("shadow-1@a",)),
    m.ServiceChangeRefused(request_id="r", code="unknown_model", detail="none"),
)
