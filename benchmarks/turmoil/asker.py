"""Who asks: publishes on time, once more where that is asked for or no answer comes, and keeps what was accepted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from benchmarks.turmoil.child import POISON
from benchmarks.turmoil.schedule import Asked
from benchmarks.turmoil.stack import Stack
from nvp_agentkit.artifacts import Artifacts, inline_array
from nvp_agentkit.errors import StoreUnavailable
from nvp_agentkit.messages import CheckSpec, Event, JobRequested, ObjectRef, PredictionRequested, new_event
from nvp_agentkit.streams.replies import publish

ACCOUNT, DOMAIN = "turmoil", "plasma_physics"
BUDGET_MJ, SMALL_MJ = 20_000, 5
WITHIN = timedelta(minutes=10)  # far beyond what any of it takes
AGAIN_S = 0.2


class Asker:
    """`accepted`: request id -> its nature, of all that the store has said to have."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.accepted: dict[str, Asked] = {}
        self.junk = 0

    async def ask(self, requests: Sequence[Asked]) -> None:
        """All of ``requests``, each at its time."""
        data = await Artifacts.from_settings(self._stack.settings).put(b"a dataset")
        began = asyncio.get_running_loop().time()
        for number, request in enumerate(requests):
            await asyncio.sleep(began + request.at_s - asyncio.get_running_loop().time())
            event = _event(f"request-{number:05d}", request, data)
            for _ in range(2 if request.nature == "copied" else 1):
                await self._publish(request.kind, event)
            if request.nature == "junk":
                self.junk += 1
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


def _event(request_id: str, request: Asked, data: ObjectRef) -> Event:
    payload: Any = JobRequested(spec=CheckSpec(domain=DOMAIN, data=data))
    if request.kind == "predict":
        frame = np.full((16, 16), POISON if request.nature == "poison" else 1.0, np.float32)
        payload = PredictionRequested(domain=DOMAIN, field=inline_array(frame), model="trivial")
    event = new_event(
        payload,
        source="nvp:benchmark",
        id=request_id,
        subject=DOMAIN,
        deadline=datetime.now(UTC) + WITHIN,
        budget_mj=SMALL_MJ if request.nature == "too small" else BUDGET_MJ,
    )
    return event if request.nature != "junk" else event.model_copy(update={"specversion": "0.0"})
