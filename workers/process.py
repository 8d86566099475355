"""A worker's life: its consumers beside each other, a heartbeat that says what they say, an orderly end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from structlog.contextvars import bound_contextvars

from nvp_agentkit.errors import NvpError
from nvp_agentkit.messages import Payload
from nvp_agentkit.observability import tracing
from nvp_agentkit.streams import Completion, Consumer, Delivery, Handle, Outcome, one_by_one
from nvp_agentkit.streams.consumer import DELIVERIES
from nvp_agentkit.streams.door import most_waiting
from nvp_agentkit.streams.health import keep_announcing

from .system import System

BATCH = 16  # messages of a batch
HANDS = 4  # batches of forecasts at a time: three may wait for shapes that are compiled, and the next ones go on


@dataclass(frozen=True)
class Role:
    """One place in one group: which streams, what is accepted, what is done, how it is refused.

    Not ``unique`` are messages that may well be handled twice: see `Consumer`, for ``max_deliveries``, ``before``,
    ``hands`` and ``apart`` too.
    """

    suffix: str
    group: str
    accepts: type[Payload]
    handle: Handle
    refuse: Callable[[System, Delivery, NvpError], Completion]
    batch: int = BATCH
    unique: bool = True
    max_deliveries: float = DELIVERIES
    before: str = ""
    hands: int = 1
    apart: bool = False

    @classmethod
    def each(
        cls,
        suffix: str,
        group: str,
        accepts: type[Payload],
        answer: Callable[[Delivery], Awaitable[Completion]],
        refuse: Callable[[System, Delivery, NvpError], Completion],
        *,
        batch: int = BATCH,
        unique: bool = True,
        before: str = "",
        hands: int = 1,
    ) -> Role:
        """A role whose messages are answered one by one, beside each other within a batch.

        Each is a span below the one that its message names; whatever is logged meanwhile carries the ids.
        """

        async def named(delivery: Delivery) -> Completion:
            said = delivery.event.traceparent
            with (
                bound_contextvars(**delivery.ids),
                tracing.span(f"answer {suffix}", "CONSUMER", parent=said, links=(), **_about(delivery, group)),
            ):
                return await answer(delivery)

        return cls(
            suffix, group, accepts, one_by_one(named), refuse, batch, unique, before=before, hands=hands, apart=True
        )


def _about(delivery: Delivery, group: str) -> dict[str, str | int]:
    """A span's attributes, by the conventions for messaging."""
    return {
        "messaging__system": "redis",
        "messaging__destination__name": delivery.stream,
        "messaging__consumer__group__name": group,
        "messaging__message__id": delivery.request_id,
        "nvp__account": delivery.account,
        "nvp__attempt": delivery.earlier + delivery.attempt,
    }


def _traced(role: Role) -> Handle:
    """The handler of ``role``; of a batch in a span of its own, with a link to the span of each message in it."""
    if role.apart:
        return role.handle

    async def traced(deliveries: list[Delivery]) -> Sequence[Outcome]:
        links = [delivery.event.traceparent for delivery in deliveries]
        with tracing.span(f"process {role.suffix}", "CONSUMER", links=links, nvp__messages=len(deliveries)):
            return await role.handle(deliveries)

    return traced


def _consumer(system: System, role: Role) -> Consumer:
    return Consumer(
        system.redis,
        kind=role.suffix,
        before=role.before,
        group=role.group,
        name=f"{system.name}@{system.settings.instance}",
        handle=system.metrics.timed(role.suffix, role.group, _traced(role)),
        refuse=partial(role.refuse, system),
        accepts=(role.accepts,),
        unique=role.unique,
        batch=role.batch,
        hands=role.hands,
        apart=role.apart,
        max_deliveries=role.max_deliveries,
        lease_s=system.settings.lease_s,
        drain_timeout_s=system.settings.drain_timeout_s,
        most_waiting=most_waiting(role.suffix),
    )


async def run_roles(
    system: System,
    stop: asyncio.Event,
    roles: Sequence[Role],
    *,
    beside: Sequence[Coroutine[Any, Any, None]] = (),
    readiness: Callable[[], tuple[str, str]] = lambda: ("ready", ""),
) -> None:
    """Run ``roles`` until ``stop``, with ``beside``: loops that end at ``stop``, or are ended once nothing is in hand.

    The worker is ready when ``readiness`` and every consumer say so.
    """
    consumers = [_consumer(system, role) for role in roles]
    watched = [(role.suffix, role.group, one) for role, one in zip(roles, consumers, strict=True)]
    system.metrics.watch(watched, lambda: system.child.generation)

    def state() -> tuple[str, str]:
        return next(((one.state, one.detail) for one in consumers if one.state != "ready"), readiness())

    name, at = system.name, system.settings
    heartbeat = keep_announcing(
        system.redis,
        name,
        at.instance,
        name.partition("-")[0],
        state,
        stop,
        pulse=system.metrics.pulse,
    )
    sampling = [] if at.metrics_port is None else [system.metrics.keep_sampling(system.redis, stop)]
    async with asyncio.TaskGroup() as group:
        for job in (heartbeat, *sampling):
            group.create_task(job)
        others = [group.create_task(job) for job in beside]
        await asyncio.wait([group.create_task(consumer.run(stop)) for consumer in consumers])
        for other in others:
            other.cancel()  # a model that it loads for later may take a minute
