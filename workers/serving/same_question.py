"""One question, one computation: who asks what is at work waits for that, who asks it again is told what was said.

A question is a field by its digest, put to one model. An answer is good for another request of the same account as long
as replies are kept; it is marked with the request that it was computed for, and costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis

from nvp_agentkit.errors import DeadlineExceeded
from nvp_agentkit.messages import PredictionCompleted, PredictionRequested
from nvp_agentkit.messages.envelope import TYPE_OF
from nvp_agentkit.messages.values import canonical_json, digest_of
from nvp_agentkit.streams import Delivery, answer, names

ANSWERED_BY = "request"
Compute = Callable[[], Awaitable[PredictionCompleted]]


def question(request: PredictionRequested, *, ensemble: str, model_id: str, units: str) -> str:
    """What decides the answer, as one digest: who answers, and the field in its units."""
    field = request.field
    return digest_of(canonical_json([ensemble, model_id, field.digest, field.shape, field.dtype, units]))


def remembered(asked: str, by: str) -> tuple[tuple[str, str, str], ...]:
    """That request ``by`` has the answer to ``asked``: for `Completion.fields`, to be true once the answer is sent."""
    return ((_suffix(asked), ANSWERED_BY, by),)


class Questions:
    """What one worker is being asked at the moment. Two workers may compute the same at the same time."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._at_work: dict[tuple[str, str], asyncio.Future[PredictionCompleted]] = {}

    async def once(self, delivery: Delivery, asked: str, compute: Compute) -> PredictionCompleted:
        """What ``compute`` gives, unless somebody has that answer, or is about to.

        Whoever waits for another's answer and sees that fail (its budget may have been too small) computes it.

        Raises:
            DeadlineExceeded: the other one is still at it.
        """
        key = delivery.account, asked
        while (others := self._at_work.get(key)) is not None:
            done, _ = await asyncio.wait([others], timeout=max(delivery.remaining_s, 0.0))
            if not done:
                raise DeadlineExceeded("the same question is being answered, and took longer; allow more time")
            if not others.cancelled():
                return _again(others.result(), delivery.request_id)
        mine = self._at_work[key] = asyncio.get_running_loop().create_future()
        try:
            if told := await self._told(delivery.account, asked):
                told = _again(told, delivery.request_id)
            else:
                told = await compute()
            mine.set_result(told)
        except BaseException:
            mine.cancel()
            raise
        finally:
            del self._at_work[key]
        return told

    async def _told(self, account: str, asked: str) -> PredictionCompleted | None:
        """An earlier request's answer that is still kept."""
        earlier: Any = await self._redis.hget(names.key(account, _suffix(asked)), ANSWERED_BY)
        if earlier is None:
            return None
        event = await answer(self._redis, account, earlier.decode(), [TYPE_OF[PredictionCompleted]])
        payload = None if event is None else event.payload
        return payload if isinstance(payload, PredictionCompleted) else None


def _suffix(asked: str) -> str:
    return f"same:{asked}"


def _again(told: PredictionCompleted, request_id: str) -> PredictionCompleted:
    if told.request_id == request_id:
        return told  # of another entry of that request: a server that lost its last writes delivers it as new
    nothing = told.energy.model_copy(update={"mj": 0, "lo_mj": 0, "hi_mj": 0, "cpu_ms": 0})
    origin = told.cached or told.request_id
    return told.model_copy(update={"request_id": request_id, "cached": origin, "energy": nothing})
