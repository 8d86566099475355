"""Which consumers a place of a history runs, as the workers of that name do."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from benchmarks.simulator.plan import Plan
from benchmarks.simulator.work import Work
from nvp_agentkit.messages import JobCancelRequested, JobRequested, Payload, PredictionRequested, VoteCast
from nvp_agentkit.settings import VOTERS
from nvp_agentkit.streams import Consumer, one_by_one
from nvp_agentkit.workers import refusals, shadow, tally
from nvp_agentkit.workers.jobs import cancelling
from nvp_agentkit.workers.system import System

PROMPT_S = 0.02  # most work takes longer


async def serve(plan: Plan, place: int, system: System, work: Work, stop: asyncio.Event, teller: tally.Tally) -> None:
    """Until ``stop``: of a quorum the first places are voters, the others tallies."""

    def consumer(kind: str, group: str, accepts: type[Payload], handle: Any, refuse: Any, **more: Any) -> Consumer:
        return Consumer(
            system.redis,
            kind=kind,
            group=group,
            name=system.name,
            handle=one_by_one(handle),
            refuse=partial(refuse, system),
            accepts=(accepts,),
            batch=plan.batch,
            apart=True,
            lease_s=plan.lease_s,
            drain_timeout_s=plan.lease_s,
            **more,
        )

    beside = []
    match plan.kind:
        case "predict":
            several = {"hands": plan.hands, "prompt_s": PROMPT_S}
            roles = [
                consumer("predict", "inference", PredictionRequested, work.predict, refusals.prediction, **several)
            ]
        case "job":
            roles = [consumer("jobs", "training", JobRequested, work.job, refusals.job, before="urgent")]
            if any(message.cancel_s is not None for message in plan.messages):
                back = partial(cancelling.take_back, system=system)
                roles.append(consumer("cancel", "training", JobCancelRequested, back, cancelling.not_taken))
        case "quorum" if place < len(VOTERS):
            vote = partial(work.vote, voter=VOTERS[place])
            several = {"hands": plan.hands, "prompt_s": PROMPT_S}
            roles = [consumer("ensemble", VOTERS[place], PredictionRequested, vote, shadow.refuse, **several)]
        case "quorum":
            roles = [
                consumer("ensemble", "tally", PredictionRequested, teller.open, tally.refuse),
                consumer("votes", "tally", VoteCast, teller.count, tally.forget, unique=False),
            ]
            beside.append(teller.sweep(stop))
    async with asyncio.TaskGroup() as group:
        for running in (*(role.run(stop) for role in roles), *beside):
            group.create_task(running)
