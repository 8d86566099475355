"""Jobs: train an ensemble, those on data (`datasets`) and hindcasts. One at a time, each under its joule budget."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from nvp_agentkit.ensemble import AgreementRule, EnsembleRecord, KeyRing, Member
from nvp_agentkit.errors import DigestMismatch, InvalidInput, StoreUnavailable, UnknownName
from nvp_agentkit.messages import (
    STARTER,
    HindcastSpec,
    JobCancelRequested,
    JobCompleted,
    JobProgressed,
    JobRequested,
    MemberReport,
    ObjectRef,
    ServiceChangeRequested,
    TrainSpec,
)
from nvp_agentkit.streams import Completion, Delivery, RedisError
from nvp_agentkit.streams.progress import report

from . import facts, joules, refusals
from .compute.front import Answer
from .jobs import cancelling, checkpoints, datasets, hindcasts, keeping
from .patience import patiently
from .process import Role, run_roles
from .requests import body
from .serving import promoting, registry
from .system import System, deadline_of

PART = "job"
log = structlog.get_logger()


async def answer(delivery: Delivery, system: System) -> Completion:
    """One job: reserve, run in the child, settle, keep what it made, register it."""
    spec = body(delivery, JobRequested).spec
    log.info("job begins", kind=spec.kind, domain=spec.domain, attempt=delivery.attempt)
    if isinstance(spec, HindcastSpec):
        hindcast = await hindcasts.answer(delivery, spec, system)
        return refusals.final_of_job(delivery.request_id, delivery.deadline, hindcast)
    with _scratch() as scratch:
        async with (
            joules.window(system, delivery, part=PART, parts=1) as energy,
            checkpoints.attempt(delivery, system) as attempt,
        ):
            await cancelling.require_wanted(delivery, system)
            done = await _done(delivery, spec, scratch, energy, attempt, system)
            reading = energy.charge(done.cost)
            run = facts.RunFacts(delivery, system.name, spec.kind, reading, done.values["environment"])
            seconds = (facts.now_ms() - delivery.received_ms) / 1000
            told = {"job_id": delivery.request_id, "kind": spec.kind, "energy": reading, "seconds": seconds}
            if isinstance(spec, TrainSpec):
                kept = await _keep_ensemble(delivery, spec, done, run, told, system)
            else:
                kept = await datasets.keep(delivery, spec, done, run, told, scratch / datasets.OUT, system)
            log.info("job done", kind=spec.kind, mj=reading.mj, seconds=round(seconds, 1))
            kept = refusals.final_of_job(delivery.request_id, delivery.deadline, kept)
            return kept._replace(fence=(delivery.request_id, attempt.fence))


async def _done(
    delivery: Delivery,
    spec: TrainSpec | datasets.OnData,
    scratch: Path,
    energy: joules.Window,
    attempt: checkpoints.Attempt,
    system: System,
) -> Answer:
    if not isinstance(spec, TrainSpec):
        return await _run(attempt, spec.kind, await datasets.parameters(spec, scratch, system), energy)
    params = await _parameters(delivery.account, spec, scratch, system)
    if spec.model is not None:
        return await _run(attempt, "train_foreign", params, energy)
    params |= {"left": await attempt.found(), "attempt": f"{delivery.request_id} {attempt.fence}"}
    return await _run(attempt, "train", params, energy, attempt.left)


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for one attempt.

    Raises:
        StoreUnavailable: this machine's disk has none to give.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="nvp-job-")
    except OSError as error:
        raise StoreUnavailable(f"no scratch folder for a job ({error}); make room there, or set TMPDIR") from error
    with folder as name:
        yield Path(name)


async def _parameters(account: str, spec: TrainSpec, scratch: Path, system: System) -> dict[str, Any]:
    _require_voters(spec.members, system)
    path = (await system.artifacts.local_path(spec.data)).resolve()
    asked = {name: getattr(spec, name) for name in ("members", "seed", "steps", "domain", "model")}
    parents, incumbent = await _parents(account, spec, system), await _incumbent(account, spec, system)
    return asked | {"path": str(path), "parents": parents, "incumbent": incumbent, "out": str(scratch)}


async def _incumbent(account: str, spec: TrainSpec, system: System) -> dict[str, Any] | None:
    """Who serves now, for the new ensemble to be compared with; None where nobody does."""
    standing = (await registry.service_of(system.redis, account, spec.domain)).at()
    if standing.champion is None:
        return None
    record = await registry.ensemble(system.redis, account, standing.champion)
    found = {"ensemble": record.digest, "units": record.rule and record.rule.units, "path": None, "why": ""}
    try:
        return found | {"path": str((await system.artifacts.local_path(record.champion.weights)).resolve())}
    except (DigestMismatch, UnknownName) as error:
        return found | {"why": str(error)}


async def _parents(account: str, spec: TrainSpec, system: System) -> list[str]:
    """Model files to go on from, the champion's first."""
    if spec.parent is None:
        return []
    if spec.model is not None:
        raise InvalidInput(f"model {spec.model!r} is a plug-in's, which goes on from nothing: leave `parent` away")
    if spec.parent == STARTER:
        return [STARTER] * spec.members
    record = await registry.called(system.redis, account, spec.parent, "parent")
    return [str((await system.artifacts.local_path(one.weights)).resolve()) for one in record.members]


def _require_voters(members: int, system: System) -> None:
    """Raises:
    InvalidInput: an ensemble in which too few could vote to ever agree.
    """
    voters = KeyRing.read(system.settings.keys_dir).names("voter")
    if members > len(voters):
        raise InvalidInput(
            f"{members} members, and {len(voters)} voters have keys in this deployment ({', '.join(voters)}): "
            f"ask for members={len(voters)} or fewer"
        )


async def _run(
    attempt: checkpoints.Attempt,
    kind: str,
    params: dict[str, Any],
    energy: joules.Window,
    on_left: Callable[[dict[str, Any]], None] = lambda left: None,
) -> Answer:
    """The computation in the child, its progress on the job's stream, stopped when nobody wants it any more."""
    delivery, system = attempt.delivery, attempt.system
    lines: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    def progressed(line: dict[str, Any]) -> None:
        energy.progressed(line["used_mj"])
        if "left" in line:
            on_left(line["left"])
        else:
            lines.put_nowait(line)

    telling = asyncio.create_task(_tell(attempt, lines, energy))
    granted = params | {
        "granted_mj": energy.share_mj,
        "margin_mj": energy.margin_mj,
        "watts_per_core": system.settings.watts_per_core,
    }
    try:
        async with cancelling.while_wanted(delivery, system), energy.kept_settled():
            return await system.child.call(
                kind,
                granted,
                deadline=deadline_of(delivery),
                on_progress=progressed,
                on_cost=energy.charge,
                too_much=energy.too_much,
            )
    finally:
        lines.put_nowait(None)
        await asyncio.gather(telling, return_exceptions=True)


async def _tell(
    attempt: checkpoints.Attempt, lines: asyncio.Queue[dict[str, Any] | None], energy: joules.Window
) -> None:
    """Publish the job's progress, while nobody has begun it since."""
    delivery, system = attempt.delivery, attempt.system
    while (line := await lines.get()) is not None:
        told = JobProgressed(
            job_id=delivery.request_id,
            granted_mj=energy.grant.granted_mj,
            **(line | {"used_mj": energy.before_mj + line["used_mj"]}),
        )
        try:
            event = system.event(told, delivery)
            await report(system.redis, delivery.account, delivery.request_id, event, fence=attempt.fence)
        except RedisError as error:
            log.warning("progress not told", job=delivery.request_id, reason=str(error))


async def _keep_ensemble(
    delivery: Delivery,
    spec: TrainSpec,
    done: Answer,
    run: facts.RunFacts,
    told: Mapping[str, Any],
    system: System,
) -> Completion:
    values = done.values
    data = run.used(spec.data)
    members, reports = [], []
    for place, member in enumerate(values["members"]):
        weights = await keeping.file(Path(member["path"]), system)
        members.append(Member(voter=member["voter"], model_id=member["model_id"], weights=weights))
        reports.append(_report(member, weights))
        run.configured(values["configs"][member["voter"]], member["seed"])
        run.made_model(
            weights,
            data,
            parent=member["parent"],
            domain=spec.domain,
            name=f"{spec.domain}/{member['voter']}",
            params=member["parameters"],
            metrics={"vrmse": member["vrmse"], "skill": member["skill"]} | _alike(place, values["error_correlation"]),
        )
    record = EnsembleRecord(
        domain=spec.domain,
        members=tuple(members),
        mask=await keeping.array(done.arrays[0], system) if done.arrays else None,
        frames=tuple(values["frames"]),
        rule=None if values["rule"] is None else AgreementRule.model_validate(values["rule"]),
    )
    placing = partial(promoting.place, delivery, record, values["beside"], system)
    stands = await patiently(delivery, placing, failed="ensemble not placed yet")
    reply = JobCompleted(
        members=tuple(reports),
        baselines=values["baselines"],
        summary={"ensemble": record.digest, **_summary(values), **stands.summary},
        **told,
    )
    done_with = keeping.completed(
        delivery, reply, run, system, fields=stands.fields, dated=stands.dated, unset=stands.unset
    )
    return done_with._replace(facts=(*done_with.facts, *(system.fact(one, delivery) for one in stands.facts)))


def _summary(values: dict[str, Any]) -> dict[str, float | int | str]:
    held_out = values["held_out"]
    return {
        "held_out_by": held_out["rule"],
        "held_out_trajectory": held_out["trajectory"],
        "held_out_frame": held_out["frame"],
        "context_frames": values["frames"][0],
        "units": values["units"],
        "stopped_by": values["stopped_by"] or "done",
        **{f"coverage_{level}": share for level, share in values["members"][0]["coverage"].items()},
        **values["members"][0]["totals"],
        **{f"error_correlation_{one}_{other}": found for one, other, found in values["error_correlation"]},
    }


def _alike(place: int, pairs: list[tuple[int, int, float]]) -> dict[str, float]:
    """How much, on average, a member errs as each other one does; nothing where there is no other."""
    found = [correlation for one, other, correlation in pairs if place in (one, other)]
    return {"error_correlation": statistics.fmean(found)} if found else {}


def _report(told: dict[str, Any], weights: ObjectRef) -> MemberReport:
    kept = ("voter", "model_id", "parameters", "seed", "width", "vrmse", "skill", "steps")
    return MemberReport(model=weights, **{name: told[name] for name in kept})


async def serve(system: System, stop: asyncio.Event) -> None:
    do = partial(answer, system=system)
    jobs = Role.each("jobs", "training", JobRequested, do, refusals.job, batch=1, before="urgent")
    back = partial(cancelling.take_back, system=system)
    cancels = Role.each("cancel", "training", JobCancelRequested, back, cancelling.not_taken)
    started = time.monotonic()
    await system.child.start()
    log.info("compute child ready", seconds=round(time.monotonic() - started, 2))
    change = partial(promoting.change, system=system)
    changes = Role.each("service", "training", ServiceChangeRequested, change, promoting.refuse)
    await run_roles(system, stop, [jobs, cancels, changes])
