"""A store that runs as our child: what it is called, where it listens, and waiting until it answers."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from nvp_agentkit.embedded import children, place
from nvp_agentkit.errors import PortTaken, StackError, StoreEnded

STOP_S = 5.0  # ArcadeDB takes up to 2.6 s for an orderly end
ANSWER_S = 2.0
PORT_ATTEMPTS = 5
TAKEN = ("address already in use", "unable to listen")  # how Valkey and ArcadeDB say it; ArcadeDB lives on


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
        """End the store in order, within `STOP_S` seconds; what it acknowledged is on disk."""
        await children.end(self.process, grace_s=STOP_S)


async def start(
    name: str, port: int | None, launch: Callable[[int], Server], answers: Callable[[Server], Awaitable[bool]],
    *, timeout_s: float,
) -> Server:  # fmt: skip
    """Launch a store on ``port``, or on a free one, and wait until it answers a query.

    Raises:
        PortTaken: the asked port is in use. A free one that is lost in a race is replaced silently.
        StoreEnded: the store ended, by itself or by a signal; the text holds the end of its log.
        StackError: it stayed silent.
    """
    for _ in range(PORT_ATTEMPTS):
        server = launch(place.claim_port(port, store=name))
        try:
            await _until_ready(server, answers, timeout_s)
        except PortTaken:
            if port is not None:
                raise
        else:
            return server
    raise StackError(f"{name}: {PORT_ATTEMPTS} free ports in a row were taken by other programs; try again")


async def _until_ready(server: Server, answers: Callable[[Server], Awaitable[bool]], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    try:
        while not await _in_time(answers(server)):
            _check(server)
            if time.monotonic() > deadline:
                raise StackError(f"{server.name} answered no query within {timeout_s:g} s; see {server.log}")
            await asyncio.sleep(children.POLL_S)
    except BaseException:  # a cancelled start leaves nothing behind either
        await server.stop()
        raise


async def _in_time(answer: Awaitable[bool]) -> bool:
    """False if nothing came in time: a stranger's server may take the connection and stay silent."""
    try:
        return await asyncio.wait_for(answer, ANSWER_S)
    except TimeoutError:
        return False


def _check(server: Server) -> None:
    alive = server.alive  # before the log is read: what it said last is in there then
    tail = server.log.read_bytes()[-2000:].decode(errors="replace").strip()
    if any(sign in tail.lower() for sign in TAKEN):
        raise PortTaken(f"{server.name}: port {server.port} was taken by another program; ask for another")
    if not alive:
        raise StoreEnded(f"{server.name} ended with status {server.process.returncode} before it was ready; "
                         f"the end of {server.log}:\n{tail}")
