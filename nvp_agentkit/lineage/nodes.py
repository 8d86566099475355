"""Nodes of the graph: one builder a label, which says what makes a thing the same thing.

An id follows from content, so whoever records a thing again records nothing new. For that to hold the
properties must follow from the id: what differs between two recordings (a time, a place) belongs to the
`run` around the thing, not to the thing.
"""

from __future__ import annotations

from typing import Any, Literal

from nvp_agentkit.errors import UnknownName
from nvp_agentkit.lineage.vocabulary import checked_properties
from nvp_agentkit.messages import STARTER, DatasetSpec, NodeFact, ObjectRef, Reading
from nvp_agentkit.messages.values import canonical_json, digest_of

# First word of an id -> label, for what is named by its content.
KINDS = {
    "dataset": "DatasetVersion", "model": "ModelVersion", "config": "Config", "code": "CodeVersion",
    "environment": "Environment", "run": "Run", "metric": "MetricSeries", "energy": "EnergyReading",
    "decision": "Decision", "vote": "Vote", "batch": "PredictionBatch", "assertion": "Assertion",
    "trivial": "ModelVersion",
}

WHOLE = "all"  # the split of what is said of a whole dataset


def content_id(kind: str, content: object) -> str:
    """``kind:sha256:<hex>`` of the canonical JSON of ``content``."""
    return f"{kind}:{digest_of(canonical_json(content))}"


def label_of(id: str) -> str:
    """The label of the thing with this id.

    Raises:
        UnknownName: not an id of ours.
    """
    kind, _, rest = id.partition(":")
    if kind not in KINDS or not rest:
        raise UnknownName(f"{id[:80]!r} is no id of the lineage graph; ids look like `model:sha256:...`, "
                          f"and start with one of {', '.join(KINDS)}")
    return KINDS[kind]


def node(label: str, id: str, **properties: Any) -> NodeFact:
    """A node of ``label``; without properties it only names one that is described elsewhere.

    Raises:
        InvalidMessage: label, property or type that the vocabulary does not know.
    """
    fact = NodeFact(label=label, id=id, properties=properties)
    return NodeFact(label=label, id=id, properties=dict(checked_properties(fact)))


def dataset_version(
    ref: ObjectRef,
    *,
    domain: str | None = None,
    units: str | None = None,
    shape: tuple[int, ...] | None = None,
    dt_s: float | None = None,
    dx_m: float | None = None,
    variant: str | None = None,
) -> NodeFact:
    """Sequences, or a file they were read from, by the digest of the bytes."""
    return node("DatasetVersion", f"dataset:{ref.digest}", digest=ref.digest, uri=ref.uri, bytes=ref.bytes,
                domain=domain, units=units, shape=None if shape is None else list(shape), dt_s=dt_s, dx_m=dx_m,
                variant=variant)


def model_version(
    ref: ObjectRef, *, domain: str | None = None, name: str | None = None, params: int | None = None
) -> NodeFact:
    """A trained model by the digest of its weights and configuration. ``params`` counts parameters."""
    return node("ModelVersion", f"model:{ref.digest}", digest=ref.digest, uri=ref.uri, bytes=ref.bytes,
                domain=domain, name=name, params=params)


def trivial_forecaster(model_id: str) -> NodeFact:
    """A forecaster that was never trained, ``trivial:NAME``: its name says all there is to say of it."""
    return node("ModelVersion", model_id, name=model_id.partition(":")[2], params=0)


def starter_model(model_id: str) -> NodeFact:
    """The model that ships with the package, ``model:DIGEST``; trained by no job of anybody's."""
    return node("ModelVersion", model_id, digest=model_id.removeprefix("model:"), name=STARTER)


def config(content: dict[str, Any], *, seed: int | None = None) -> NodeFact:
    """What determined the numbers of a run: the canonical JSON of its configuration."""
    return node("Config", content_id("config", [content, seed]), json=canonical_json(content).decode(), seed=seed)


def asked(spec: DatasetSpec) -> NodeFact:
    """The configuration of a run that makes data: what was asked for, so that who asks again finds what was made.

    What was left open is left out: a choice that a later version offers changes no request that does not make it.
    """
    return config({name: _by_digest(value) for name, value in spec if value is not None})


def _by_digest(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_by_digest(one) for one in value]
    return value.digest if isinstance(value, ObjectRef) else value


def code_version(
    version: str, *, commit: str | None = None, dirty: bool | None = None, changes: str | None = None
) -> NodeFact:
    """The code that ran. ``changes`` is the digest of what was not committed."""
    properties = {"version": version, "commit": commit, "dirty": dirty, "changes": changes}
    return node("CodeVersion", content_id("code", properties), **properties)


def environment(
    *,
    python: str,
    platform: str,
    cpu: str | None = None,
    threads: int | None = None,
    image: str | None = None,
    jax: str | None = None,
    device: str | None = None,
) -> NodeFact:
    """Where it ran: interpreter, machine, versions that can change a result's last bits."""
    properties = {"python": python, "platform": platform, "cpu": cpu, "threads": threads, "image": image,
                  "jax": jax, "device": device}
    return node("Environment", content_id("environment", properties), **properties)


def run(
    account: str,
    job_id: str,
    *,
    attempt: int,
    kind: str,
    started_ms: int,
    ended_ms: int,
    outcome: Literal["completed", "refused", "failed"],
    reason: str | None = None,
    part: str = "",
) -> NodeFact:
    """One attempt at a job of ``account``. Recorded once, when it ended; ``reason`` where that was not well.

    A job that makes several models has a run for each (``part`` names the member), so that
    configuration, seed and joules are each model's own.
    """
    return node("Run", content_id("run", [account, job_id, attempt, part]), kind=kind, job_id=job_id, part=part,
                attempt=attempt, started_ms=started_ms, ended_ms=ended_ms, outcome=outcome, reason=reason)


def metric_series(
    run: NodeFact,
    model: NodeFact | None,
    *,
    name: str,
    split: str,
    last: float,
    unit: str = "1",
    n: int = 1,
    best: float | None = None,
    best_step: int | None = None,
    ref: ObjectRef | None = None,
) -> NodeFact:
    """How a metric went in a run, for one model of it. The values themselves are an array at ``ref``."""
    return node("MetricSeries", content_id("metric", [run.id, model and model.id, name, split]),
                name=name, split=split, unit=unit, n=n, last=last, best=last if best is None else best,
                best_step=best_step, uri=ref and ref.uri, digest=ref and ref.digest)


def energy_reading(activity: NodeFact, reading: Reading, *, phase: str, at_ms: int | None = None) -> NodeFact:
    """Joules that ``activity`` (a run, decision or vote) used in ``phase``, by one sensor."""
    return node("EnergyReading", content_id("energy", [activity.id, phase, reading.sensor]),
                phase=phase, at_ms=at_ms, **reading.model_dump())


def energy_account(account: str, *, limit_mj: int | None = None, owner: str | None = None) -> NodeFact:
    """Who pays. ``limit_mj`` is the limit it was opened with; the live balance is the ledger's."""
    return node("EnergyAccount", account, limit_mj=limit_mj, owner=owner)


def agent(name: str, kind: Literal["ace", "socratic", "shadow", "worker", "person"]) -> NodeFact:
    """Who acts. The kind is part of the id, so an account named like a voter is not that voter."""
    return node("Agent", f"{kind}:{name}", name=name, kind=kind)


def decision(
    account: str,
    request_id: str,
    *,
    outcome: Literal["single", "cached", "certified", "abstained", "refused"],
    at_ms: int,
    again: int = 0,
    quorum: int | None = None,
    rule: str | None = None,
    reason: str | None = None,
    domain: str | None = None,
    field_digest: str | None = None,
    value_digest: str | None = None,
    certificate: ObjectRef | None = None,
) -> NodeFact:
    """How a request of ``account`` was answered. ``quorum`` is how many votes had to agree.

    A request that was answered and then replayed after ``again`` attempts has a decision for each answer.
    """
    return node("Decision", decision_id(account, request_id, again), request_id=request_id, outcome=outcome,
                at_ms=at_ms, quorum=quorum, rule=rule, reason=reason, domain=domain, field_digest=field_digest,
                value_digest=value_digest, certificate=certificate and certificate.digest,
                certificate_uri=certificate and certificate.uri)


def decision_id(account: str, request_id: str, again: int = 0) -> str:
    """A request id is the client's choice, so it is unique within its account only."""
    return content_id("decision", [account, request_id, again] if again else [account, request_id])


def vote(
    account: str,
    request_id: str,
    voter: str,
    *,
    at_ms: int | None = None,
    value_digest: str | None = None,
    dissent: bool | None = None,
    signature: str | None = None,
) -> NodeFact:
    """One voter's answer. The tally may add ``dissent`` later; what was said stays as it was said."""
    return node("Vote", content_id("vote", [account, request_id, voter]), voter=voter, at_ms=at_ms,
                value_digest=value_digest, dissent=dissent, signature=signature)


def prediction_batch(
    model: NodeFact, worker: str, *, from_ms: int, to_ms: int, n: int, energy: Reading, votes: int = 0,
    dissents: int = 0, ref: ObjectRef | None = None
) -> NodeFact:
    """A minute of one model's predictions in one worker, recorded when it is sealed."""
    return node("PredictionBatch", content_id("batch", [model.id, worker, from_ms // 60_000]), n=n, from_ms=from_ms,
                to_ms=to_ms, mj=energy.mj, method=energy.method, votes=votes, dissents=dissents,
                uri=ref and ref.uri, digest=ref and ref.digest)


def assertion(
    about: NodeFact, predicate: str, value: str, *, valid_from_ms: int, recorded_ms: int, reason: str
) -> NodeFact:
    """Something said about a thing that may be said otherwise later: a stage, a taint, its retraction."""
    content = [about.label, about.id, predicate, value, valid_from_ms, recorded_ms, reason]
    return node("Assertion", content_id("assertion", content), predicate=predicate, value=value,
                valid_from_ms=valid_from_ms, recorded_ms=recorded_ms, reason=reason)
