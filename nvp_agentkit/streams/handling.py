"""Calling a worker's handler so that whatever it does becomes one outcome per message."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, Self

from nvp_agentkit.errors import NvpError, StoreUnavailable
from nvp_agentkit.observability.about import about
from nvp_agentkit.streams.connect import AWAY
from nvp_agentkit.streams.delivery import Delivery
from nvp_agentkit.streams.verdict import Outcome

log = logging.getLogger(__name__)

TOGETHER_S = 0.02  # what is done so soon after the first of a batch is settled with it

Handle = Callable[[list[Delivery]], Awaitable[Sequence[Outcome]]]


def one_by_one(handle: Callable[[Delivery], Awaitable[Outcome]]) -> Handle:
    """A batch handler out of one for a single message; the messages of a batch run side by side."""

    async def alone(deliveries: list[Delivery]) -> Sequence[Outcome]:
        return [await handle(delivery) for delivery in deliveries]

    async def batch(deliveries: list[Delivery]) -> Sequence[Outcome]:
        if len(deliveries) == 1:
            return await alone(deliveries)
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


def defect(error: Exception, where: str) -> NvpError:
    """What is said of an error that nobody foresaw; its trace goes into the log."""
    log.error("failed on %s", where, exc_info=error)
    return NvpError(f"{type(error).__name__}: {error}; this is a defect, the worker's log has its trace")


@dataclass(frozen=True)
class Done:
    """What the handler said to some of a batch, whose leases are ``held`` until it is settled."""

    pairs: list[tuple[Delivery, Outcome]]
    held: ExitStack


class Batch:
    """Deliveries at work: in one call of their handler or, ``apart``, each in a call of its own.

    An asynchronous context: what is at work as it ends is cut off. ``holding`` keeps the leases of some.
    """

    def __init__(
        self,
        handle: Handle,
        deliveries: list[Delivery],
        holding: Callable[[list[Delivery]], AbstractContextManager[None]],
        *,
        apart: bool,
    ) -> None:
        self._at_work: dict[asyncio.Task[Sequence[Outcome]], tuple[list[Delivery], ExitStack]] = {}
        for some in [[one] for one in deliveries] if apart else [deliveries]:
            held = ExitStack()
            held.enter_context(holding(some))
            self._at_work[asyncio.create_task(outcomes_of(handle, some))] = some, held

    async def done(self, patience: asyncio.Task[None], until: float = math.inf) -> Done | None:
        """What is done next, and what else is soon after.

        None where nothing is at work, or nothing was done by ``until``, of the loop's clock, or as ``patience`` ended.
        """
        if not self._at_work:
            return None
        left_s = max(until - asyncio.get_running_loop().time(), 0.0)
        timeout = left_s if left_s < math.inf else None
        await asyncio.wait({*self._at_work, patience}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if any(task.done() for task in self._at_work):
            await asyncio.wait(self._at_work, timeout=TOGETHER_S)
        done = [task for task in self._at_work if task.done()]
        if not done:
            return None
        pairs: list[tuple[Delivery, Outcome]] = []
        leases = ExitStack()
        for task in done:
            deliveries, held = self._at_work.pop(task)
            leases.push(held)
            pairs += zip(deliveries, task.result(), strict=True)
        return Done(pairs, leases)

    @property
    def at_work(self) -> bool:
        return bool(self._at_work)

    async def cut_off(self) -> list[Delivery]:
        """End what is at work; whose leases are held until the context ends."""
        for task in self._at_work:
            task.cancel()
        await asyncio.gather(*self._at_work, return_exceptions=True)
        return [one for some, _ in self._at_work.values() for one in some]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut_off()
        for _some, held in self._at_work.values():
            held.close()
        self._at_work.clear()


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
