"""Heartbeats: which workers are there, and what they say of themselves and of the server's memory."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError

from nvp_agentkit.observability.pulse import Pulse
from nvp_agentkit.streams import names
from nvp_agentkit.streams.door import tell_memory

log = logging.getLogger(__name__)

TTL_S = 10
BEAT_S = 2.5  # three may be missed


@dataclass(frozen=True)
class WorkerState:
    """A worker's last word, at most `TTL_S` old. ``state``: starting, ready or draining.

    Several may have one ``name`` (its place in the stack, such as ``shadow-1``); ``instance`` tells them apart.
    It was said ``age_s`` seconds ago by the server's clock, at ``at_ms`` by the worker's own.
    """

    name: str
    instance: str
    kind: str
    state: str
    detail: str
    pid: int
    at_ms: int
    age_s: float


async def announce(redis: Redis, name: str, instance: str, kind: str, state: str, detail: str = "") -> None:
    """Say how this worker is; forgotten after `TTL_S`."""
    key = names.worker(name, instance)
    pipe = redis.pipeline()
    at_ms = str(time.time_ns() // 1_000_000)
    said = {"kind": kind, "state": state, "detail": detail[:500], "pid": str(os.getpid()), "at_ms": at_ms}
    for field, value in said.items():
        pipe.hset(key, field, value)
    pipe.expire(key, TTL_S)
    await pipe.execute()


async def keep_announcing(
    redis: Redis,
    name: str,
    instance: str,
    kind: str,
    current: Callable[[], tuple[str, str]],
    stop: asyncio.Event,
    *,
    pulse: Pulse | None = None,
) -> None:
    """Announce ``current()`` (state, detail) at each change and every `BEAT_S`, until ``stop``; then sign off.

    ``pulse`` is told as well, of what is so and of what the server has taken: for whoever asks over HTTP.
    """
    said, since, pulse = ("", ""), BEAT_S, pulse or Pulse()
    while not stop.is_set():
        now = current()
        pulse.says(*now)
        if now != said or since >= BEAT_S:
            try:
                await announce(redis, name, instance, kind, *now)
                await tell_memory(redis)
                said, since = now, 0.0
                pulse.taken()
            except RedisError as error:
                log.warning("heartbeat of %s not sent: %s", name, error)
        try:
            await asyncio.wait_for(stop.wait(), 0.25)
        except TimeoutError:
            since += 0.25
    pulse.says("draining", "")
    try:
        await redis.delete(names.worker(name, instance))
    except RedisError as error:
        log.warning("%s did not sign off: %s", name, error)


async def workers(redis: Redis) -> list[WorkerState]:
    """All workers that were heard of within `TTL_S`, by name and instance."""
    found: list[WorkerState] = []
    async for key in redis.scan_iter(match=names.WORKERS.replace("{", "\\{") + "*", count=1000):
        name, _, instance = key.decode().removeprefix(names.WORKERS).partition("@")
        if said := await _last_word(redis, name, instance):
            found.append(said)
    return sorted(found, key=lambda worker: (worker.name, worker.instance))


async def _last_word(redis: Redis, name: str, instance: str) -> WorkerState | None:
    pipe = redis.pipeline()
    pipe.hgetall(names.worker(name, instance))
    pipe.pttl(names.worker(name, instance))
    said, left_ms = await pipe.execute()
    fields = {field.decode(): value.decode() for field, value in said.items()}
    if not fields:
        return None
    return WorkerState(
        name,
        instance,
        fields["kind"],
        fields["state"],
        fields["detail"],
        int(fields["pid"]),
        at_ms=int(fields["at_ms"]),
        age_s=TTL_S - left_ms / 1000,
    )
