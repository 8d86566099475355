"""Who asks: publishes on time, once more where that is asked for or no answer comes, and keeps what was accepted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from redis.asyncio import Redis

from benchmarks.real_events import RULE
from benchmarks.turmoil.child import POISON
from benchmarks.turmoil.schedule import Asked
from benchmarks.turmoil.stack import Stack
from nvp_agentkit.artifacts import Artifacts, inline_array
from nvp_agentkit.ensemble import EnsembleRecord, Member
from nvp_agentkit.errors import StoreUnavailable
from nvp_agentkit.messages import CheckSpec, Event, JobRequested, ObjectRef, PredictionRequested, new_event
from nvp_agentkit.settings import VOTERS
from nvp_agentkit.streams import Completion, emit
from nvp_agentkit.streams.replies import publish
from nvp_agentkit.workers.serving.registry import registration

ACCOUNT, DOMAIN = "turmoil", "plasma_physics"
BUDGET_MJ, SMALL_MJ = 20_000, 5
WITHIN = timedelta(minutes=10)  # far beyond what any of it takes
AGAIN_S = 0.2
SIDE = 16


class Asker:
    """`accepted`: request id -> its nature, of all that the store has said to have; `junk`: how much, by stream."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.accepted: dict[str, Asked] = {}
        self.junk: Counter[str] = Counter()

    async def ask(self, requests: Sequence[Asked]) -> None:
        """All of ``requests``, each at its time."""
        artifacts = Artifacts.from_settings(self._stack.settings)
        await _serve(self._stack.redis, artifacts)
        data = await artifacts.put(b"a dataset")
        began = asyncio.get_running_loop().time()
        for number, request in enumerate(requests):
            await asyncio.sleep(began + request.at_s - asyncio.get_running_loop().time())
            event = _event(number, request, data)
            for _ in range(2 if request.nature == "copied" else 1):
                await self._publish(request.kind, event)
            if request.nature == "junk":
                self.junk[request.kind] += 1
            else:
                self.accepted[event.id] = request

    async def _publish(self, suffix: str, event: Event) -> None:
        while True:
            try:
                await publish(self._stack.redis, ACCOUNT, suffix, event)
            except StoreUnavailable:
                await asyncio.sleep(AGAIN_S)
            else:
                return


async def _serve(redis: Redis, artifacts: Artifacts) -> None:
    """Put an ensemble into service; what its weights are the stub does not mind."""
    members = []
    for voter in VOTERS:
        weights = await artifacts.put(voter.encode())
        members.append(Member(voter=voter, model_id=f"model:{weights.digest}", weights=weights))
    record = EnsembleRecord(domain=DOMAIN, members=tuple(members), rule=RULE, frames=(1, SIDE, SIDE))
    await emit(redis, ACCOUNT, Completion(fields=registration(record)))


def _event(number: int, request: Asked, data: ObjectRef) -> Event:
    payload: Any = JobRequested(spec=CheckSpec(domain=DOMAIN, data=data))
    if request.kind != "jobs":
        value = POISON if request.nature == "poison" else 1 + number / 1000
        payload = PredictionRequested(
            domain=DOMAIN,
            field=inline_array(np.full((SIDE, SIDE), value, np.float32), RULE.units),
            model="trivial" if request.kind == "predict" else None,
            assurance="single" if request.kind == "predict" else "quorum",
        )
    event = new_event(
        payload,
        source="nvp:benchmark",
        id=f"request-{number:05d}",
        subject=DOMAIN,
        deadline=datetime.now(UTC) + WITHIN,
        budget_mj=SMALL_MJ if request.nature == "too small" else BUDGET_MJ,
    )
    return event if request.nature != "junk" else event.model_copy(update={"specversion": "0.0"})
