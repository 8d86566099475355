"""The demo's acts, in order. Each is what an agent or an operator would do, through the same doors."""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import Redis
from rich.console import Console

from nvp_agentkit.cli import deployment
from nvp_agentkit.cli.demo import acts, lineage
from nvp_agentkit.cli.screen import Board
from nvp_agentkit.client import AgentClient
from nvp_agentkit.client.place import find
from nvp_agentkit.embedded.stackfile import read_stack
from nvp_agentkit.embedded.supervisor import ends_on_signal
from nvp_agentkit.energy.accounts import joules
from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.energy.meter import modelled
from nvp_agentkit.errors import StackNotRunning
from nvp_agentkit.messages.checks import millijoules
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams.connect import connect

ACCOUNT = "demo"
OWNER = "nvp demo"
ROOM_J = 150.0  # beside the training: data, votes, and what the refusals are measured against


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line."""

    settings: Settings
    data: str | None
    units: str
    budget_j: float
    size: int
    seed: int
    keep: bool


async def tell(options: Options, console: Console) -> bool:
    """Play all acts; False when interrupted. Whatever happens, what was started is ended."""
    began = time.monotonic()
    with ends_on_signal() as interrupted:
        async with AsyncExitStack() as stack:
            there = await already_there(options.settings)
            own = not there
            settings = await stack.enter_async_context(_stack(options, console, there))
            charged_mj = await _play(options, settings, console)
            _closing(console, options, own=own)
    if interrupted():
        console.print("\ninterrupted; everything it started has ended")
        return False
    _account_for_all(console, time.monotonic() - began, charged_mj, own=own)
    return True


async def _play(options: Options, settings: Settings, console: Console) -> int:
    """Acts two to six; returns the millijoules that the account was charged."""
    redis = await connect(settings)
    try:
        await _account(redis, settings, options.budget_j)
        before = await Ledger(redis).balance(ACCOUNT)
        async with AgentClient.connect(ACCOUNT, settings=settings) as nvp:
            dataset = await acts.data(nvp, options, console)
            trained = await acts.train(nvp, dataset, options, console)
            forecast = await acts.quorum(nvp, dataset, trained, options, console)
            await acts.refusals(nvp, redis, dataset, options, console)
            await lineage.remember(nvp, settings, forecast, trained, console)
        acts.picture(dataset, forecast, options, console)
        return (await Ledger(redis).balance(ACCOUNT)).spent_mj - before.spent_mj
    finally:
        await redis.aclose()


async def already_there(settings: Settings) -> str:
    """The stack that runs already, in words: that of the stream server named, or of the data folder. Else empty."""
    if settings.redis_url is not None:
        seen = Counter(one.name for one in await deployment.deployed(settings) if one.state == "ready")
        return ", ".join(name if count == 1 else f"{name} x {count}" for name, count in seen.items())
    try:
        read_stack(settings.data_dir)
    except StackNotRunning:
        return ""
    return f"the stack on {settings.data_dir}"


@asynccontextmanager
async def _stack(options: Options, console: Console, there: str) -> AsyncIterator[Settings]:
    if there:
        acts.title(console, 1, "A stack that runs already")
        console.print(f"   using {there}", soft_wrap=True)
        yield find(options.settings.model_copy(update={"account": None})).settings
        return
    acts.title(console, 1, "A stack of real stores and separate processes, on 127.0.0.1")
    board = Board(console)
    with board.shown():
        running = deployment.supervisor(options.settings, board)
        try:
            settings = await running.start()
            await running.ready(timeout_s=deployment.READY_S)
        except BaseException:
            await running.stop()
            raise
    try:
        yield settings
    finally:
        await running.stop()


async def _account(redis: Redis, settings: Settings, budget_j: float) -> None:
    """An energy account with room for this demo, however often it was played before."""
    room_mj = millijoules(budget_j + ROOM_J)
    await deployment.open_account(redis, settings, ACCOUNT, limit_mj=room_mj, owner=OWNER)
    free = (await Ledger(redis).balance(ACCOUNT)).free_mj
    if free < room_mj:
        await Ledger(redis).top_up(ACCOUNT, room_mj - free)


def _closing(console: Console, options: Options, *, own: bool) -> None:
    acts.title(console, 7, "Next")
    folder = options.settings.data_dir
    if options.keep:
        console.print(f"   nvp verify {acts.shown(folder / 'demo' / 'certificate.json')}", soft_wrap=True)
    console.print("   nvp up                         the same stack, to stay; then AgentClient.connect(account=...)")
    console.print("   nvp demo --data FILE.npz:NAME  the same on a field of yours")
    if own and options.keep:
        console.print(f"   [dim]stopping; data stays in {acts.shown(folder)}[/]", soft_wrap=True)


def _account_for_all(console: Console, seconds: float, charged_mj: int, *, own: bool) -> None:
    if not own:
        console.print(f"\n{joules(charged_mj)} charged to account {ACCOUNT} in {seconds:.0f} s.")
        return
    # Everything this process started has ended and was waited for, so the kernel knows its CPU-seconds.
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s = sum(one.ru_utime + one.ru_stime for one in usage)
    whole = modelled(cpu_s)
    console.print(
        f"\nWhole demo: {seconds:.0f} s, {cpu_s:.0f} CPU-s, {joules(whole.mj)} {whole.method} "
        f"({joules(whole.lo_mj)} to {joules(whole.hi_mj)}); {joules(charged_mj)} of it charged to account {ACCOUNT}, "
        "the rest is start-up, stores, compiling for service and this picture. Nothing is left running."
    )
