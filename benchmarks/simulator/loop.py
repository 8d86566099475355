"""Processes over one virtual clock, each an event loop of its own: killed, frozen, woken, at the word of a plan.

Inside a process callbacks run in order, as in any event loop. What is left to chance is what really is: when a message
arrives, and so which process comes first. Between two events no time passes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from heapq import heappop, heappush
from typing import Any

START_S = 1_800_000_000.0  # of the wall clock, at the beginning of every history
THREAD_S = 0.001
Callback = Callable[..., Any]


class Handle:
    """A callback that may be called off."""

    __slots__ = ("_args", "_callback", "_context", "_when", "cancelled")

    def __init__(self, when: float, callback: Callback, args: tuple[Any, ...], context: Context | None):
        self._when, self._callback, self._args, self._context = when, callback, args, context
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def when(self) -> float:
        return self._when

    def run(self) -> None:
        if self.cancelled:
            return
        if self._context is None:
            self._callback(*self._args)
        else:
            self._context.run(self._callback, *self._args)


class World:
    """The clock, and all that is still to happen."""

    def __init__(self) -> None:
        self.now = 0.0
        self.processes: list[Process] = []
        self._events: list[tuple[float, int, Process | None, Callback, tuple[Any, ...]]] = []
        self._count, self._stopped = 0, False

    def stop(self) -> None:
        """Let no more time pass."""
        self._stopped = True

    def at(self, when: float, process: Process | None, callback: Callback, *args: Any) -> None:
        """Run ``callback`` at that time, in ``process``; None: outside of all, such as at the store."""
        self._count = count = self._count + 1
        heappush(self._events, (when if when > self.now else self.now, count, process, callback, args))

    def run(self, until_s: float) -> None:
        """Let time pass until somebody calls `stop`, or until then."""
        events, self._stopped = self._events, False
        while events and not self._stopped and events[0][0] <= until_s:
            when, _, process, callback, args = heappop(events)
            if process is None:
                self.now = when
                callback(*args)
            elif process.alive:
                if process.frozen_until > when:
                    self.at(process.frozen_until, process, callback, *args)
                else:
                    self.now = when
                    process.run(callback, args)


class Process(asyncio.AbstractEventLoop):
    """One process's event loop: as much of one as the product's code asks for."""

    def __init__(self, world: World, name: str) -> None:
        self.name, self.alive, self.frozen_until = name, True, 0.0
        self._world = world
        self._soon: deque[Handle] = deque()
        self._tasks: list[asyncio.Task[Any]] = []
        world.processes.append(self)

    def start(self, main: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Begin with ``main``, now."""
        task = self.create_task(main)
        self._world.at(self._world.now, self, _nothing)
        return task

    def run(self, callback: Callback, args: tuple[Any, ...] = ()) -> None:
        """One event and all that follows from it at once."""
        asyncio._set_running_loop(self)
        try:
            callback(*args)
            soon = self._soon
            while soon and self.alive:
                soon.popleft().run()
        finally:
            asyncio._set_running_loop(None)

    def end(self) -> None:
        """After a history: let every task unwind, so that none is left to the garbage collector."""
        self.alive = True
        for _ in range(10):
            left = [task for task in self._tasks if not task.done()]
            if not left:
                return
            for task in left:
                task.cancel()
            self.run(_nothing)

    def time(self) -> float:
        return self._world.now

    def call_soon(  # type: ignore[override]  # a handle of our own
        self, callback: Callback, *args: Any, context: Context | None = None
    ) -> Handle:
        handle = Handle(0.0, callback, args, context)
        self._soon.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callback, *args: Any, context: Context | None = None
    ) -> Handle:
        return self.call_at(self._world.now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callback, *args: Any, context: Context | None = None
    ) -> Handle:
        handle = Handle(when, callback, args, context)
        self._world.at(when, self, handle.run)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, **options)
        self._tasks.append(task)
        return task

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callback, *args: Any
    ) -> asyncio.Future[Any]:
        """A thread's work: done at once, told of a little later."""
        done = self.create_future()
        self._world.at(self._world.now + THREAD_S, self, _settle, done, func, args)
        return done

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """A task that failed and was never asked: `history` asks those that matter."""


def _nothing() -> None:
    """An event that only lets a process go on."""


def _settle(done: asyncio.Future[Any], func: Callback, args: tuple[Any, ...]) -> None:
    if done.done():
        return
    try:
        done.set_result(func(*args))
    except Exception as error:  # noqa: BLE001 - as an executor does
        done.set_exception(error)
