"""The front's handle on its compute child: start, call, interrupt, end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from nvp_agentkit.energy import kernel
from nvp_agentkit.errors import (
    BudgetExhausted,
    BudgetTooSmall,
    ChildDied,
    ComputeFailed,
    DeadlineExceeded,
    NvpError,
    ResultNotKept,
    from_wire,
)

from .arena import Arena
from .cost import Cost
from .spending import resident_gb, used_cpu_s
from .turns import Turns, left, no_turn
from .wire import Frame, pack, read_frame

ARENA_BYTES = 1 << 30  # address space; pages exist once touched
START_TIMEOUT_S = 120.0
LOOK_EVERY_S = 0.05  # at what the child has used; a tick of the kernel's clock is 0.01 s
CHILD_MODULE = f"{__package__}.child"
CHILD_ENDED, DIED = "compute child ended", "the compute child died"  # log lines: all ends, those without cause
log = structlog.get_logger()


@dataclass(frozen=True)
class Answer:
    """What a call gave, and what it cost."""

    values: dict[str, Any]
    arrays: list[NDArray[Any]] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)


class ComputeChild:
    """One child process, one call at a time.

    A child that dies (out of memory, a crash in a kernel) fails the call at hand with `ChildDied`
    and the next call starts a fresh one; ``generation`` tells the caller that what it had loaded is gone.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._process: asyncio.subprocess.Process | None = None
        self._life = contextlib.AsyncExitStack()  # what the child holds, to be let go of
        self._turns = Turns()
        self._up = False  # it has answered once
        self._over = False  # it was ended because it cost too much
        self._arena: Arena
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self.generation = 0

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def _alive(self) -> bool:
        return self._up and self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the child if none runs; returns when it has imported JAX and answers.

        Raises:
            ComputeFailed: it does not come up.
        """
        if not self._alive:
            async with self._turns.turn("start"):
                await self._start()

    async def call(
        self,
        op: str,
        params: Mapping[str, Any],
        arrays: Sequence[NDArray[Any]] = (),
        *,
        deadline: float | None = None,
        at_least_s: float = 0.0,
        long: bool = False,
        in_turn: bool = False,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
        on_cost: Callable[[Cost], object] | None = None,
        too_much: Callable[[Cost], bool] | None = None,
    ) -> Answer:
        """Run ``op`` in the child.

        Args:
            deadline: Unix time in seconds after which the child is ended, whatever it does; nothing is run then where
                it passes while a child is being started (`turn`).
            at_least_s: it has so long once its turn has come, even beyond its deadline: the child's end costs others.
            long: calls that are not go first.
            in_turn: the caller has its `turn` already.
            on_progress: called with each progress frame, in order.
            on_cost: told what the call cost, whether it gave an answer, failed or was cancelled.
            too_much: asked twenty times a second what the kernel says the call has cost so far; True ends the child.
                The operation is expected to stop by itself before: this holds where it does not (Linux).

        Raises:
            DeadlineExceeded: the child was ended at the deadline, or was busy with others until then.
            BudgetExhausted: it was ended because it was ``too_much``.
            ChildDied, ComputeFailed: the child died or broke (retryable).
            NvpError: what the operation itself refused.
        """
        async with contextlib.nullcontext() if in_turn else self.turn(op, deadline, long=long):
            if left(deadline) == 0.0:
                raise no_turn(op)
            frame = {"op": op, "params": dict(params), "arrays": self._arena.put(arrays, upper=False)}
            async with self._watched(too_much):
                ends = None if deadline is None else max(deadline, time.time() + at_least_s)
                last, cost = await self._ask(frame, ends, on_progress, on_cost)
            if "error" in last:
                raise _error(last["error"])
            return Answer(last["result"], [np.asarray(array) for array in self._arena.take(last["arrays"])], cost)

    @contextlib.asynccontextmanager
    async def turn(self, op: str, deadline: float | None = None, *, long: bool = False) -> AsyncIterator[None]:
        """The child to oneself, for what can only be said once it is free; it is up.

        Waits for the calls before this one, no longer than the deadline: they are not its to end. Where no child runs
        one is started then, whatever the deadline: that takes seconds, and fails after `START_TIMEOUT_S`. So the
        deadline may be over when the turn begins.

        Raises:
            DeadlineExceeded: the turn did not come until then.
            ComputeFailed: no child comes up.
        """
        async with self._turns.turn(op, long=long, until=deadline):
            await self._start()
            yield

    async def interrupt(self, reason: str) -> None:
        """Ask the operation at hand to stop at its next step and give what it has."""
        if self._alive:
            self._writer.write(pack({"control": "stop", "reason": reason}))
            await self._writer.drain()

    async def close(self) -> None:
        await self._discard()

    async def _ask(
        self,
        frame: Frame,
        deadline: float | None,
        on_progress: Callable[[dict[str, Any]], None] | None,
        on_cost: Callable[[Cost], object] | None,
    ) -> tuple[Frame, Cost]:
        """The child's last word on ``frame`` and what that cost; a child that gives none is ended."""
        op, began = frame["op"], time.monotonic()
        others_cpu_s = used_cpu_s(resource.RUSAGE_CHILDREN)  # of processes that have ended before
        silent: BaseException
        try:
            async with asyncio.timeout(left(deadline)):
                self._writer.write(pack(frame))
                await self._writer.drain()
                last = await self._last_frame(on_progress)
        except TimeoutError:
            await self._end()
            silent = DeadlineExceeded(f"{op}: ended at its deadline; ask for less or allow more time")
        except (asyncio.IncompleteReadError, ConnectionError):
            await self._end()
            silent = ChildDied(f"{op}: {DIED} ({self._ending()})")
            if self._over:
                silent = BudgetExhausted(f"{op}: ended when its joules were used up; raise `budget_j`")
        except asyncio.CancelledError as cancelled:
            await self._end()  # the pipe would be out of step with the next call
            silent = cancelled
        else:
            self._told_cpu_s = last["life_cpu_s"]
            cost = Cost(last["cpu_s"], last["wall_s"], last["rss_gb"])
            if on_cost is not None:
                on_cost(cost)
            return last, cost
        log.warning(CHILD_ENDED, op=op, reason=str(silent) or "nobody waits for it any more")
        if on_cost is not None:
            on_cost(self._cost_of_the_dead(time.monotonic() - began, others_cpu_s))
        raise silent

    @contextlib.asynccontextmanager
    async def _watched(self, too_much: Callable[[Cost], bool] | None) -> AsyncIterator[None]:
        """End the child inside as soon as it is ``too_much``."""
        self._over = False
        watching = None if too_much is None else asyncio.create_task(self._watch(too_much))
        try:
            yield
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self, too_much: Callable[[Cost], bool]) -> None:
        began, pid = time.monotonic(), self.pid
        while pid is not None and (life_cpu_s := kernel.cpu_s_of(pid)) is not None:
            so_far = Cost(max(life_cpu_s - self._told_cpu_s, 0.0), time.monotonic() - began, kernel.peak_gb_of(pid))
            if too_much(so_far):
                self._over = True
                os.kill(pid, signal.SIGKILL)
                return
            await asyncio.sleep(LOOK_EVERY_S)

    async def _start(self) -> None:
        if self._alive:
            return
        await self._discard()
        async with contextlib.AsyncExitStack() as life:  # of a start that fails or is cancelled nothing is left
            try:
                async with asyncio.timeout(START_TIMEOUT_S):
                    await self._launch(life)
                    self._told_cpu_s = (await read_frame(self._reader))["life_cpu_s"]
            except (asyncio.IncompleteReadError, OSError) as error:
                await self._end()
                reason = self._ending() if self._process else error
                raise ComputeFailed(f"the compute child did not come up ({reason}); see the worker's log") from error
            self._up, self._life = True, life.pop_all()

    async def _launch(self, life: contextlib.AsyncExitStack) -> None:
        """A new process with its pipe and its memory; how each is ended goes onto ``life``."""
        self._arena = Arena.create(ARENA_BYTES)
        life.callback(self._arena.close)
        near, far = socket.socketpair()
        life.callback(near.close)
        self._told_cpu_s = 0.0
        with far:
            self._reader, self._writer = await asyncio.open_unix_connection(sock=near)
            life.callback(self._writer.transport.abort)
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                CHILD_MODULE,
                str(far.fileno()),
                str(self._arena.fd),
                str(ARENA_BYTES),
                str(os.getpid()),
                pass_fds=(far.fileno(), self._arena.fd),
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
            )
            life.push_async_callback(self._end)
        self.generation += 1

    async def _last_frame(self, on_progress: Callable[[dict[str, Any]], None] | None) -> Frame:
        while "progress" in (frame := await read_frame(self._reader)):
            if on_progress is not None:
                on_progress(frame["progress"])
        return frame

    def _cost_of_the_dead(self, wall_s: float, others_cpu_s: float) -> Cost:
        """What the call at hand had used, from the kernel's account of the child that has ended."""
        life_cpu_s = used_cpu_s(resource.RUSAGE_CHILDREN) - others_cpu_s
        return Cost(max(life_cpu_s - self._told_cpu_s, 0.0), wall_s, resident_gb(resource.RUSAGE_CHILDREN))

    def _ending(self) -> str:
        """How the child ended, in words."""
        code = None if self._process is None else self._process.returncode
        if code is None:
            return "not started"
        return f"signal {-code}" if code < 0 else f"exit status {code}"

    async def _end(self) -> None:
        process, self._up = self._process, False
        if process is None:
            return
        if process.returncode is None:
            # Not process.kill(): it polls, and would take a dead child's exit status from asyncio, which then says 255.
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        await process.wait()

    async def _discard(self) -> None:
        await self._life.aclose()
        self._process = None


def _error(told: dict[str, Any]) -> NvpError:
    if told["code"] == BudgetTooSmall.code:
        return BudgetTooSmall(told["detail"], needed_mj=told["needed_mj"])
    if told["code"] == ResultNotKept.code:  # a child has no store but its disk
        return ResultNotKept(told["detail"])
    return from_wire(told["code"], told["detail"])
