"""The whole stack as children of one process: stores, then workers; kept running, ended in order.

Used by ``nvp demo`` inside its own process and by the process that ``nvp up`` leaves in the background:

    with ends_on_signal() as interrupted:
        async with Supervisor(settings, workers, on_event=print) as stack:
            await stack.ready(timeout_s=120)
            ...

However the process ends, no child outlives it (`tether`), and the next start works on the same folder.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis.asyncio import Redis

from nvp_agentkit.embedded import children, leftovers, room
from nvp_agentkit.embedded.server import STOP_S, Server
from nvp_agentkit.embedded.stack import Stack, StackEvent
from nvp_agentkit.embedded.worker import KeptWorker, WorkerSpec
from nvp_agentkit.errors import StackError
from nvp_agentkit.settings import Settings, child_environment

LEAVING_S = 3.0  # what a worker takes for its end beyond its drain: to hand back what was cut off, to end its child
IN_TURN_S = 0.3  # how long one worker may take before the next is asked to end as well
STORE_POLL_S = 0.1
STORE_BACK_OFF_S = (0.5, 1.0, 2.0, 5.0)
HARMED_BY_A_FULL_DISK = {"arcadedb"}  # the stream server ends by itself, with nothing lost
FLUSH_S = 30.0  # nobody waits for that end, and a kill in the middle of it is what it is to prevent


class Supervisor:
    """Runs stores and workers from `start` to `stop`; a worker or store that ends is started again.

    From `start` on, ``settings`` are those that lead to the running stack: for clients in this process. ``opened`` is
    called with a stream server of the stack's own, before any worker starts.
    """

    def __init__(
        self, settings: Settings, workers: Sequence[WorkerSpec], *, on_event: Callable[[StackEvent], None],
        root_key: Path | None = None, prepare: Callable[[], object] = lambda: None,
        opened: Callable[[Redis], Awaitable[object]] | None = None,
    ) -> None:  # fmt: skip
        self.settings = settings
        self._on_event, self._opened = on_event, opened
        probes = {spec.name: spec.probes for spec in workers if spec.probes}
        self._worker_s = settings.drain_timeout_s + LEAVING_S
        ends_within_s = self._worker_s + IN_TURN_S * len(workers) + STOP_S
        self._stack = Stack(settings, self._tell, root_key, prepare, probes, ends_within_s)
        self._specs = workers
        self._workers: list[KeptWorker] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._redis: Redis | None = None

    async def start(self) -> Settings:
        """Start the stores, wait until they answer, start the workers; does not wait for these.

        Raises:
            DataFolderInUse: another process runs the stack of this folder.
            StoreUnavailable: a server that the settings name does not answer.
            StackError: a store could not be started. Nothing is left running then.
        """
        self.settings = (await self._stack.start()).model_copy(update={"data_dir": self._stack.folder})
        # No socket timeout: redis-py would send through asyncio.wait_for, which on Python 3.11 swallows a cancellation
        # that comes as the bytes are out, and a keeper that was cancelled went on (seen: `stop` never returned).
        self._redis = Redis.from_url(str(self.settings.redis_url), socket_timeout=None)
        if self._opened is not None and "valkey" in self._stack.servers:
            try:
                await self._opened(self._redis)
            except BaseException:
                await self.stop()
                raise
        for name in self._stack.servers:
            self._keep(name, self._keep_store(name))
        self._workers = [self._run(spec, self._redis) for spec in self._specs]
        return self.settings

    async def ready(self, *, timeout_s: float) -> None:
        """Return once every worker has said that it is ready.

        Raises:
            StackError: a worker ended again and again, or was not ready in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*(asyncio.shield(worker.ready) for worker in self._workers))
        except TimeoutError as error:
            late = ", ".join(worker.spec.name for worker in self._workers if not worker.ready.done())
            raise StackError(f"not ready within {timeout_s:g} s: {late}; see {self._stack.folder / 'logs'}") from error

    async def replace(self, name: str, spec: WorkerSpec) -> None:
        """End worker ``name`` and run ``spec`` in its place; `ready` then waits for that one.

        Raises:
            StackError: no such worker runs.
        """
        place = next((at for at, worker in enumerate(self._workers) if worker.spec.name == name), None)
        if place is None or self._redis is None:
            raise StackError(f"no worker {name} runs here, so nothing can take its place")
        keeper = next(task for task in self._keepers if task.get_name() == name)
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        await self._workers[place].end(grace_s=self._worker_s)
        self._keepers.remove(keeper)
        self._workers[place] = self._run(spec, self._redis)

    async def stop(self) -> None:
        """End workers in reverse order, then the stores. Safe to call twice.

        A worker with nothing in hand ends at once, any other has its drain (``drain_timeout_s``) and `LEAVING_S`.
        """
        for task in self._keepers:
            task.cancel()  # first, so that nothing is started again
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._keepers.clear()
        ending: list[asyncio.Task[None]] = []
        for worker in reversed(self._workers):
            ending.append(asyncio.create_task(worker.end(grace_s=self._worker_s)))
            await asyncio.wait(ending, timeout=IN_TURN_S)
        await asyncio.gather(*ending)
        self._workers.clear()
        if self._redis is not None:
            await self._redis.aclose()
            self._redis = None
        await self._stack.stop()

    def _tell(self, event: StackEvent) -> None:
        """A screen that is gone or a log without room for the line must not end what the line is about."""
        with suppress(OSError):
            self._on_event(event)

    def _run(self, spec: WorkerSpec, redis: Redis) -> KeptWorker:
        worker = KeptWorker(spec, self._stack.folder, self._tell)
        environment = child_environment(self.settings) | {"TMPDIR": str(self._stack.folder / leftovers.SCRATCH)}
        self._keep(spec.name, worker.keep(redis, environment))
        return worker

    def _keep(self, name: str, keeping: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(keeping, name=name)
        task.add_done_callback(self._told_if_broken)
        self._keepers.append(task)

    def _told_if_broken(self, task: asyncio.Task[None]) -> None:
        """A defect; nobody else would notice."""
        if not task.cancelled() and (error := task.exception()):
            self._tell(StackEvent(task.get_name(), "ended", f"cannot be kept running: {error}"))

    async def _keep_store(self, name: str) -> None:
        """Start the store again where it was when it ends; workers find it there once it answers."""
        while True:
            server = self._stack.servers[name]
            reason, failures = await self._end_of(name, server), 0
            while server is self._stack.servers[name]:
                self._tell(StackEvent(name, "restarting", reason))
                await asyncio.sleep(STORE_BACK_OFF_S[min(failures, len(STORE_BACK_OFF_S) - 1)])
                try:
                    await self._stack.start_store(name, port=server.port)
                except (StackError, OSError) as error:  # a full disk, say: tried again until there is room
                    reason, failures = str(error), failures + 1

    async def _end_of(self, name: str, server: Server) -> str:
        """Wait until the store has ended, and why it has; one that its disk can harm is ended here, in order."""
        with server.log.open("rb") as log:
            while not await children.gone(server.process, within_s=STORE_POLL_S):
                was_full = room.FULL in log.read()  # of a disk that has room again by now
                if name in HARMED_BY_A_FULL_DISK and (was_full or room.is_scarce(self._stack.folder)):
                    await children.end(server.process, grace_s=FLUSH_S)
                    return "ended in order for want of room on its disk"
        return f"ended with status {server.process.returncode}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


@contextmanager
def ends_on_signal() -> Iterator[Callable[[], bool]]:
    """Cancel the block on the first SIGINT, SIGTERM or SIGHUP and leave it in peace; yields "was it one?".

    A second signal has its usual effect: the process ends at once, and its children with it.
    """
    loop, task, asked = asyncio.get_running_loop(), asyncio.current_task(), False
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def ask() -> None:
        nonlocal asked
        asked = True
        for number in signals:
            loop.remove_signal_handler(number)
        if task is not None:
            task.cancel()

    for number in signals:
        loop.add_signal_handler(number, ask)
    try:
        yield lambda: asked
    except asyncio.CancelledError:
        if not asked or task is None:
            raise
        task.uncancel()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
