"""Calling a worker's handler so that whatever it does becomes one outcome per message."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from nvp_agentkit.errors import NvpError, StoreUnavailable
from nvp_agentkit.observability.about import about
from nvp_agentkit.streams.connect import AWAY
from nvp_agentkit.streams.delivery import Delivery
from nvp_agentkit.streams.verdict import Outcome

log = logging.getLogger(__name__)

Handle = Callable[[list[Delivery]], Awaitable[Sequence[Outcome]]]


def one_by_one(handle: Callable[[Delivery], Awaitable[Outcome]]) -> Handle:
    """A batch handler out of one for a single message; the messages of a batch run side by side."""

    async def alone(deliveries: list[Delivery]) -> Sequence[Outcome]:
        return [await handle(delivery) for delivery in deliveries]

    async def batch(deliveries: list[Delivery]) -> Sequence[Outcome]:
        outcomes = await asyncio.gather(*(outcomes_of(alone, [delivery]) for delivery in deliveries))
        return [outcome for (outcome,) in outcomes]

    return batch


async def outcomes_of(handle: Handle, deliveries: list[Delivery]) -> Sequence[Outcome]:
    """What ``handle`` says to each message, an exception being said to all.

    A batch that fails for good is tried once more message by message, so that one bad message never hurts
    the others in its batch.
    """
    try:
        outcomes = await handle(deliveries)
        if len(outcomes) == len(deliveries):
            return outcomes
        failed = NvpError(f"handler gave {len(outcomes)} outcomes for {len(deliveries)} messages; this is a defect")
    except NvpError as error:
        failed = error
    except AWAY as error:
        failed = StoreUnavailable(f"a store went away during the work: {error}")
    except Exception as error:  # noqa: BLE001 - it becomes an answer and a dead letter, never a dead worker
        with about(deliveries[0].ids if len(deliveries) == 1 else {}):
            failed = defect(error, ", ".join(f"{one.account}/{one.request_id}" for one in deliveries))
    if failed.retryable or len(deliveries) == 1:
        return [failed] * len(deliveries)
    return [(await outcomes_of(handle, [delivery]))[0] for delivery in deliveries]


async def is_slow(handling: asyncio.Task[Sequence[Outcome]], prompt_s: float, patience: asyncio.Task[None]) -> bool:
    """Whether it is still at work after ``prompt_s``, or as ``patience`` ends."""
    try:
        await asyncio.wait({handling, patience}, timeout=prompt_s, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        handling.cancel()
        await asyncio.gather(handling, return_exceptions=True)
        raise
    return not handling.done()


async def ended(handling: asyncio.Task[Sequence[Outcome]], patience: asyncio.Task[None]) -> Sequence[Outcome] | None:
    """What it says; None when it was still at work as ``patience`` ended, and was cut off."""
    try:
        await asyncio.wait({handling, patience}, return_when=asyncio.FIRST_COMPLETED)
        return handling.result() if handling.done() else None
    finally:
        if not handling.done():
            handling.cancel()
            await asyncio.gather(handling, return_exceptions=True)


def defect(error: Exception, where: str) -> NvpError:
    """What is said of an error that nobody foresaw; its trace goes into the log."""
    log.error("failed on %s", where, exc_info=error)
    return NvpError(f"{type(error).__name__}: {error}; this is a defect, the worker's log has its trace")


class Slow:
    """Batches that take long, at work beside the next ones."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()

    def begin(self, batch: Coroutine[Any, Any, None]) -> None:
        self.tasks.add(asyncio.create_task(batch))

    async def at_most(self, count: int, patience: asyncio.Task[None]) -> None:
        """Wait until no more than that are left, or ``patience`` ends. What one failed by is raised."""
        while True:
            for done in [one for one in self.tasks if one.done()]:
                self.tasks.remove(done)
                done.result()
            if len(self.tasks) <= count or patience.done():
                return
            await asyncio.wait({*self.tasks, patience}, return_when=asyncio.FIRST_COMPLETED)
