"""Between a process and the store: when a command arrives, when its answer does, and what happens to either."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from redis.exceptions import ConnectionError, RedisError

from benchmarks.simulator.loop import Process, World
from benchmarks.simulator.plan import Fault
from benchmarks.simulator.store import Store
from benchmarks.simulator.stream_commands import block_ms, watched

RETRIES, RETRY_S = 3, 0.05  # as `streams.connect` has redis-py do it
SPLIT = 0.2  # share of pipelines that arrive in two parts
Words = tuple[bytes, ...]


@dataclass(eq=False)
class Call:
    """Commands on their way, and their answers on the way back."""

    link: Link
    commands: Sequence[Words]
    answered: asyncio.Future[list[Any]]
    answers: list[Any]
    cut_after: int | None = None  # commands applied before the connection is lost; None: it is not
    applied: Callable[[], None] = lambda: None  # what happens as soon as they are
    over: bool = False  # for the server: answered, or the connection is lost


class Server:
    """The store behind its sockets: up or down, with readers that wait for what is new."""

    def __init__(self, world: World, store: Store, tell: Callable[[str], None] | None = None) -> None:
        self._world, self.store, self._tell_of = world, store, tell
        self.down_until = 0.0
        self._open: set[Call] = set()
        self._waiting: list[Call] = []

    def arrive(self, call: Call, stop: int) -> None:
        """Apply ``call``'s commands up to ``stop``, and let the rest follow."""
        if call.over:
            return
        if self._world.now < self.down_until:
            self._fail(call)
            return
        self._open.add(call)
        most = len(call.commands) if call.cut_after is None else call.cut_after
        while len(call.answers) < min(stop, most):
            call.answers.append(self._apply(call, call.commands[len(call.answers)]))
        if call.cut_after == len(call.answers):
            self._fail(call)
        elif len(call.answers) < len(call.commands):
            self._world.at(self._world.now + call.link.latency(), None, self.arrive, call, len(call.commands))
        elif not self._waits(call):
            self._answer(call)
        self.wake()

    def restart(self, for_s: float) -> None:
        """Every connection is lost; none can be made for a while."""
        self.down_until = self._world.now + for_s
        for call in list(self._open):
            self._fail(call)
        self._waiting.clear()

    def hang_up(self, link: Link) -> None:
        """A client is gone; what waits for it does no more."""
        for call in [one for one in self._waiting if one.link is link]:
            self._waiting.remove(call)
            call.over = True

    def _apply(self, call: Call, words: Words) -> Any:
        answer: Any
        try:
            answer = self.store.execute(words[0], words[1:])
        except RedisError as error:
            answer = error
        if self._tell_of is not None and words[0] != b"SCRIPT LOAD":
            said = b" ".join(words).decode(errors="replace")
            self._tell_of(f"{self._world.now:9.4f} {call.link.process.name}: {said[:150]} -> {str(answer)[:80]}")
        return answer

    def _waits(self, call: Call) -> bool:
        name, *rest = call.commands[0]
        for_ms = block_ms(name, tuple(rest)) if call.answers == [None] else None
        if for_ms is None:
            return False
        self._waiting.append(call)
        self._world.at(self._world.now + for_ms / 1000, None, self._time_over, call)
        return True

    def _time_over(self, call: Call) -> None:
        if call in self._waiting:
            self._waiting.remove(call)
            self._answer(call)

    def wake(self) -> None:
        """Readers are served in the order in which they came."""
        if not self.store.touched:
            return
        touched, self.store.touched = self.store.touched, set()
        for call in [one for one in self._waiting if not touched.isdisjoint(watched(one.commands[0][1:]))]:
            call.answers = [self._apply(call, call.commands[0])]
            if call.answers != [None]:
                self._waiting.remove(call)
                self._answer(call)

    def _answer(self, call: Call) -> None:
        call.over = True
        call.applied()
        self._world.at(self._world.now + call.link.latency(), call.link.process, self._tell, call)

    def _tell(self, call: Call) -> None:
        self._open.discard(call)
        if not call.answered.done():
            call.answered.set_result(call.answers)

    def _fail(self, call: Call) -> None:
        call.over = True
        self._open.discard(call)
        self._world.at(self._world.now + call.link.latency(), call.link.process, _lose, call)


def _lose(call: Call) -> None:
    if not call.answered.done():
        call.answered.set_exception(ConnectionError("Connection lost"))


class Link:
    """One process's connection. Each call of it has a number, at which the plan may have something happen."""

    def __init__(
        self, server: Server, process: Process, world: World, chance: random.Random, slowest_s: float,
        faults: Mapping[int, Fault], calls: int, struck: Callable[[Fault], None],
    ) -> None:  # fmt: skip
        self.process, self.calls = process, calls
        self._server, self._world, self._chance, self._slowest_s = server, world, chance, slowest_s
        self._faults, self._struck = faults, struck
        self.void = False  # the history is over
        self._sent: list[Call] = []

    @property
    def store(self) -> Store:
        return self._server.store

    @property
    def busy(self) -> bool:
        """Something that was sent has still to arrive, perhaps from a process that is dead by now."""
        self._sent = [call for call in self._sent if not call.over]
        return bool(self._sent)

    def latency(self) -> float:
        """Mostly a millisecond; at times as long as the weather allows."""
        drawn = self._chance.random()
        return 0.002 * drawn if drawn < 0.9 else self._slowest_s * (10 * drawn - 9) ** 3

    async def ask(self, commands: Sequence[Words], *, whole: bool = False) -> list[Any]:
        """Answers to commands that are sent together; where the connection fails they are sent again, a few times.

        A ``whole`` of commands, a transaction, is applied at once or not at all.

        Raises:
            ConnectionError: as often as that.
        """
        for retry in range(RETRIES + 1):
            fault = self._next()
            if fault is not None and fault.before and fault.kind != "cut":
                await self.strike(fault)
            try:
                return await self._send(commands, fault, whole)
            except ConnectionError:
                if retry == RETRIES or self.void:
                    raise
            await asyncio.sleep(RETRY_S * 2**retry * self._chance.random())
        raise AssertionError("unreachable")

    async def step(self) -> None:
        """A step of work counts as a call, so that what the plan has happen can happen there as well."""
        fault = self._next()
        if fault is not None and fault.kind != "cut":
            await self.strike(fault)

    async def strike(self, fault: Fault) -> None:
        """Let it happen to the process itself; it goes on from here, if it does, when it is woken."""
        self._strike(fault)
        woken = self.process.create_future()
        self._world.at(self._world.now, self.process, _wake, woken)
        await woken

    def _strike(self, fault: Fault) -> None:
        if not self.process.alive:
            return  # by another of its calls
        if fault.kind == "kill":
            self.process.alive = False
            self._world.at(self._world.now + self.latency(), None, self._server.hang_up, self)
        elif fault.kind == "freeze":
            self.process.frozen_until = self._world.now + fault.for_s
        self._struck(fault)

    def _next(self) -> Fault | None:
        if self.void:
            raise ConnectionError("the history is over")
        self.calls += 1
        return self._faults.get(self.calls)

    def _send(self, commands: Sequence[Words], fault: Fault | None, whole: bool) -> asyncio.Future[list[Any]]:
        call, count = Call(self, commands, self.process.create_future(), []), len(commands)
        if fault is not None and fault.kind == "cut":
            call.cut_after = min(fault.applied, 0 if whole else count - 1) if fault.before else count
        elif fault is not None and not fault.before:
            call.applied = partial(self._strike, fault)
        splits = count > 1 and not whole and self._chance.random() < SPLIT
        stop = self._chance.randrange(1, count) if splits else count
        self._world.at(self._world.now + self.latency(), None, self._server.arrive, call, stop)
        self._sent.append(call)
        return call.answered


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
