"""The stack in turmoil: the product's supervisor over stores and workers, and a hand that does them harm."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from benchmarks.process_tree import tree
from benchmarks.turmoil.schedule import LEASE_S, Fault
from nvp_agentkit.cli.deployment import SIGNERS
from nvp_agentkit.embedded.supervisor import Supervisor
from nvp_agentkit.embedded.worker import WorkerSpec
from nvp_agentkit.ensemble.keys import init_keys
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import names

FRONTS = (
    ("inference", "a"), ("inference", "b"), ("training", "a"), ("shadow-1", "a"), ("shadow-2", "a"), ("tally", "a"),
)  # fmt: skip
RECORDER = ("recorder", "a")
READY_S = 120.0


class Stack:
    """The running stack. `done` counts what was done to it."""

    def __init__(self, supervisor: Supervisor, redis: Redis, fsync: str) -> None:
        self.settings, self.redis = supervisor.settings, redis
        self.done: Counter[str] = Counter()
        self._supervisor, self._fsync = supervisor, fsync
        self._stopped: set[asyncio.Task[None]] = set()

    async def suffer(self, faults: Sequence[Fault]) -> None:
        """All of ``faults``, each at its time."""
        began = asyncio.get_running_loop().time()
        for fault in faults:
            await asyncio.sleep(began + fault.at_s - asyncio.get_running_loop().time())
            with suppress(ProcessLookupError, RedisError, OSError):  # it is down already
                await self._strike(fault)
                self.done[fault.kind] += 1
            await self.set_fsync()
        await asyncio.gather(*self._stopped)

    async def set_fsync(self) -> None:
        """The supervisor starts the server with ``always``; what else is asked for is set anew each time."""
        if self._fsync != "always":
            with suppress(RedisError, OSError):
                await self.redis.config_set("appendfsync", self._fsync)

    async def _strike(self, fault: Fault) -> None:
        what, _, victim = fault.kind.partition(" ")
        match what, victim:
            case "cut", _:
                await self.redis.client_kill_filter(_type="normal", skipme=True)
            case "flush", _:
                await self.redis.script_flush()
            case "fill", _:
                pid = self._store("valkey")
                before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, before[1]))  # less than it has: no write goes on
                await asyncio.sleep(0.5)
                with suppress(ProcessLookupError):  # it has ended by itself, as it does under `always`
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
            case "kill", _:
                os.kill(self._pid(victim, fault.which), signal.SIGKILL)
            case (("stop" | "stall"), _):
                self._stop(self._pid(victim, fault.which), fault.for_s if what == "stop" else 0.4 * fault.for_s)

    def _stop(self, pid: int, for_s: float) -> None:
        os.kill(pid, signal.SIGSTOP)
        self._stopped.add(asyncio.create_task(_wake(pid, for_s)))

    def _pid(self, victim: str, which: float) -> int:
        if victim in ("valkey", "graph"):
            return self._store({"valkey": "valkey", "graph": "arcadedb"}[victim])
        if victim == "recorder":
            return self._front(len(FRONTS))
        front = self._front(int(which * len(FRONTS)))
        children = sorted(tree(front) - {front})
        if victim == "child" and not children:
            raise ProcessLookupError
        return children[0] if victim == "child" else front

    def _front(self, place: int) -> int:
        process = self._supervisor._workers[place].process
        if process is None or process.poll() is not None:
            raise ProcessLookupError
        return process.pid

    def _store(self, name: str) -> int:
        return self._supervisor._stack.servers[name].process.pid


async def _wake(pid: int, for_s: float) -> None:
    await asyncio.sleep(for_s)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def running(folder: Path, *, fsync: str) -> AsyncIterator[Stack]:
    """A stack on ``folder`` whose workers are ready; all of it ended at the end."""
    settings = Settings(data_dir=folder, lease_s=LEASE_S)
    init_keys(settings.keys_dir, SIGNERS)
    specs = [
        WorkerSpec(
            f"{name}-{instance}",
            [sys.executable, "-m", "benchmarks.turmoil.worker", name],
            names.worker(name, instance),
            {"NVP_INSTANCE": instance},
        )
        for name, instance in (*FRONTS, RECORDER)
    ]
    async with Supervisor(settings, specs, on_event=lambda event: None) as supervisor:
        await supervisor.ready(timeout_s=READY_S)
        async with Redis.from_url(str(supervisor.settings.redis_url), socket_timeout=None) as redis:
            stack = Stack(supervisor, redis, fsync)
            await stack.set_fsync()
            yield stack
