"""The front's handle on its compute child: start, call, interrupt, end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvp_agentkit.errors import BudgetTooSmall, ComputeFailed, DeadlineExceeded, NvpError, from_wire

from .arena import Arena
from .wire import Frame, pack, read_frame

ARENA_BYTES = 1 << 30  # address space; pages exist once touched
START_TIMEOUT_S = 120.0
CHILD_MODULE = f"{__package__}.child"


@dataclass(frozen=True)
class Answer:
    """What a call gave, and what it cost: the child's own CPU-seconds (user + system, all threads)."""

    values: dict[str, Any]
    arrays: list[NDArray[Any]] = field(default_factory=list)
    cpu_s: float = 0.0
    wall_s: float = 0.0
    rss_gb: float = 0.0


class ComputeChild:
    """One child process, one call at a time.

    A child that dies (out of memory, a crash in a kernel) fails the call at hand with `ComputeFailed`
    and the next call starts a fresh one; ``generation`` tells the caller that what it had loaded is gone.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self.generation = 0

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start the child if none runs; returns when it has imported JAX and answers."""
        if self._process is not None and self._process.returncode is None:
            return
        await self._discard()
        near, far = socket.socketpair()
        self._arena = Arena.create(ARENA_BYTES)
        with far:
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
        self._reader, self._writer = await asyncio.open_unix_connection(sock=near)
        self.generation += 1
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await read_frame(self._reader)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError) as error:
            raise ComputeFailed(
                f"the compute child did not come up ({await self._end()}); see the worker's log"
            ) from error

    async def call(
        self,
        op: str,
        params: Mapping[str, Any],
        arrays: Sequence[NDArray[Any]] = (),
        *,
        deadline: float | None = None,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> Answer:
        """Run ``op`` in the child.

        Args:
            deadline: Unix time in seconds after which the child is ended, whatever it does.
            on_progress: called with each progress frame, in order.

        Raises:
            DeadlineExceeded: the child was ended at the deadline.
            ComputeFailed: the child died or broke (retryable).
            NvpError: what the operation itself refused.
        """
        async with self._turn:
            await self.start()
            frame = {"op": op, "params": dict(params), "arrays": self._arena.put(arrays, upper=False)}
            try:
                async with asyncio.timeout(None if deadline is None else max(deadline - time.time(), 0.0)):
                    self._writer.write(pack(frame))
                    await self._writer.drain()
                    return await self._result(on_progress)
            except TimeoutError as error:
                await self._end()
                raise DeadlineExceeded(f"{op}: ended at its deadline; ask for less or allow more time") from error
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                raise ComputeFailed(f"{op}: the compute child died ({await self._end()})") from error
            except asyncio.CancelledError:
                await self._end()  # the pipe would be out of step with the next call
                raise

    async def interrupt(self, reason: str) -> None:
        """Ask the operation at hand to stop at its next step and give what it has."""
        if self._process is not None and self._process.returncode is None:
            self._writer.write(pack({"control": "stop", "reason": reason}))
            await self._writer.drain()

    async def close(self) -> None:
        await self._discard()

    async def _result(self, on_progress: Callable[[dict[str, Any]], None] | None) -> Answer:
        while True:
            frame: Frame = await read_frame(self._reader)
            if "progress" in frame:
                if on_progress is not None:
                    on_progress(frame["progress"])
                continue
            if "error" in frame:
                raise _error(frame["error"])
            return Answer(
                values=frame["result"],
                arrays=[np.asarray(array) for array in self._arena.take(frame["arrays"])],
                cpu_s=frame["cpu_s"],
                wall_s=frame["wall_s"],
                rss_gb=frame["rss_gb"],
            )

    async def _end(self) -> str:
        """Kill the child; returns how it ended, in words."""
        process = self._process
        if process is None:
            return "not started"
        with contextlib.suppress(ProcessLookupError):
            if process.returncode is None:
                process.kill()
        code = await process.wait()
        return f"signal {-code}" if code < 0 else f"exit status {code}"

    async def _discard(self) -> None:
        if self._process is None:
            return
        await self._end()
        self._process = None
        self._writer.close()
        self._arena.close()


def _error(told: dict[str, Any]) -> NvpError:
    if told["code"] == BudgetTooSmall.code:
        return BudgetTooSmall(told["detail"], needed_mj=told["needed_mj"])
    return from_wire(told["code"], told["detail"])
