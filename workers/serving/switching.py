"""Warm before the switch, one at a time: who is about to serve is announced, its voters load it, and say so."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from nvp_agentkit.ensemble import EnsembleRecord
from nvp_agentkit.errors import NotReady
from nvp_agentkit.streams import Delivery, names
from nvp_agentkit.streams.health import workers

from ..system import System
from . import registry
from .registry import Changing
from .resolving import voter_of

WAIT_S = 45.0  # for voters to become warm: three compile another grid at once in half of it, on two busy cores
LOOK_S = 0.25
SAID_S = 120  # how long it is kept what a voter has said
KEPT_S = WAIT_S + 15.0  # how long a change is under way that nobody ends, for its worker died
VOTING = ("inference", "shadow", "saboteur")  # kinds of workers


@dataclass(frozen=True)
class Warmth:
    """Workers that have an ensemble compiled, those that were not waited for longer, and who cannot load it."""

    warm: tuple[str, ...] = ()
    cold: tuple[str, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{len(self.warm)} workers had it compiled"

    @property
    def nobody(self) -> bool:
        """No voter of it runs."""
        return not (self.warm or self.cold or self.broken)


@dataclass
class Switch:
    """The one change of a domain's service that is under way. What voters say to it is heard by no other."""

    redis: Redis
    account: str
    domain: str
    by: str
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    _written: str = ""
    _ends_with_completion: bool = False

    def ending(self) -> tuple[tuple[str, str, str], ...]:
        """For `Completion.unset`: it ends in the moment from which on it holds, and not before."""
        self._ends_with_completion = True
        return ((registry.SUFFIX, registry.changing(self.domain), self._written),)

    async def begin(self) -> None:
        """
        Raises:
            NotReady: another one is under way.
        """
        await self.redis.transaction(self._take, self._key)

    async def announce(self, record: EnsembleRecord) -> None:
        """Have voters load ``record``, until the change ends.

        Raises:
            NotReady: another attempt has it by now, or it took too long.
        """
        await self.redis.transaction(partial(self._name, record), self._key)

    async def end(self) -> None:
        """Unless its completion does, or another attempt has it by now."""
        if not self._ends_with_completion:
            await self.redis.transaction(self._let_go, self._key)

    async def _take(self, pipe: Pipeline) -> None:
        found = await registry.under_way(self.redis, self.account, self.domain)
        if found is not None and found.by != self.by:
            raise NotReady(
                f"a change of {self.domain} by request {found.by} is under way; ask again when that is answered, "
                f"or in {KEPT_S:g} s"
            )
        await self._write(pipe)

    async def _name(self, record: EnsembleRecord, pipe: Pipeline) -> None:
        if not await self._is_mine():
            raise NotReady(
                f"this attempt at a change of {self.domain} began over {KEPT_S:g} s ago, or another one goes on with "
                "it; nothing was changed, ask again"
            )
        await self._write(pipe, record)

    async def _let_go(self, pipe: Pipeline) -> None:
        mine = await self._is_mine()
        pipe.multi()  # type: ignore[no-untyped-call]
        if mine:
            pipe.hdel(self._key, registry.changing(self.domain))

    async def _is_mine(self) -> bool:
        found = await registry.under_way(self.redis, self.account, self.domain)
        return found is not None and found.token == self.token

    async def _write(self, pipe: Pipeline, record: EnsembleRecord | None = None) -> None:
        seconds, micros = await self.redis.time()
        until_ms = 1000 * seconds + micros // 1000 + round(1000 * KEPT_S)
        said = Changing(by=self.by, token=self.token, until_ms=until_ms, record=record)
        self._written = said.model_dump_json()
        pipe.multi()  # type: ignore[no-untyped-call]
        pipe.hset(self._key, registry.changing(self.domain), self._written)

    @property
    def _key(self) -> str:
        return names.key(self.account, registry.SUFFIX)


@asynccontextmanager
async def alone(system: System, delivery: Delivery, domain: str) -> AsyncIterator[Switch]:
    """Change the service of ``domain`` as the only one who does, from what stands now to `Switch.ending`.

    Raises:
        NotReady: another change is under way.
    """
    switch = Switch(system.redis, delivery.account, domain, delivery.request_id)
    await switch.begin()
    try:
        yield switch
    finally:
        await switch.end()


async def warmed(switch: Switch, record: EnsembleRecord, *, limit_s: float = WAIT_S) -> Warmth:
    """Have every running voter of ``record`` load it; wait for that, but not longer than ``limit_s``.

    Raises:
        RedisError: what they say cannot be heard.
    """
    until = time.monotonic() + limit_s
    await switch.announce(record)
    while (found := await _warmth(switch, record)).cold and time.monotonic() < until:
        if found.broken:
            break
        await asyncio.sleep(LOOK_S)
    return found


async def _warmth(switch: Switch, record: EnsembleRecord) -> Warmth:
    running = {
        f"{one.name}@{one.instance}"
        for one in await workers(switch.redis)
        if one.kind in VOTING and voter_of(one.name) in record.voters
    }
    raw: Any = await switch.redis.hgetall(_key(switch.account, switch.token))
    said = {name.decode(): why.decode() for name, why in raw.items() if name.decode() in running}
    warm = sorted(name for name, why in said.items() if not why)
    return Warmth(tuple(warm), tuple(sorted(running - said.keys())), {one: why for one, why in said.items() if why})


async def say(system: System, account: str, token: str, why_not: str = "") -> None:
    """This worker has compiled what the change with that ``token`` is about, or why it cannot."""
    pipe = system.redis.pipeline()
    pipe.hset(_key(account, token), f"{system.name}@{system.settings.instance}", why_not)
    pipe.expire(_key(account, token), SAID_S)
    await pipe.execute()


def _key(account: str, token: str) -> str:
    return names.key(account, f"warm:{token}")
