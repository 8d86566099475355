"""What a voter keeps ready before anybody asks, at nobody's cost: of what serves, is on trial, is about to serve."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import chain, zip_longest

import structlog

from nvp_agentkit.ensemble import EnsembleRecord, Member
from nvp_agentkit.errors import ChildDied, NvpError
from nvp_agentkit.streams import AWAY, RedisError, known

from ..rounds import every
from ..system import System
from . import registry, switching
from .deadly import Deaths
from .resolving import Resolver, Served, Starter
from .room import Key, Shape
from .warm import WarmModels

BATCH_SIZES = (1, 4)  # a batch is padded up to one of these; both are compiled before a model counts as ready
ALONE = (1,)  # where it is nobody's duty to be ready
LOOK_EVERY_S = 1.0  # for ensembles that came into service since, or are about to
log = structlog.get_logger()


@dataclass(frozen=True)
class _Owed:
    """What an account has in service or on trial; or what is about to be, by the change with that ``token``."""

    account: str
    record: EnsembleRecord
    member: Member
    domain: str
    token: str | None

    @property
    def key(self) -> Key | None:
        return None if self.record.frames is None else (self.member.model_id, self.record.frames)


@dataclass
class _Round:
    """One look at all accounts."""

    owed: dict[str, list[_Owed]] = field(default_factory=lambda: defaultdict(list))  # by account
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

        An ensemble that cannot be loaded is its account's trouble, and the next look tries it again. One that the child
        died of is tried after all others, and after a pause.
        """
        found = _Round()
        for account in await known(self._system.redis):
            try:
                domains, changing = await registry.listed(self._system.redis, account)
            except RedisError as error:
                if isinstance(error, AWAY):
                    raise
                found.broken.add(f"{account}: {error}")
                continue
            for domain in changing:
                change = await registry.under_way(self._system.redis, account, domain)
                if change is not None and change.record is not None:
                    self._owe(account, domain, change.record, found, token=change.token)
            for domain in domains:
                await self._find_service(account, domain, found)
        in_turn = list(filter(None, chain(*zip_longest(*found.owed.values()))))  # one of each account, then the next
        self._warm.stands({one.key: one.account for one in in_turn if one.key is not None})
        for one in sorted(in_turn, key=lambda one: self._warm.deadly.of(one.account, one.key) is not None):
            await self._load(one, found)
        for reason in found.broken - self._told:
            log.error("an ensemble cannot be loaded", reason=reason)
        self._told = found.broken
        count, broken = len(found.loaded), len(found.broken)
        loaded = f"{count} model{'s' * (count > 1)}" if count else "no model yet"
        return loaded + (f", {broken} broken" if broken else "")

    async def _find_service(self, account: str, domain: str, found: _Round) -> None:
        redis = self._system.redis
        try:
            standing = (await registry.service_of(redis, account, domain)).at()
            trial = standing.challenger if standing.share else None
            for digest in filter(None, (standing.champion, trial)):
                self._owe(account, domain, await registry.ensemble(redis, account, digest), found)
        except NvpError as error:
            if error.retryable:
                raise
            found.broken.add(f"{account}/{domain}: {error}")

    def _owe(
        self, account: str, domain: str, record: EnsembleRecord, found: _Round, *, token: str | None = None
    ) -> None:
        if (member := self._who.mine(record)) is not None:
            found.owed[account].append(_Owed(account, record, member, domain, token))

    async def _load(self, owed: _Owed, found: _Round) -> None:
        account, key, token = owed.account, owed.key, owed.token
        deaths = self._warm.deadly.of(account, key)
        if deaths is not None and time.monotonic() < deaths.until:
            await self._died(owed, deaths, found)
            return
        try:
            if key is not None:
                await self._warm.ready(owed.member, key[1], account=account, batches=BATCH_SIZES, standing=True)
                found.loaded.add(owed.member.model_id)
        except ChildDied:
            if (died := self._warm.deadly.of(account, key)) is not None:
                await self._died(owed, died, found)
        except NvpError as error:
            if error.retryable:
                raise
            if token is not None:
                await switching.say(self._system, account, token, str(error))
            else:
                found.broken.add(f"{account}/{owed.domain}: {error}")
        else:
            if token is not None:
                await switching.say(self._system, account, token)

    async def _died(self, owed: _Owed, deaths: Deaths, found: _Round) -> None:
        found.broken.add(f"{owed.account}/{owed.domain}: {deaths.reason}")
        if owed.token is not None and deaths.told:
            await switching.say(self._system, owed.account, owed.token, deaths.told)
