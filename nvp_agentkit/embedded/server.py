"""A store that runs as our child: what it is called, where it listens, and waiting until it answers."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from nvp_agentkit.embedded import tether
from nvp_agentkit.errors import PortTaken, StackError

STOP_S = 5.0  # ArcadeDB takes 2.6 s for an orderly end
TAKEN = ("address already in use", "port is already", "bindexception")  # Valkey, ArcadeDB HTTP, ArcadeDB Bolt


@dataclass(frozen=True)
class Server:
    """A running store. ``stop`` is safe to call twice."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    password: str
    log: Path

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    async def stop(self) -> None:
        """End the store in order, within `STOP_S` seconds; what was acknowledged is on disk."""
        await tether.end(self.process, grace_s=STOP_S)


async def until_ready(server: Server, answers: Callable[[], Awaitable[bool]], *, timeout_s: float) -> Server:
    """Wait until a query is answered; an open port proves nothing (ArcadeDB's opens before its database).

    Raises:
        PortTaken: another process was faster at the port; choose another.
        StackError: the store ended or stayed silent; the text carries the end of its log.
    """
    deadline = time.monotonic() + timeout_s
    try:
        while not await answers():
            if not server.alive:
                raise _ended(server)
            if time.monotonic() > deadline:
                raise StackError(f"{server.name} answered no query within {timeout_s:g} s; see {server.log}")
            await asyncio.sleep(tether.POLL_S)
    except BaseException:  # a cancelled start leaves nothing behind either
        await server.stop()
        raise
    return server


def _ended(server: Server) -> StackError:
    tail = server.log.read_bytes()[-2000:].decode(errors="replace").strip()
    if any(sign in tail.lower() for sign in TAKEN):
        return PortTaken(f"{server.name}: port {server.port} was taken by another program")
    return StackError(f"{server.name} ended with status {server.process.returncode} before it was ready; "
                      f"the end of {server.log}:\n{tail}")
