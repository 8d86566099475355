"""``nvp up``, ``down``, ``status``, ``worker``: a stack that keeps running."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nvp_agentkit.cli import deployment, screen
from nvp_agentkit.cli.screen import Board
from nvp_agentkit.embedded import control
from nvp_agentkit.embedded.stack import StackEvent
from nvp_agentkit.embedded.stackfile import read_stack
from nvp_agentkit.embedded.supervisor import ends_on_signal
from nvp_agentkit.ensemble.keys import init_keys
from nvp_agentkit.errors import StackError
from nvp_agentkit.streams.connect import connect
from nvp_agentkit.streams.health import WorkerState, workers

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder of the stack. [NVP_DATA_DIR, default .nvp]")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of words.")]
FOLLOW_S = 0.1


def up(
    data_dir: DataDir = None,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay here until Ctrl-C instead of going to the background.")
    ] = False,
) -> None:
    """Start the stack: stores (unless NVP_REDIS_URL and NVP_NEO4J_URI name others) and all workers.

    [dim]Example:[/dim] nvp up && nvp account create ace-1 --limit-j 500
    """
    settings = deployment.settings_for(data_dir)
    if foreground:
        asyncio.run(_serve(settings.data_dir, data_dir))
        return
    log = settings.data_dir / "logs" / "stack.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "nvp_agentkit.cli", "up", "--foreground", "--data-dir", str(settings.data_dir)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _follow(daemon, log)


async def _serve(folder: Path, data_dir: Path | None) -> None:
    """Run the stack until a signal; each event is a JSON line on standard output."""

    def tell(event: StackEvent) -> None:
        print(json.dumps({"name": event.name, "state": event.state, "detail": event.detail}), flush=True)

    with ends_on_signal():
        async with deployment.supervisor(deployment.settings_for(data_dir), tell) as running:
            await running.ready(timeout_s=deployment.READY_S)
            tell(StackEvent("stack", "ready", str(folder)))
            await asyncio.Event().wait()


def _follow(daemon: subprocess.Popen[bytes], log: Path) -> None:
    """Show the background stack's lines until it is ready.

    Raises:
        StackError: it ended before; its last words.
    """
    console = screen.console()
    board = Board(console)
    with log.open() as lines, board.shown():
        while True:
            line = lines.readline()
            if not line:
                if daemon.poll() is not None:
                    raise StackError(f"the stack did not come up: {_last_words(log)}")
                time.sleep(FOLLOW_S)
                continue
            if not line.startswith("{"):
                continue
            event = StackEvent(**json.loads(line))
            if event.name == "stack":
                break
            board(event)
    console.print(
        f"Running in the background on {log.parent.parent}. Next: nvp status, nvp account create ace-1, nvp down",
        soft_wrap=True,
    )


def _last_words(log: Path) -> str:
    said = [line for line in log.read_text(errors="replace").splitlines() if line and not line.startswith("{")]
    return said[-1].partition(": ")[2] or said[-1] if said else f"see {log}"


def down(data_dir: DataDir = None) -> None:
    """End the running stack; its data stays.

    [dim]Example:[/dim] nvp down
    """
    pid = asyncio.run(control.down(deployment.settings_for(data_dir).data_dir))
    typer.echo(f"stack ended (process {pid})")


def status(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Say what runs, where, and whether it is ready. Exit status 1 if something is not.

    [dim]Example:[/dim] nvp status --json
    """
    settings = deployment.settings_for(data_dir)
    if settings.redis_url is None:
        stack = read_stack(settings.data_dir)
        settings, pid = stack.over(settings), stack.pid
    else:
        pid = None

    async def look() -> list[WorkerState]:
        redis = await connect(settings)
        try:
            return await workers(redis)
        finally:
            await redis.aclose()

    seen = asyncio.run(look())
    missing = sorted(set(deployment.WORKERS) - {one.name for one in seen})
    ready = not deployment.unready(seen)
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "ready": ready,
                    "pid": pid,
                    "data_dir": str(settings.data_dir),
                    "workers": [asdict(one) for one in seen],
                    "missing": missing,
                }
            )
        )
    else:
        for one in seen:
            typer.echo(f"{one.name:<10} {one.state:<9} {one.instance} pid {one.pid:<8} {one.detail}")
        for name in missing:
            typer.echo(f"{name:<10} missing")
        typer.echo(f"data folder {settings.data_dir}" + (f", supervisor pid {pid}" if pid else ""))
    raise typer.Exit(0 if ready else 1)


def worker(name: Annotated[str, typer.Argument(help="training, inference, shadow-N, tally or recorder")]) -> None:
    """Run one worker here, as compose and Kubernetes do; settings come from NVP_* variables.

    [dim]Example:[/dim] NVP_REDIS_URL=redis://... nvp worker shadow-1
    """
    os.execv(sys.executable, [sys.executable, "-m", "nvp_agentkit.workers", name])  # noqa: S606 - becoming it is the purpose


def keys(data_dir: DataDir = None) -> None:
    """Make the deployment's root key and the voters' and tally's keys; what is there already is kept.

    `nvp up` does this by itself; compose runs it once before the workers.

    [dim]Example:[/dim] nvp keys --data-dir /var/lib/nvp
    """
    settings = deployment.settings_for(data_dir)
    init_keys(settings.keys_dir, deployment.SIGNERS)
    typer.echo(f"keys in {settings.keys_dir}; verifiers need root.pub alone")
