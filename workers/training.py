"""Jobs: make data, take in data, train an ensemble. One at a time, each under its joule budget."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import structlog

from nvp_agentkit.ensemble import AgreementRule, EnsembleRecord, KeyRing, Member
from nvp_agentkit.errors import InvalidInput, ResultNotKept, StoreUnavailable
from nvp_agentkit.messages import (
    ArrayRef,
    ImportSpec,
    JobCompleted,
    JobProgressed,
    JobRequested,
    MemberReport,
    ObjectRef,
    Reading,
    SimulateSpec,
    TrainSpec,
)
from nvp_agentkit.streams import Completion, Delivery, RedisError
from nvp_agentkit.streams.progress import report

from . import facts, joules, refusals, registry
from .compute.front import Answer
from .process import Role, run_roles
from .requests import body
from .system import System, deadline_of

SAFETENSORS = "application/vnd.safetensors"
PART = "job"
KEEP_WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0)
Ref = TypeVar("Ref", ObjectRef, ArrayRef)
log = structlog.get_logger()


async def answer(delivery: Delivery, system: System) -> Completion:
    """One job: reserve, run in the child, settle, keep what it made, register it."""
    spec = body(delivery, JobRequested).spec
    with _scratch() as scratch:
        async with joules.window(system, delivery, part=PART, parts=1) as energy:
            params = await _parameters(spec, scratch, system)
            done = await _run(delivery, spec.kind, params, energy, system)
            reading = energy.charge(done.cost)
            run = facts.RunFacts(delivery, system.name, spec.kind, reading, done.values["environment"])
            seconds = (facts.now_ms() - delivery.received_ms) / 1000
            match spec:
                case TrainSpec():
                    return await _keep_ensemble(delivery, spec, done, run, reading, seconds, system)
                case SimulateSpec() | ImportSpec():
                    return await _keep_dataset(delivery, spec, done, run, reading, seconds, Path(params["out"]), system)


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


async def _parameters(spec: SimulateSpec | ImportSpec | TrainSpec, scratch: Path, system: System) -> dict[str, Any]:
    """What the operation needs, with every reference a local file."""
    asked = spec.model_dump(mode="json", exclude={"kind", "source", "data", "filename"})
    match spec:
        case SimulateSpec():
            return asked | {"out": str(scratch / "data.safetensors")}
        case ImportSpec():
            path = scratch / "source"  # the name is the user's and touches no path; the first bytes say which reader
            path.symlink_to((await system.artifacts.local_path(spec.source)).resolve())
            return asked | {"path": str(path), "out": str(scratch / "data.safetensors")}
        case TrainSpec():
            _require_voters(spec.members, system)
            path = (await system.artifacts.local_path(spec.data)).resolve()
            return asked | {"path": str(path), "out": str(scratch)}


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


async def _run(delivery: Delivery, kind: str, params: dict[str, Any], energy: joules.Window, system: System) -> Answer:
    """The computation in the child, its progress on the job's stream, stopped when the lease goes to another."""
    lines: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    def progressed(line: dict[str, Any]) -> None:
        energy.progressed(line["used_mj"])
        lines.put_nowait(line)

    telling = asyncio.create_task(_tell(delivery, lines, energy, system))
    watching = asyncio.create_task(_stop_when_lost(delivery, system))
    granted = params | {
        "granted_mj": energy.share_mj,
        "margin_mj": energy.margin_mj,
        "watts_per_core": system.settings.watts_per_core,
    }
    try:
        async with energy.kept_settled():
            return await system.child.call(
                kind,
                granted,
                deadline=deadline_of(delivery),
                on_progress=progressed,
                on_cost=energy.charge,
                too_much=energy.too_much,
            )
    finally:
        watching.cancel()
        lines.put_nowait(None)
        await asyncio.gather(telling, watching, return_exceptions=True)


async def _tell(
    delivery: Delivery, lines: asyncio.Queue[dict[str, Any] | None], energy: joules.Window, system: System
) -> None:
    """Publish the job's progress."""
    while (line := await lines.get()) is not None:
        told = JobProgressed(
            job_id=delivery.request_id,
            granted_mj=energy.grant.granted_mj,
            **(line | {"used_mj": energy.before_mj + line["used_mj"]}),
        )
        try:
            await report(system.redis, delivery.account, delivery.request_id, system.event(told, delivery))
        except RedisError as error:
            log.warning("progress not told", job=delivery.request_id, reason=str(error))


async def _stop_when_lost(delivery: Delivery, system: System) -> None:
    await delivery.lost.wait()
    await system.child.interrupt("another worker has this job now")


async def _keep_dataset(
    delivery: Delivery,
    spec: SimulateSpec | ImportSpec,
    done: Answer,
    run: facts.RunFacts,
    reading: Reading,
    seconds: float,
    path: Path,
    system: System,
) -> Completion:
    about = done.values["about"]
    ref = await _kept(partial(_file, path, system))
    if isinstance(spec, SimulateSpec):
        run.configured(done.values["meta"]["provenance"] | {"domain": spec.domain}, spec.seed)
    else:
        run.used(spec.source)
    shape = (about["trajectories"], about["frames"], about["height"], about["width"])
    run.made_dataset(ref, domain=spec.domain, units=about["units"], shape=shape)
    reply = JobCompleted(
        job_id=delivery.request_id, kind=spec.kind, energy=reading, seconds=seconds, dataset=ref, summary=about
    )
    return _completed(delivery, reply, run, (), system)


async def _keep_ensemble(
    delivery: Delivery,
    spec: TrainSpec,
    done: Answer,
    run: facts.RunFacts,
    reading: Reading,
    seconds: float,
    system: System,
) -> Completion:
    values = done.values
    data = run.used(spec.data)
    members, reports = [], []
    for told in values["members"]:
        weights = await _kept(partial(_file, Path(told["path"]), system))
        members.append(Member(voter=told["voter"], model_id=told["model_id"], weights=weights))
        reports.append(_report(told, weights))
        run.configured(values["configs"][told["voter"]], told["seed"])
        run.made_model(
            weights,
            data,
            domain=spec.domain,
            name=f"{spec.domain}/{told['voter']}",
            params=told["parameters"],
            metrics={"vrmse": told["vrmse"], "skill": told["skill"]},
        )
    record = EnsembleRecord(
        domain=spec.domain,
        members=tuple(members),
        mask=await _mask(done, system),
        frames=tuple(values["frames"]),
        rule=None if values["rule"] is None else AgreementRule.model_validate(values["rule"]),
    )
    reply = JobCompleted(
        job_id=delivery.request_id,
        kind="train",
        energy=reading,
        seconds=seconds,
        members=tuple(reports),
        baselines=values["baselines"],
        summary={"ensemble": record.digest, **_summary(values)},
    )
    return _completed(delivery, reply, run, registry.registration(record), system)


def _summary(values: dict[str, Any]) -> dict[str, float | int | str]:
    held_out = values["held_out"]
    return {
        "held_out_by": held_out["rule"],
        "held_out_trajectory": held_out["trajectory"],
        "held_out_frame": held_out["frame"],
        "units": values["units"],
        "stopped_by": values["stopped_by"] or "done",
        **{f"coverage_{level}": share for level, share in values["members"][0]["coverage"].items()},
    }


def _report(told: dict[str, Any], weights: ObjectRef) -> MemberReport:
    kept = ("voter", "model_id", "parameters", "seed", "width", "vrmse", "skill", "steps")
    return MemberReport(model=weights, **{name: told[name] for name in kept})


async def _kept(put: Callable[[], Awaitable[Ref]]) -> Ref:
    """Put away what the child made, with patience: it was paid for, and a new attempt would be paid for again.

    Raises:
        ResultNotKept: the artifact store takes nothing, and would not after another such job either.
    """
    waits_s = iter(KEEP_WAITS_S)
    while True:
        try:
            return await put()
        except StoreUnavailable as error:
            wait_s = next(waits_s, None)
            if wait_s is None:
                raise ResultNotKept(f"done, but the result cannot be kept: {error}") from error
            log.warning("result not kept yet", reason=str(error))
        await asyncio.sleep(wait_s)


async def _file(path: Path, system: System) -> ObjectRef:
    with path.open("rb") as file:
        return await system.artifacts.put_file(file, SAFETENSORS)


async def _mask(done: Answer, system: System) -> ArrayRef | None:
    if not done.arrays:
        return None
    return await _kept(partial(system.artifacts.put_array, done.arrays[0].astype(np.float32)))


def _completed(
    delivery: Delivery,
    reply: JobCompleted,
    run: facts.RunFacts,
    fields: tuple[tuple[str, str, str], ...],
    system: System,
) -> Completion:
    return Completion(
        replies=(system.event(reply, delivery, reply=True),),
        facts=(system.fact(run.bundle(), delivery),),
        fields=fields,
    )


async def serve(system: System, stop: asyncio.Event) -> None:
    role = Role.each("jobs", "training", JobRequested, partial(answer, system=system), refusals.job, batch=1)
    started = time.monotonic()
    await system.child.start()
    log.info("compute child ready", seconds=round(time.monotonic() - started, 2))
    await run_roles(system, stop, [role])
