"""Taking jobs back: those that wait are answered at once, those at work stop at their next step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from nvp_agentkit.client.job import FINALS
from nvp_agentkit.errors import Cancelled, NvpError
from nvp_agentkit.messages import JobCancelRequested, JobRefused, new_event
from nvp_agentkit.streams import Completion, Delivery, RedisError, answer
from nvp_agentkit.streams.cancelling import mark, marked

from ..refusals import final_of_job
from ..requests import body
from ..system import System

LOOK_S = 0.25  # between two looks at whether a job is wanted
PATIENCE_S = 5.0  # for a step to end, then its process is ended
log = structlog.get_logger()


async def take_back(delivery: Delivery, system: System) -> Completion:
    """Mark the job; where nobody has begun it, say that it is over.

    Whoever begins a job reserves its joules and then looks for the mark, and here the mark is set before its joules are
    looked for: one of both sees the other. Who has begun it answers it.
    """
    asked = body(delivery, JobCancelRequested)
    words = "cancelled by its asker" + (f": {asked.reason}" if asked.reason else "")
    await mark(system.redis, delivery, asked.job_id, words)
    log.info("job is wanted no more", account=delivery.account, job=asked.job_id)
    if await system.ledger.grant(delivery.account, asked.job_id) is not None:
        return Completion()
    if await answer(system.redis, delivery.account, asked.job_id, FINALS) is not None:
        return Completion()
    told = JobRefused(job_id=asked.job_id, code=Cancelled.code, detail=f"{words}, before it began")
    source = f"nvp:worker:{system.name}"
    done = Completion(replies=(new_event(told, source=source, replyto=asked.job_id),))
    return final_of_job(asked.job_id, delivery.deadline, done)


def not_taken(system: System, delivery: Delivery, error: NvpError) -> Completion:
    """Nobody waits for an answer to this: the job itself is answered."""
    log.warning("not cancelled", reason=str(error))
    return Completion()


async def require_wanted(delivery: Delivery, system: System) -> None:
    """Raises `Cancelled` where the job is wanted no more."""
    if (words := await marked(system.redis, delivery.account, delivery.request_id)) is not None:
        raise Cancelled(f"{words}, before it began")


@asynccontextmanager
async def while_wanted(delivery: Delivery, system: System) -> AsyncIterator[None]:
    """The call of the child inside is told to stop once the job is wanted no more, or another worker has it.

    Raises:
        Cancelled: it did not stop, so that its process was ended.
    """
    words: list[str] = []
    loop = asyncio.get_running_loop()

    async def stop() -> None:
        words.append(await _unwanted(delivery, system))
        patience.reschedule(loop.time() + PATIENCE_S)
        while True:  # a child that is only just starting does not hear it
            await system.child.interrupt(words[0])
            await asyncio.sleep(LOOK_S)

    try:
        async with asyncio.timeout(None) as patience:
            stopping = asyncio.create_task(stop())
            try:
                yield
            finally:
                stopping.cancel()
                await asyncio.gather(stopping, return_exceptions=True)
    except TimeoutError as error:
        if not patience.expired():
            raise
        raise Cancelled(f"{words[0]}; its step did not end within {PATIENCE_S:g} s and was cut off") from error


async def _unwanted(delivery: Delivery, system: System) -> str:
    """Why the work shall stop, once it shall."""
    while True:
        try:
            async with asyncio.timeout(LOOK_S):
                await delivery.lost.wait()
        except TimeoutError:
            try:
                words = await marked(system.redis, delivery.account, delivery.request_id)
            except RedisError:
                continue  # away: whoever is at work waits for it as well
            if words is not None:
                return words
        else:
            return "another worker has this job now"
