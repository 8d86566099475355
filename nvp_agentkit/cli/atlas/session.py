"""Where an atlas command works: at the stack that runs, or at one that is there for as long as the command takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import typer

from nvp_agentkit.cli import deployment, extras, jobs, payer
from nvp_agentkit.cli.options import INTERRUPTED
from nvp_agentkit.cli.screen import console, say
from nvp_agentkit.client import AgentClient
from nvp_agentkit.client.place import find_as_owner
from nvp_agentkit.embedded.supervisor import ends_on_signal
from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.messages.checks import millijoules
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams.connect import connect

OWNER = "nvp atlas"
WORKERS = ("training", "recorder")
T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` to its end; a signal ends it in order, with all it has started."""
    return asyncio.run(_in_order(work))


async def _in_order(work: Coroutine[Any, Any, T]) -> T:
    with ends_on_signal():
        return await work
    raise typer.Exit(INTERRUPTED)  # a signal has ended the block


@asynccontextmanager
async def stack(settings: Settings, workers: Sequence[str] = ()) -> AsyncIterator[Settings]:
    """Settings that lead to a running stack; where there is none, one with ``workers`` is started, and ended after."""
    if await deployment.already_there(settings):
        there = find_as_owner(settings).settings
        try:
            yield there
        except asyncio.CancelledError:
            say(console(stderr=True), f"interrupted; {await jobs.that_go_on(there)}")
            raise
        return
    extras.need_for_stack(settings)
    folder = settings.data_dir
    say(console(stderr=True), f"no stack runs on {folder}: one starts for this command and ends with it (or: nvp up)")
    running = deployment.supervisor(settings, lambda event: None, workers)
    try:
        there = await running.start()
        await running.ready(timeout_s=deployment.READY_S)
        yield there
    finally:
        await running.stop()


@dataclass(frozen=True)
class Order:
    """Who pays, how much each job may cost, and where: at the stack of ``settings``."""

    settings: Settings
    account: str | None
    budget_j: float

    @asynccontextmanager
    async def client(self, jobs: int = 1) -> AsyncIterator[tuple[AgentClient, Settings]]:
        """A client for so many ``jobs``, and the settings of its stack. When it is left, the graph knows all it did."""
        async with stack(self.settings, WORKERS) as there:
            account = self.account or self.settings.account
            if account is None:
                account = await _default_account(there, jobs * self.budget_j)
            async with AgentClient.connect(account, settings=there) as nvp:
                yield nvp, there
                await nvp.recorded()


async def _default_account(settings: Settings, budget_j: float) -> str:
    """The only account here; else one for the atlas alone, which is opened and topped up as it is needed.

    Raises:
        InvalidInput: there are several, none of them the atlas'.
    """
    known = payer.logins(settings)
    opened = payer.opened(known)
    if opened and payer.ATLAS not in known:
        if len(opened) > 1:
            raise InvalidInput(f"several accounts have a login here; say who pays: --account {' or '.join(opened)}")
        return opened[0]
    redis = await connect(settings)
    try:
        room_mj = millijoules(budget_j)
        await deployment.account_with_room(redis, settings, payer.ATLAS, room_mj=room_mj, owner=OWNER)
    finally:
        await redis.aclose()
    return payer.ATLAS
