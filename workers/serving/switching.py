"""Warm before the switch: who is about to serve is announced, its voters load it beside what serves, and say so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from nvp_agentkit.ensemble import EnsembleRecord
from nvp_agentkit.streams import names
from nvp_agentkit.streams.health import workers

from ..system import System
from . import registry
from .resolving import voter_of

WAIT_S = 45.0  # for voters to become warm: three compile another grid at once in half of it, on two busy cores
LOOK_S = 0.25
SAID_S = 120  # how long it is kept what a voter has said
VOTING = ("inference", "shadow", "saboteur")  # kinds of workers


@dataclass(frozen=True)
class Warmth:
    """Workers that have an ensemble compiled, those that were not waited for longer, and who cannot load it."""

    warm: tuple[str, ...] = ()
    cold: tuple[str, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{len(self.warm)} workers had it compiled" + (
            f", {', '.join(self.cold)} did not within {WAIT_S:g} s" if self.cold else ""
        )


async def warmed(system: System, account: str, record: EnsembleRecord, *, limit_s: float = WAIT_S) -> Warmth:
    """Have every running voter of ``record`` load it; wait for that, but not longer than ``limit_s``.

    Raises:
        RedisError: what they say cannot be heard.
    """
    redis, until = system.redis, time.monotonic() + limit_s
    candidate = f"{registry.CANDIDATE}{record.digest}"
    await redis.hset(names.key(account, registry.SUFFIX), candidate, record.model_dump_json())
    try:
        while (found := await _warmth(redis, account, record)).cold and time.monotonic() < until:
            if found.broken:
                break
            await asyncio.sleep(LOOK_S)
    finally:
        await redis.hdel(names.key(account, registry.SUFFIX), candidate)
    return found


async def _warmth(redis: Redis, account: str, record: EnsembleRecord) -> Warmth:
    running = {
        f"{one.name}@{one.instance}"
        for one in await workers(redis)
        if one.kind in VOTING and voter_of(one.name) in record.voters
    }
    raw: Any = await redis.hgetall(_key(account, record.digest))
    said = {name.decode(): why.decode() for name, why in raw.items() if name.decode() in running}
    warm = sorted(name for name, why in said.items() if not why)
    return Warmth(tuple(warm), tuple(sorted(running - said.keys())), {one: why for one, why in said.items() if why})


async def say(system: System, account: str, digest: str, why_not: str = "") -> None:
    """This worker has that ensemble compiled, or why it cannot."""
    pipe = system.redis.pipeline()
    pipe.hset(_key(account, digest), f"{system.name}@{system.settings.instance}", why_not)
    pipe.expire(_key(account, digest), SAID_S)
    await pipe.execute()


def _key(account: str, digest: str) -> str:
    return names.key(account, f"warm:{digest}")
