"""Whose turn it is at what serves one at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from nvp_agentkit.errors import DeadlineExceeded

PATIENCE_S = 5.0  # that long work lets short work go first


@dataclass(eq=False)
class _Waiting:
    who: str
    long: bool
    since: float = field(default_factory=time.monotonic)
    admitted: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def gives_way(self) -> bool:
        return self.long and time.monotonic() - self.since < PATIENCE_S


class Turns:
    """A lock. Short work goes before long, then whoever was served longest ago, then who has waited longest."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting: list[_Waiting] = []
        self._count = 0
        self._served: dict[str, int] = {}  # when, of those who wait and of who was last

    @asynccontextmanager
    async def turn(
        self, what: str, *, who: str = "", long: bool = False, until: float | None = None
    ) -> AsyncIterator[None]:
        """
        Args:
            what: it is for, in words.
            until: Unix time in seconds to wait at most.

        Raises:
            DeadlineExceeded: it did not come until then.
        """
        try:
            async with asyncio.timeout(left(until)):
                await self._admitted(who, long=long)
        except TimeoutError as error:
            raise no_turn(what) from error
        try:
            yield
        finally:
            self._pass_on()

    async def _admitted(self, who: str, *, long: bool) -> None:
        if self._taken:
            mine = _Waiting(who, long)
            self._waiting.append(mine)
            try:
                await mine.admitted
            except asyncio.CancelledError:
                if mine in self._waiting:
                    self._waiting.remove(mine)
                else:  # admitted, and cancelled before it knew
                    self._pass_on()
                raise
        self._taken = True
        self._count += 1
        present = {who, *(one.who for one in self._waiting)}
        self._served = {one: when for one, when in self._served.items() if one in present} | {who: self._count}

    def _pass_on(self) -> None:
        self._taken = False
        there = [one for one in self._waiting if not one.admitted.done()]
        if not there:
            return
        first = min(there, key=lambda one: (one.gives_way, self._served.get(one.who, 0), one.since))
        self._waiting.remove(first)
        self._taken = True
        first.admitted.set_result(None)


def left(deadline: float | None) -> float | None:
    """Seconds until then, none below zero."""
    return None if deadline is None else max(deadline - time.time(), 0.0)


def no_turn(what: str) -> DeadlineExceeded:
    return DeadlineExceeded(f"{what}: its turn did not come before its deadline; allow more time")
