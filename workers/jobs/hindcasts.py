"""Forecasts from a whole dataset, part by part: what is done is kept, and gone on from by whoever comes next."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog

from nvp_agentkit.energy.budget import StepCost, may_continue
from nvp_agentkit.ensemble import EnsembleRecord, Member
from nvp_agentkit.ensemble.service import alias_of
from nvp_agentkit.errors import UnknownModel
from nvp_agentkit.messages import HindcastSpec, JobCompleted, JobProgressed
from nvp_agentkit.messages.hindcasts import Manifest
from nvp_agentkit.messages.predictions import names_ensemble
from nvp_agentkit.streams import Completion, Delivery, RedisError
from nvp_agentkit.streams.progress import report

from .. import facts, joules
from ..compute.cost import Cost
from ..compute.front import Answer
from ..serving import registry
from ..system import System, deadline_of
from . import cancelling, keeping, parts
from .plans import Price, judged_every, planned

PART = "job"
TOLD_EVERY_S = 0.25
SLOWER = 1.5  # times the last part: so long the next one may take
log = structlog.get_logger()


async def answer(delivery: Delivery, spec: HindcastSpec, system: System) -> Completion:
    """One hindcast, or as much of it as its joules and its deadline allow."""
    async with joules.window(system, delivery, part=PART, parts=1) as energy:
        await cancelling.require_wanted(delivery, system)
        record, member = await _model(delivery, spec, system)
        run = _Run(delivery, system, energy)
        sources = {
            "path": str((await system.artifacts.local_path(spec.data)).resolve()),
            "source": str((await system.artifacts.local_path(member.weights)).resolve()),
        }
        async with cancelling.while_wanted(delivery, system), energy.kept_settled():
            survey = (await run.call("survey", sources, watched=False)).values  # after which it is refused in words
            fresh = planned(spec, record, member, survey["about"], survey["context"])
            price = Price.of(fresh, system.settings.watts_per_core)
            kept = await parts.attempt(delivery, fresh, system)
            stopped_by = await _go_on(spec, sources, kept, price, run)
        reading = energy.charge(run.cost)
        story = facts.RunFacts(delivery, system.name, spec.kind, reading, survey["environment"])
        story.used(spec.data)
        story.used_model(member.model_id)
        reply = JobCompleted(
            job_id=delivery.request_id,
            kind=spec.kind,
            energy=reading,
            seconds=(facts.now_ms() - delivery.received_ms) / 1000,
            manifest=await kept.hand_out(),
            summary={"stopped_by": stopped_by or "done", **summary(kept.manifest)},
        )
        done = keeping.completed(delivery, reply, story, system)
        log.info("hindcast ends", work=fresh.work, parts=len(kept.manifest.parts), mj=reading.mj)
        return done._replace(fence=(fresh.work, kept.fence))


async def _model(delivery: Delivery, spec: HindcastSpec, system: System) -> tuple[EnsembleRecord, Member]:
    """Who forecasts: by what stood when the job was published, for whichever attempt asks. No trial has a share in it.

    Raises:
        UnknownModel: the account has no such ensemble or member.
    """
    redis, account, domain = system.redis, delivery.account, spec.domain
    standing = (await registry.service_of(redis, account, domain)).at(registry.asked_at(delivery))
    if spec.model is not None and not names_ensemble(spec.model):
        for record in await registry.all_of(redis, account):
            for member in record.members:
                if (record.domain, member.model_id) == (domain, spec.model):
                    return record, member
        raise UnknownModel(f"model {spec.model!r} is no member of an ensemble that {account} has for {domain}")
    alias = "champion" if spec.model is None else alias_of(spec.model, domain)
    digest = spec.model if alias is None else standing.called(alias)
    if digest is None and standing.champion is not None:
        raise UnknownModel(f"{domain} has no {alias}; `nvp models list` shows what there is")
    if digest is None:
        raise registry.no_model(account, domain, await registry.domains(redis, account))
    record = await registry.ensemble(redis, account, digest)
    if record.domain != domain:
        raise UnknownModel(f"{spec.model} is an ensemble of {record.domain}; ask for that domain")
    return record, record.champion


@dataclass
class _Run:
    """The calls of one attempt, on one bill."""

    delivery: Delivery
    system: System
    energy: joules.Window
    cost: Cost = field(default_factory=Cost)

    async def call(self, op: str, params: dict[str, Any], *, watched: bool = True) -> Answer:
        """``watched``: ended where it would cost too much."""
        before, before_mj, energy = self.cost, self.energy.used_mj, self.energy

        def spent(cost: Cost) -> None:
            self.cost = before + cost
            energy.charge(self.cost)

        return await self.system.child.call(
            op,
            params | {"watts_per_core": self.system.settings.watts_per_core},
            deadline=deadline_of(self.delivery),
            on_progress=lambda line: energy.progressed(before_mj + line["used_mj"]),
            on_cost=spent,
            too_much=(lambda cost: energy.too_much(before + cost)) if watched else None,
        )


async def _go_on(spec: HindcastSpec, sources: dict[str, str], kept: parts.Parts, price: Price, run: _Run) -> str | None:
    """Do what is left; why it stopped before the end, or None."""
    energy, left = run.energy, kept.manifest.parts_in_all - len(kept.manifest.parts)
    if not left:
        run.cost = Cost()  # of finding that out: nobody's
        return None
    step, reserve_mj = StepCost(forecast_mj=price.part_mj), energy.margin_mj + price.opening_mj
    wanted = 1 if spec.partial else left
    least_mj = math.ceil(energy.used_mj + reserve_mj + step.bound_mj)
    energy.afford(max(price.mj(wanted), least_mj), f"a hindcast, {wanted} of {kept.manifest.parts_in_all} parts,")
    story = _Story(run, kept)
    await story.tell()
    while not kept.manifest.done:
        if not may_continue(energy.used_mj, step, reserve_mj, energy.share_mj):
            return "budget_exhausted"
        if story.part_s and time.time() + SLOWER * story.part_s > deadline_of(run.delivery):
            return "deadline_exceeded"
        before_mj = energy.used_mj
        with story.timed():
            await _part(sources, kept, run)
        if reserve_mj > energy.margin_mj:
            reserve_mj = energy.margin_mj  # the first one has also compiled
        else:
            step.add(energy.used_mj - before_mj)
        await story.tell()
    return None


async def _part(sources: dict[str, str], kept: parts.Parts, run: _Run) -> None:
    """The next one, computed and put away."""
    work = kept.manifest
    trajectory, first, size = work.place(len(work.parts))
    before = trajectory * work.starts + first
    judged = [place for place in range(size) if (before + place) % judged_every(work) == 0]
    asked = {
        "trajectory": trajectory, "frames": [work.frame(first + place) for place in range(size)],
        "steps": work.steps, "together": work.together, "judged": judged,
    }  # fmt: skip
    done = await run.call("hindcast", sources | asked)
    await kept.add(done.arrays, done.values, len(judged))


class _Story:
    """What is told of the job's progress, and how long a part takes."""

    def __init__(self, run: _Run, kept: parts.Parts) -> None:
        self._run, self._kept = run, kept
        self._last_s = 0.0
        self._parts = 0
        self._began_s = time.monotonic()
        self.part_s = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        began_s = time.monotonic()
        yield
        self.part_s = time.monotonic() - began_s
        self._parts += 1

    async def tell(self) -> None:
        work, now_s, energy = self._kept.manifest, time.monotonic(), self._run.energy
        done = len(work.parts)
        if not work.done and now_s - self._last_s < TOLD_EVERY_S:
            return
        self._last_s = now_s
        skill = next(work.skill(), None)
        line = JobProgressed(
            job_id=self._run.delivery.request_id,
            phase="hindcasting",
            step=done,
            steps=work.parts_in_all,
            used_mj=energy.before_mj + energy.used_mj,
            granted_mj=energy.grant.granted_mj,
            method="modelled",
            skill=None if skill is None else skill.over_best,
            baseline=None if skill is None else skill.best,
            eta_s=self._eta_s(work.parts_in_all - done),
            note=f"goes on from part {done}" if done and not self._parts else None,
        )
        delivery, system = self._run.delivery, self._run.system
        try:
            event, fence = system.event(line, delivery), self._kept.fence
            await report(system.redis, delivery.account, delivery.request_id, event, fence=fence, work=work.work)
        except RedisError as error:
            log.warning("progress not told", job=delivery.request_id, reason=str(error))

    def _eta_s(self, left: int) -> float | None:
        return round(left * (time.monotonic() - self._began_s) / self._parts, 1) if self._parts else None


def summary(work: Manifest) -> dict[str, float | int | str]:
    """A hindcast in short: how much of it is there, and its skill at lead times of powers of two and the last."""
    told: dict[str, float | int | str] = {
        "model": work.model, "ensemble": work.ensemble, "work": work.work, "steps": work.steps, "every": work.every,
        "starts": work.trajectories * work.starts, "parts": len(work.parts), "parts_in_all": work.parts_in_all,
        "judged": work.judged,
    }  # fmt: skip
    for one in work.skill():
        if one.lead == work.steps or one.lead & (one.lead - 1) == 0:
            told |= {
                f"vrmse_{one.lead}": one.vrmse,
                f"skill_over_persistence_{one.lead}": one.over_persistence,
                f"skill_over_best_{one.lead}": one.over_best,
                f"best_{one.lead}": one.best,
            }
    return told
