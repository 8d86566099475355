"""One composition root, shared by every worker and by tests: settings in, a connected system out."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from redis.asyncio import Redis

from nvp_agentkit.artifacts import Artifacts
from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.messages import Event, LineageRecorded, Payload, new_event
from nvp_agentkit.observability.tracing import current
from nvp_agentkit.settings import Settings, compute_environment
from nvp_agentkit.streams.connect import connect
from nvp_agentkit.streams.delivery import Delivery

from .compute.front import ComputeChild
from .metrics import Metrics

DEFAULT_DEADLINE_S = 3600.0  # of a message that names none


@dataclass(frozen=True)
class System:
    """What a use case may touch. ``name`` is the worker's, e.g. ``shadow-1``."""

    name: str
    settings: Settings
    redis: Redis
    artifacts: Artifacts
    ledger: Ledger
    child: ComputeChild
    metrics: Metrics = field(default_factory=Metrics)

    def event(self, payload: Payload, delivery: Delivery, *, reply: bool = False) -> Event:
        """``payload`` as this worker's event about ``delivery``; a reply's id follows from the request's."""
        request = delivery.event
        return new_event(
            payload,
            source=f"nvp:worker:{self.name}",
            subject=request.subject,
            replyto=request.id if reply else None,
            deadline=request.deadline,
            traceparent=current() or request.traceparent,
        )

    def fact(self, facts: LineageRecorded, delivery: Delivery) -> Event:
        """``facts`` for the graph. They have no deadline: what happened stays true, however late it is recorded."""
        request = delivery.event
        return new_event(
            facts,
            source=f"nvp:worker:{self.name}",
            subject=request.subject,
            traceparent=current() or request.traceparent,
        )


@asynccontextmanager
async def bootstrap(name: str, settings: Settings, metrics: Metrics | None = None) -> AsyncIterator[System]:
    """A connected system; the compute child starts when it is first asked for. ``metrics`` outlive it.

    Raises:
        StoreUnavailable: the stream server does not answer.
    """
    redis = await connect(settings)
    child = ComputeChild(compute_environment(settings))
    try:
        artifacts, ledger = Artifacts.from_settings(settings), Ledger(redis)
        yield System(name, settings, redis, artifacts, ledger, child, metrics or Metrics())
    finally:
        await child.close()
        await redis.aclose()


def deadline_of(delivery: Delivery) -> float:
    """When the answer stops being worth anything, Unix seconds."""
    return time.time() + DEFAULT_DEADLINE_S if delivery.deadline is None else delivery.deadline.timestamp()


def budget_of(delivery: Delivery) -> int:
    """The millijoules the request allows.

    Raises:
        InvalidInput: it names none.
    """
    if delivery.event.budget_mj is None:
        raise InvalidInput("no budget: every published request says what it may cost in `budgetmj`, millijoules")
    return delivery.event.budget_mj
