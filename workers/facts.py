"""What happened, as facts for the graph: which nodes and relationships a use case leaves behind."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Literal

from nvp_agentkit.ensemble import Decision as QuorumDecision
from nvp_agentkit.ensemble import EnsembleRecord, Vote
from nvp_agentkit.ensemble.service import Change
from nvp_agentkit.lineage import code, edges, nodes
from nvp_agentkit.messages import (
    STARTER,
    TRIVIAL,
    ArrayRef,
    DatasetSpec,
    LineageRecorded,
    NodeFact,
    ObjectRef,
    PredictionCompleted,
    PredictionRequested,
    Reading,
)
from nvp_agentkit.streams.delivery import Delivery


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def asker(account: str) -> NodeFact:
    """The agent behind an account."""
    return nodes.agent(account, "ace")


def _charge(facts: edges.Facts, activity: NodeFact, account: str, reading: Reading, phase: str) -> None:
    spent = facts.add(nodes.energy_reading(activity, reading, phase=phase, at_ms=now_ms()))
    facts.link(edges.metered(activity, spent), edges.charged_to(spent, facts.add(nodes.energy_account(account))))


def _run(
    facts: edges.Facts,
    delivery: Delivery,
    worker: str,
    kind: str,
    outcome: Literal["completed", "refused", "failed"],
    energy: Reading | None,
    reason: str | None = None,
) -> NodeFact:
    """An attempt at a job: whose, how it ended, at what cost."""
    run = facts.add(
        nodes.run(
            delivery.account,
            delivery.request_id,
            attempt=delivery.earlier + delivery.attempt,
            kind=kind,
            started_ms=delivery.received_ms,
            ended_ms=now_ms(),
            outcome=outcome,
            reason=reason,
        )
    )
    facts.link(
        edges.was_associated_with(run, facts.add(nodes.agent(worker, "worker"))),
        edges.was_associated_with(run, facts.add(asker(delivery.account))),
        edges.used(run, facts.add(code.running_code())),
    )
    if energy is not None:
        _charge(facts, run, delivery.account, energy, kind)
    return run


def ended_badly(
    delivery: Delivery,
    worker: str,
    kind: str,
    outcome: Literal["refused", "failed"],
    *,
    reason: str,
    energy: Reading | None,
) -> LineageRecorded:
    """A job that made nothing."""
    facts = edges.Facts()
    _run(facts, delivery, worker, kind, outcome, energy, reason)
    return facts.bundle()


class RunFacts:
    """A job that made something: who, from what, at what cost."""

    def __init__(self, delivery: Delivery, worker: str, kind: str, energy: Reading, env: dict[str, str]) -> None:
        self._facts = edges.Facts()
        self.run = _run(self._facts, delivery, worker, kind, "completed", energy)
        self._facts.link(edges.used(self.run, self._facts.add(code.running_environment(**env))))

    def configured(self, content: dict[str, Any], seed: int) -> None:
        self._facts.link(edges.used(self.run, self._facts.add(nodes.config(content, seed=seed))))

    def used(self, ref: ObjectRef) -> NodeFact:
        data = self._facts.add(nodes.dataset_version(ref))
        self._facts.link(edges.used(self.run, data))
        return data

    def used_model(self, model_id: str) -> None:
        self._facts.link(edges.used(self.run, nodes.node("ModelVersion", model_id)))

    def was_asked(self, spec: DatasetSpec) -> None:
        self._facts.link(edges.used(self.run, self._facts.add(nodes.asked(spec))))

    def made_dataset(self, ref: ObjectRef, sources: Iterable[NodeFact], **known: Any) -> None:
        """``known``: as `nodes.dataset_version` names it; ``sources``: the datasets it was joined from."""
        data = self._facts.add(nodes.dataset_version(ref, **known))
        self._facts.link(edges.was_generated_by(data, self.run))
        self._facts.link(*(edges.was_derived_from(data, source) for source in sources))

    def looked(self, name: str, values: ArrayRef | None, *, last: float, unit: str) -> None:
        """What the run's dataset looks like: a number, or a series of them."""
        ref = None if values is None else ObjectRef(uri=str(values.uri), digest=values.digest, bytes=values.nbytes)
        n = 1 if values is None else values.cells
        series = nodes.metric_series(self.run, None, name=name, split=nodes.WHOLE, last=last, unit=unit, n=n, ref=ref)
        self._facts.link(edges.was_generated_by(self._facts.add(series), self.run))

    def judged(self, forecaster: str, metrics: dict[str, float]) -> None:
        """How a trivial forecaster did on held-out data."""
        self._metrics(self._facts.add(nodes.trivial_forecaster(f"{TRIVIAL}:{forecaster}")), metrics)

    def made_model(
        self,
        ref: ObjectRef,
        data: NodeFact,
        *,
        parent: str | None,
        domain: str,
        name: str,
        params: int,
        metrics: dict[str, float],
    ) -> None:
        model = self._facts.add(nodes.model_version(ref, domain=domain, name=name, params=params))
        self._facts.link(edges.was_generated_by(model, self.run), edges.was_derived_from(model, data))
        if parent is not None:
            source = nodes.node("ModelVersion", parent)
            self._facts.link(edges.used(self.run, source), edges.was_derived_from(model, source))
        self._metrics(model, metrics)

    def _metrics(self, model: NodeFact, metrics: dict[str, float]) -> None:
        for metric, value in metrics.items():
            series = self._facts.add(nodes.metric_series(self.run, model, name=metric, split="test", last=value))
            self._facts.link(edges.was_generated_by(series, self.run), edges.evaluates(series, model))

    def bundle(self) -> LineageRecorded:
        return self._facts.bundle()


def placed(account: str, record: EnsembleRecord, change: Change) -> LineageRecorded:
    """An ensemble that serves from now on, or stands beside who does: said of its champion, and by whom."""
    facts, at_ms = edges.Facts(), now_ms()
    model = nodes.node("ModelVersion", record.champion.model_id)
    where, over = f"{change.place} of {account}/{record.domain}", f" over {change.over}" if change.over else ""
    share = f", {100 * change.share:g}% of the requests" if change.share else ""
    reason = f"{change.why}{share}{over}; ensemble {record.digest}, by {change.by}"
    said = facts.add(
        nodes.assertion(model, "stage", where, valid_from_ms=at_ms, recorded_ms=at_ms, reason=reason)
    )
    facts.link(edges.about(said, model), edges.was_attributed_to(said, facts.add(asker(account))))
    return facts.bundle()


def single_answer(delivery: Delivery, request: PredictionRequested, reply: PredictionCompleted) -> LineageRecorded:
    """A request that one model answered, now or when another request asked the same."""
    facts = edges.Facts()
    decision = facts.add(
        nodes.decision(
            delivery.account,
            delivery.request_id,
            again=delivery.earlier,
            outcome="cached" if reply.cached else "single",
            at_ms=now_ms(),
            reason=f"the answer to request {reply.cached}" if reply.cached else None,
            domain=request.domain,
            field_digest=request.field.digest,
            value_digest=reply.mean.digest,
        )
    )
    model_id = reply.model_id
    model = nodes.node("ModelVersion", model_id)
    if model_id.startswith(f"{TRIVIAL}:"):  # no training has recorded it
        model = facts.add(nodes.trivial_forecaster(model_id))
    elif request.model == STARTER:  # neither this one
        model = facts.add(nodes.starter_model(model_id))
    facts.link(
        edges.was_attributed_to(decision, facts.add(asker(delivery.account))),
        edges.was_derived_from(decision, model),
    )
    if not reply.cached:
        _charge(facts, decision, delivery.account, reply.energy, "predict")
    return facts.bundle()


def cast_vote(account: str, vote: Vote, signature: str, energy: Reading) -> LineageRecorded:
    """A voter's answer, as it was signed; who paid for it is the account that asked."""
    facts = edges.Facts()
    cast = facts.add(
        nodes.vote(
            account,
            vote.request_id,
            vote.voter,
            at_ms=vote.issued_at_ms,
            value_digest=vote.mean.digest,
            signature=signature,
        )
    )
    decision = nodes.node("Decision", nodes.decision_id(account, vote.request_id))
    facts.link(
        edges.vote_in(cast, decision),
        edges.was_attributed_to(cast, facts.add(nodes.agent(vote.voter, "shadow"))),
        edges.was_derived_from(cast, nodes.node("ModelVersion", vote.model_id)),
    )
    _charge(facts, cast, account, energy, "vote")
    return facts.bundle()


def decided(
    account: str,
    request_id: str,
    record: EnsembleRecord,
    decision: QuorumDecision,
    *,
    tally: str,
    field_digest: str,
    value_digest: str | None,
    certificate: ObjectRef | None,
) -> LineageRecorded:
    """How a quorum request ended; which votes agreed and which dissented."""
    facts = edges.Facts()
    node = facts.add(
        nodes.decision(
            account,
            request_id,
            outcome="certified" if certificate else "abstained",
            at_ms=now_ms(),
            quorum=decision.quorum,
            rule=record.rule.digest if record.rule else None,
            reason=decision.reason,
            domain=record.domain,
            field_digest=field_digest,
            value_digest=value_digest,
            certificate=certificate,
        )
    )
    facts.link(
        edges.was_attributed_to(node, facts.add(asker(account))),
        edges.was_associated_with(node, facts.add(nodes.agent(tally, "worker"))),
    )
    for voter in (*decision.agreed, *decision.dissent):
        vote = facts.add(nodes.vote(account, request_id, voter, dissent=voter in decision.dissent))
        facts.link(edges.vote_in(vote, node))
    return facts.bundle()


def judged(account: str, request_id: str, voter: str, dissent: bool) -> LineageRecorded:
    """What the tally says of a vote that came after the decision."""
    facts = edges.Facts()
    facts.add(nodes.vote(account, request_id, voter, dissent=dissent))
    return facts.bundle()


def unjudged(account: str, request_id: str, reason: str) -> LineageRecorded:
    """A quorum request whose votes nobody could judge."""
    facts = edges.Facts()
    node = facts.add(nodes.decision(account, request_id, outcome="abstained", at_ms=now_ms(), reason=reason))
    facts.link(edges.was_attributed_to(node, facts.add(asker(account))))
    return facts.bundle()


def refused(delivery: Delivery, *, domain: str | None, reason: str, energy: Reading | None) -> LineageRecorded:
    """A request that was told no, and what was used before."""
    facts = edges.Facts()
    decision = facts.add(
        nodes.decision(
            delivery.account,
            delivery.request_id,
            again=delivery.earlier,
            outcome="refused",
            at_ms=now_ms(),
            reason=reason,
            domain=domain,
        )
    )
    facts.link(edges.was_attributed_to(decision, facts.add(asker(delivery.account))))
    if energy is not None:
        _charge(facts, decision, delivery.account, energy, "predict")
    return facts.bundle()
