"""What a voter keeps ready before anybody asks, at nobody's cost: of what serves, is on trial, is about to serve."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import structlog

from nvp_agentkit.ensemble import EnsembleRecord
from nvp_agentkit.errors import NvpError
from nvp_agentkit.streams import AWAY, RedisError, known

from ..rounds import every
from ..system import System
from . import registry, switching
from .resolving import Resolver, Served, Starter
from .warm import MODELS_KEPT, Shape, WarmModels

BATCH_SIZES = (1, 4)  # a batch is padded up to one of these; both are compiled before a model counts as ready
ALONE = (1,)  # where it is nobody's duty to be ready
LOOK_EVERY_S = 1.0  # for ensembles that came into service since, or are about to
log = structlog.get_logger()


@dataclass
class _Round:
    """One look at all accounts."""

    loaded: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)


class Duty:
    """Loads and warms what comes into service, so that the first request finds it compiled."""

    def __init__(self, who: Resolver, warm: WarmModels, system: System) -> None:
        self._who, self._warm, self._system = who, warm, system
        self._told: set[str] = set()  # what cannot be loaded, said once
        self.state, self.detail = "starting", ""

    def includes(self, served: Served | Starter, shape: Shape) -> bool:
        """Whether this is kept ready before anybody asks: this voter's member, for the shape that it learnt."""
        if isinstance(served, Starter):
            return False
        return served.stands and shape == served.record.frames and served.member == self._who.mine(served.record)

    def batches(self, served: Served | Starter, shape: Shape) -> tuple[int, ...]:
        return BATCH_SIZES if self.includes(served, shape) else ALONE

    async def keep(self, stop: asyncio.Event) -> None:
        async for _ in every(LOOK_EVERY_S, stop):
            try:
                await self._system.child.start()
                self.state, self.detail = "ready", await self._look()
            except (NvpError, RedisError) as error:
                self.state, self.detail = "starting", str(error)
                log.warning("models not ready", reason=str(error))

    async def _look(self) -> str:
        """Make ready what is in service, as far as there is room; what came of it, in words.

        An ensemble that cannot be loaded is its account's trouble: the others are served.
        """
        found = _Round()
        for account in await known(self._system.redis):
            try:
                domains, candidates = await registry.listed(self._system.redis, account)
            except RedisError as error:
                if isinstance(error, AWAY):
                    raise
                found.broken.add(f"{account}: {error}")
                continue
            for digest in candidates:
                await self._warm_up(account, digest, found)
            for domain in domains:
                await self._serve(account, domain, found)
        for one in found.broken - self._told:
            log.error("an ensemble cannot be loaded", reason=one)
        self._told = found.broken
        count, broken = len(found.loaded), len(found.broken)
        return (f"{count} models" if count else "no model yet") + (f", {broken} broken" if broken else "")

    async def _serve(self, account: str, domain: str, found: _Round) -> None:
        redis = self._system.redis
        try:
            standing = (await registry.service_of(redis, account, domain)).at()
            trial = standing.challenger if standing.share else None
            for digest in filter(None, (standing.champion, trial)):
                await self._load(await registry.ensemble(redis, account, digest), found)
        except NvpError as error:
            if error.retryable:
                raise
            found.broken.add(f"{account}/{domain}: {error}")

    async def _warm_up(self, account: str, digest: str, found: _Round) -> None:
        try:
            record = await registry.candidate(self._system.redis, account, digest)
            if record is None or self._who.mine(record) is None:
                return
            await self._load(record, found)
        except NvpError as error:
            if error.retryable:
                raise
            await switching.say(self._system, account, digest, str(error))
        else:
            await switching.say(self._system, account, digest)

    async def _load(self, record: EnsembleRecord, found: _Round) -> None:
        member = self._who.mine(record)
        if member is None or record.frames is None or len(found.loaded) >= MODELS_KEPT:
            return
        if not self._warm.was_ready(member, record.frames):
            await self._warm.ready(member, record.frames, batches=BATCH_SIZES)
        found.loaded.add(member.model_id)
