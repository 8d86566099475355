"""``nvp up``, ``down``, ``status``, ``worker``, ``keys``: a stack that keeps running."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nvp_agentkit.cli import beside, deployment, extras
from nvp_agentkit.cli.options import INTERRUPTED, AsJson, DataDir, say_json

if TYPE_CHECKING:
    from nvp_agentkit.cli.jobs import Job
    from nvp_agentkit.cli.screen import Board
    from nvp_agentkit.embedded.stack import StackEvent
    from nvp_agentkit.settings import Settings
    from nvp_agentkit.streams.health import WorkerState

FOLLOW_S = 0.1


def up(
    data_dir: DataDir = None,
    foreground: Annotated[
        bool,
        typer.Option("--foreground", help="Stay here until Ctrl-C; with --json each event is a JSON line."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start the stack in the background: stores and workers.

    The stores are embedded ones, unless NVP_REDIS_URL and NVP_NEO4J_URI name servers elsewhere. Returns once every
    worker is ready; a stack that is ready already is left as it is, and one that is starting is waited for.

    [dim]Example:[/dim] nvp up && nvp account create ace-1 --limit-j 500
    """
    from nvp_agentkit.cli.screen import Board, console
    from nvp_agentkit.errors import DataFolderInUse

    settings = deployment.settings_for(data_dir)
    extras.need_for_stack(settings)
    board = Board(console(stderr=as_json))
    if foreground:
        asyncio.run(_serve(settings, None if as_json else board))
        return
    there, pid = beside.ready_already(settings), None
    if there is None:
        try:
            pid = _in_background(settings.data_dir, board)
        except DataFolderInUse:
            there = beside.once_ready(settings)
    pid = there or pid
    if as_json:
        say_json({"ready": True, "pid": pid, "data_dir": str(settings.data_dir)})
        return
    typer.echo(f"Running {'already' if there else 'in the background'} on {settings.data_dir}")
    typer.echo("Next: nvp account create ace-1, nvp status, nvp logs, nvp down")


async def _serve(settings: Settings, board: Board | None) -> None:
    """Run the stack until a signal; without a board each event is a line of JSON on standard output."""
    from nvp_agentkit.embedded.stack import StackEvent
    from nvp_agentkit.embedded.supervisor import ends_on_signal

    tell: Callable[[StackEvent], None] = board or _tell_in_json
    running, ready = deployment.supervisor(settings, tell), False
    with ends_on_signal():
        try:
            with board.shown() if board else nullcontext():
                await running.start()
                await running.ready(timeout_s=deployment.READY_S)
            ready = True
            if board:
                typer.echo(f"Running on {settings.data_dir}. Ctrl-C ends it.")
            else:
                tell(StackEvent("stack", "ready", str(settings.data_dir)))
            await asyncio.Event().wait()
        finally:
            await running.stop()
    if board:
        typer.echo("\nended; the data stays")
    if not ready:
        raise typer.Exit(INTERRUPTED)


def _tell_in_json(event: StackEvent) -> None:
    at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    level = "warning" if event.state == "restarting" else "info"
    line = {"timestamp": at, "level": level, "name": event.name, "state": event.state, "detail": event.detail}
    print(json.dumps(line), flush=True)


def _in_background(folder: Path, board: Board) -> int:
    """Start the stack as a process of its own and show its lines until it is ready; its pid.

    Raises:
        NvpError: it ended before; the error it ended with.
    """
    from nvp_agentkit.embedded.stack import claim

    claim(folder).release()  # what is wrong with the folder is said now: a full disk could not even take the log
    log = folder / "logs" / "stack.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("ab") as output:
        begins = output.tell()
        daemon = subprocess.Popen(
            [sys.executable, "-m", "nvp_agentkit.cli", "up", "--foreground", "--json", "--data-dir", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with board.shown():
            _follow(daemon, log, begins, board)
    except BaseException as error:
        daemon.terminate()
        daemon.wait()
        if isinstance(error, KeyboardInterrupt):
            typer.echo("\ninterrupted; everything it started has ended", err=True)
        raise
    return daemon.pid


def _follow(daemon: subprocess.Popen[bytes], log: Path, begins: int, board: Board) -> None:
    from nvp_agentkit.embedded.stack import StackEvent
    from nvp_agentkit.errors import StackError, from_wire

    with log.open("rb") as lines:
        lines.seek(begins)
        line = b""
        while True:
            ended = daemon.poll() is not None  # asked before the line is: what it said last is read then
            line += lines.readline()
            if not line.endswith(b"\n"):  # nothing, or half of what is being written
                if ended:
                    raise StackError(f"the stack did not come up; see {log}")
                time.sleep(FOLLOW_S)
                continue
            said, line = _document(line), b""
            if "error" in said:
                raise from_wire(said["error"], said["detail"])
            if "state" not in said:
                continue
            event = StackEvent(said["name"], said["state"], said["detail"])
            if event.name == "stack":
                return
            board(event)


def _document(line: bytes) -> dict[str, Any]:
    """The JSON object of a line; empty for what a library has said in plain words."""
    return json.loads(line) if line.startswith(b"{") else {}


def down(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """End the running stack; its data stays.

    [dim]Example:[/dim] nvp down
    """
    from nvp_agentkit.embedded import control

    folder = deployment.settings_for(data_dir).data_dir
    pid = asyncio.run(control.down(folder))
    if as_json:
        say_json({"ended": True, "pid": pid, "data_dir": str(folder)})
        return
    typer.echo(f"stack ended (process {pid}); its data stays in {folder}")


def status(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Say what runs, where, whether it is ready, and list its jobs.

    Exit status 1 if a worker is missing or not ready; `nvp doctor` looks for the reason.

    [dim]Example:[/dim] nvp status --json
    """
    from nvp_agentkit.cli.screen import console, state_line
    from nvp_agentkit.embedded.stackfile import read_stack

    settings, pid = deployment.settings_for(data_dir), None
    if settings.redis_url is None:
        stack = read_stack(settings.data_dir)
        settings, pid = stack.over(settings), stack.pid
    seen, not_ended = asyncio.run(_look(settings))
    missing = sorted(set(deployment.WORKERS) - {one.name for one in seen})
    ready = not deployment.unready(seen)
    if as_json:
        workers, listed = [asdict(one) for one in seen], [job.as_json() for job in not_ended]
        place = {"ready": ready, "pid": pid, "data_dir": str(settings.data_dir)}
        say_json(place | {"workers": workers, "missing": missing, "jobs": listed})
    else:
        screen = console()
        for one in seen:
            screen.print(state_line(one.name, one.state, f"{one.instance} pid {one.pid:<8}", one.detail))
        for name in missing:
            screen.print(state_line(name, "missing", f"nvp logs {name}"))
        for job in not_ended:
            typer.echo(str(job))
        typer.echo(f"data folder {settings.data_dir}" + (f", supervisor pid {pid}" if pid else ""))
    raise typer.Exit(0 if ready else 1)


async def _look(settings: Settings) -> tuple[list[WorkerState], list[Job]]:
    from nvp_agentkit.cli import jobs
    from nvp_agentkit.streams.connect import connect
    from nvp_agentkit.streams.health import workers

    redis = await connect(settings)
    try:
        return await workers(redis), await jobs.not_ended(redis)
    finally:
        await redis.aclose()


def _worker_names(typed: str) -> list[str]:
    return [name for name in deployment.WORKERS if name.startswith(typed)]


def worker(
    name: Annotated[
        str,
        typer.Argument(
            help="training, inference, shadow-N, tally or recorder.", metavar="NAME", autocompletion=_worker_names
        ),
    ],
) -> None:
    """Run one worker in this process, as compose and Kubernetes do.

    Its settings come from NVP_* variables; it logs to standard error, as JSON unless NVP_LOG_FORMAT=text.

    [dim]Example:[/dim] NVP_REDIS_URL=redis://... nvp worker shadow-1
    """
    extras.need_for_worker(name)
    os.execv(sys.executable, [sys.executable, "-m", "nvp_agentkit.workers", name])  # noqa: S606 - becoming it is the purpose


def keys(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Make a deployment's keys: root, voters, tally.

    What is there already is kept. `nvp up` does this by itself; compose runs it once before the workers.

    [dim]Example:[/dim] nvp keys --data-dir /var/lib/nvp
    """
    from nvp_agentkit.ensemble.keys import init_keys

    folder = deployment.settings_for(data_dir).keys_dir
    init_keys(folder, deployment.SIGNERS)
    if as_json:
        say_json({"keys_dir": str(folder), "root_key": str(folder / "root.pub"), "signers": deployment.SIGNERS})
        return
    typer.echo(f"keys in {folder}; verifiers need root.pub alone")
