"""The stores of one data folder, and the file by which clients find them.

    DATA_DIR/lock          held while the stack runs
    DATA_DIR/version       format of the folder, and which nvp wrote it
    DATA_DIR/stack.json    addresses and generated passwords, mode 0600; removed by an orderly end
    DATA_DIR/valkey/       streams, ledger, accounts' users
    DATA_DIR/arcadedb/     the lineage graph
    DATA_DIR/artifacts/    arrays
    DATA_DIR/logs/         one file a worker
    DATA_DIR/tmp/          scratch files of the workers

No file remembers where the folder lies: it may be moved while nothing runs on it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from nvp_agentkit import __version__
from nvp_agentkit.embedded import arcadedb, generation, leftovers, lock, outside, place, room, valkey
from nvp_agentkit.embedded.server import STOP_S, Server
from nvp_agentkit.embedded.stackfile import StackFile
from nvp_agentkit.errors import NvpError, StackError, StoreEnded
from nvp_agentkit.settings import Settings

STORES = {"valkey": valkey.start, "arcadedb": arcadedb.start}
START_ATTEMPTS = 3  # of a store that ends while it starts: killed, or no memory to be had just then

State = Literal["starting", "ready", "draining", "restarting", "ended"]


@dataclass(frozen=True)
class StackEvent:
    """Something that happened to a store or a worker, for a live line on a screen."""

    name: str
    state: State
    detail: str = ""


def claim(folder: Path) -> lock.FolderLock:
    """Lock ``folder`` for a stack that can run on it; otherwise nothing is started and nothing in it changed.

    Raises:
        DataFolderInUse: another process runs its stack there.
        StackError: a later version wrote it, it cannot be written, or its disk is full.
    """
    held = lock.acquire(folder)
    try:
        generation.check(folder)
        room.check(folder)
    except BaseException:
        held.release()
        raise
    return held


@dataclass
class Stack:
    """The stores that ``settings`` do not name elsewhere, as children of this process.

    ``prepare`` makes what else the folder needs, such as keys: called under its lock, before anything starts.
    ``probes`` and ``ends_within_s`` are for the file alone: where workers say how they are, how long all take to end.

    `start` returns the settings that lead to all stores, embedded or not. After `start` failed or was
    cancelled nothing is left running; `stop` is safe to call twice.
    """

    settings: Settings
    on_event: Callable[[StackEvent], None] = lambda event: None
    root_key: Path | None = None
    prepare: Callable[[], object] = lambda: None
    probes: dict[str, str] = field(default_factory=dict)
    ends_within_s: float = STOP_S
    servers: dict[str, Server] = field(default_factory=dict)
    _held: lock.FolderLock | None = None

    @property
    def folder(self) -> Path:
        return self.settings.data_dir.resolve()

    async def start(self) -> Settings:
        """Lock the folder, end left-overs, start the stores side by side, write ``stack.json``.

        Raises:
            DataFolderInUse: another process runs the stack of this folder.
            StoreUnavailable: a server that the settings name does not answer.
            StackError: the folder or a store is not fit to be used.
        """
        self._held = claim(self.folder)
        try:
            (self.folder / "stack.json").unlink(missing_ok=True)  # of a killed stack: it would lead clients astray
            lock.sweep(self._held)
            generation.bring_up_to_date(self.folder)
            leftovers.clear(self.folder)
            self.prepare()
            await outside.check(self.settings)
            await self._start_stores()
            file = self._describe()
            place.write_private(self.folder / "stack.json", file.model_dump_json(indent=2))
        except BaseException as error:
            await self.stop()
            if isinstance(error, OSError) and not isinstance(error, NvpError):
                raise lock.unusable(self.folder, error) from error
            raise
        return file.over(self.settings)

    async def _start_stores(self) -> None:
        wanted = {"valkey": self.settings.redis_url is None, "arcadedb": self.settings.neo4j_uri is None}
        try:
            async with asyncio.TaskGroup() as group:
                for name in (name for name, here in wanted.items() if here):
                    group.create_task(self._bring_up(name))
        except BaseExceptionGroup as failed:  # two stores failed at once: the first one tells enough
            raise failed.exceptions[0] from None

    async def _bring_up(self, name: str) -> None:
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                await self.start_store(name)
            except StoreEnded as error:
                if attempt == START_ATTEMPTS:
                    raise StackError(f"started {attempt} times, {error}") from error
                self.on_event(StackEvent(name, "restarting", str(error)))
            else:
                return

    async def start_store(self, name: str, *, port: int | None = None) -> None:
        """Start one store and wait until it answers; with ``port`` where it was before.

        Raises:
            StoreEnded: it ended before it answered.
            StackError: it could not be started.
        """
        room.check(self.folder)
        self.on_event(StackEvent(name, "starting"))
        began = time.monotonic()
        self.servers[name] = await STORES[name](self.folder / name, port=port)
        self.on_event(StackEvent(name, "ready", f"port {self.servers[name].port}, {time.monotonic() - began:.1f} s"))

    async def stop(self) -> None:
        """End the stores side by side, remove ``stack.json``, let the folder go."""
        if self._held is None:
            return
        with suppress(OSError):  # of a disk that has become read-only: the stores still have to end
            (self.folder / "stack.json").unlink(missing_ok=True)
        await asyncio.gather(*(self._stop_store(name) for name in list(self.servers)))
        self._held.release()
        self._held = None

    async def _stop_store(self, name: str) -> None:
        await self.servers.pop(name).stop()
        self.on_event(StackEvent(name, "ended"))

    def _describe(self) -> StackFile:
        graph, streams, settings = self.servers.get("arcadedb"), self.servers.get("valkey"), self.settings
        return StackFile(
            version=__version__,
            pid=os.getpid(),
            started_ms=time.time_ns() // 1_000_000,
            redis_url=valkey.url(streams) if streams else str(settings.redis_url),
            neo4j_uri=arcadedb.uri(graph) if graph else str(settings.neo4j_uri),
            neo4j_user=arcadedb.USER if graph else settings.neo4j_user,
            neo4j_password=graph.password if graph else settings.neo4j_password,
            neo4j_database=arcadedb.DATABASE if graph else settings.neo4j_database,
            artifacts_url=settings.artifacts_url or str(self.folder / "artifacts"),
            root_key=self.root_key,
            probes=self.probes,
            ends_within_s=self.ends_within_s,
        )
