"""The demo's acts, in order. Each is what an agent or an operator would do, through the same doors."""

from __future__ import annotations

import asyncio
import resource
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from nvp_agentkit.cli import deployment, jobs, payer
from nvp_agentkit.cli.demo import acts, lineage, sabotage
from nvp_agentkit.cli.demo.options import Options
from nvp_agentkit.cli.screen import Board
from nvp_agentkit.client import AgentClient, Forecast
from nvp_agentkit.client.place import find_as_owner
from nvp_agentkit.embedded.supervisor import Supervisor, ends_on_signal
from nvp_agentkit.energy.accounts import joules
from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.energy.meter import modelled
from nvp_agentkit.messages import JobCompleted
from nvp_agentkit.messages.checks import millijoules
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams.connect import connect

ACCOUNT = payer.DEMO
OWNER = "nvp demo"
LEASE_S = 4.0  # a worker that was killed takes as long to come back; alone in its group it is robbed by nobody
DRAIN_S = 1.0  # whoever interrupts it wants an end, not the rest of a training
ROOM_J = 200.0  # beside the training: data, votes, and what the refusals are measured against


@dataclass(frozen=True)
class Played:
    """What the acts came to; ``unseen_cpu_s`` are CPU-seconds that no rusage will tell."""

    trained: JobCompleted
    forecast: Forecast
    picture: Path
    charged_mj: int
    unseen_cpu_s: float

    def as_json(self, options: Options) -> dict[str, Any]:
        """What a program wants to know of it."""
        champion, baselines = self.trained.members[0], self.trained.baselines
        certificate = options.settings.data_dir / "demo" / "certificate.json"
        return {
            "request_id": self.forecast.request_id,
            "skill": champion.skill,
            "baseline": min(baselines, key=lambda name: baselines[name]),
            "training_mj": self.trained.energy.mj,
            "charged_mj": self.charged_mj,
            "method": self.trained.energy.method,
            "certificate": str(certificate) if options.keep else None,
            "picture": str(self.picture),
        }


async def tell(options: Options, console: Console) -> Played | None:
    """Play all acts; None when interrupted. Whatever happens, what was started is ended."""
    began, own = time.monotonic(), True
    with ends_on_signal() as interrupted:
        async with AsyncExitStack() as stack:
            there = await deployment.already_there(options.settings)
            own = not there
            settings, running = await stack.enter_async_context(_stack(options, console, there))
            played = await _play(options, settings, running, console)
            _closing(console, options, own=own)
    if interrupted():
        left = "everything it started has ended"
        if not own:
            left = await jobs.that_go_on(find_as_owner(options.settings).settings, ACCOUNT)
        console.print(f"\ninterrupted; {left}", soft_wrap=True)
        return None
    seconds, charged = time.monotonic() - began, joules(played.charged_mj)
    if own:
        _account_for_all(console, seconds, charged, played.unseen_cpu_s)
    else:
        console.print(f"\n{charged} charged to account {ACCOUNT} in {seconds:.0f} s.")
    return played


async def _play(options: Options, settings: Settings, running: Supervisor | None, console: Console) -> Played:
    """Acts two to seven."""
    redis = await connect(settings)
    try:
        room_mj = millijoules(options.budget_j + ROOM_J)
        await deployment.account_with_room(redis, settings, ACCOUNT, room_mj=room_mj, owner=OWNER)
        before = await Ledger(redis).balance(ACCOUNT)
        unseen_cpu_s = 0.0
        async with AgentClient.connect(ACCOUNT, settings=settings) as nvp:
            dataset = await acts.data(nvp, options, console)
            trained = await acts.train(nvp, dataset, options, console)
            answer = await acts.quorum(nvp, dataset, trained, options, console)
            # Beside the next acts, which wait for processes to start: drawing takes a core for two seconds.
            drawing = asyncio.create_task(asyncio.to_thread(acts.picture, dataset, answer, options))
            await acts.refusals(nvp, redis, dataset, options, console)
            if running is not None and options.settings.embedded:
                stage = sabotage.Stage(nvp, redis, running, console)
                unseen_cpu_s = await sabotage.play(stage, dataset, trained, options.seed)
            else:
                sabotage.leave_out(console)
            await lineage.remember(nvp, settings, answer, trained, console)
        picture = await drawing
        console.print(f"   picture: {acts.shown(picture)}", soft_wrap=True)
        charged_mj = (await Ledger(redis).balance(ACCOUNT)).spent_mj - before.spent_mj
        return Played(trained, answer.forecast, picture, charged_mj, unseen_cpu_s)
    finally:
        await redis.aclose()


@asynccontextmanager
async def _stack(options: Options, console: Console, there: str) -> AsyncIterator[tuple[Settings, Supervisor | None]]:
    """Settings that lead to a running stack, and its supervisor where that is the demo's own."""
    if there:
        acts.title(console, 1, "A stack that runs already")
        console.print(f"   using {there}", soft_wrap=True)
        yield find_as_owner(options.settings).settings, None
        return
    acts.title(console, 1, "A stack of real stores and separate processes, on 127.0.0.1")
    board = Board(console)
    with board.shown():
        given = options.settings
        brief = {"lease_s": min(given.lease_s, LEASE_S), "drain_timeout_s": min(given.drain_timeout_s, DRAIN_S)}
        running = deployment.supervisor(given.model_copy(update=brief), board)
        try:
            settings = await running.start()
            await running.ready(timeout_s=deployment.READY_S)
        except BaseException:
            await running.stop()
            raise
    try:
        yield settings, running
    finally:
        await running.stop()


def _closing(console: Console, options: Options, *, own: bool) -> None:
    acts.title(console, 8, "Next")
    folder = options.settings.data_dir
    activate = Path(sys.prefix) / "bin" / "activate"
    if shutil.which("nvp") is None and activate.exists():
        console.print(f"   . {acts.shown(activate)}        puts nvp on PATH", soft_wrap=True)
    if options.keep:
        console.print(f"   nvp verify {acts.shown(folder / 'demo' / 'certificate.json')}", soft_wrap=True)
    if own:
        console.print("   nvp up                         the same stack, to stay")
    console.print("   nvp account create ace-1       joules for an agent; then AgentClient.connect(account='ace-1')")
    console.print("   nvp demo --data FILE.npz:NAME  the same on a field of yours")
    if own and options.keep:
        console.print(f"   [dim]stopping; data stays in {acts.shown(folder)}[/]", soft_wrap=True)


def _account_for_all(console: Console, seconds: float, charged: str, unseen_cpu_s: float) -> None:
    # Everything else that this process started has ended and was waited for, so the kernel knows its CPU-seconds.
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s = unseen_cpu_s + sum(one.ru_utime + one.ru_stime for one in usage)
    whole = modelled(cpu_s)
    console.print(
        f"\nWhole demo: {seconds:.0f} s, {cpu_s:.0f} CPU-s, {joules(whole.mj)} {whole.method} "
        f"({joules(whole.lo_mj)} to {joules(whole.hi_mj)}); {charged} of it charged to account {ACCOUNT}, "
        "the rest is start-up, stores, compiling for service and this picture. Nothing is left running."
    )
