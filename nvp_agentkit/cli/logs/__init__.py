"""``nvp logs``: what workers and stores have written, in the order of time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nvp_agentkit.cli import deployment
from nvp_agentkit.cli.logs.lines import Level
from nvp_agentkit.cli.options import DataDir

if TYPE_CHECKING:
    from nvp_agentkit.cli.logs.lines import Line

STORES = ("valkey", "arcadedb")
POLL_S = 0.2


def files(folder: Path) -> dict[str, Path]:
    """The logs of a data folder by name: one a worker, one a store, and ``stack``, what their keeper saw."""
    workers = {path.stem: path for path in sorted((folder / "logs").glob("*.log"))}
    stores = {name: folder / name / f"{name}.log" for name in STORES}
    return workers | {name: path for name, path in stores.items() if path.exists()}


def _names(typed: str) -> list[str]:
    return [name for name in files(deployment.settings_for(None).data_dir) if name.startswith(typed)]


def command(
    worker: Annotated[
        str | None,
        typer.Argument(
            help="A worker, `valkey`, `arcadedb` or `stack`.",
            metavar="WORKER",
            show_default="all",
            autocompletion=_names,
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, metavar="N", help="How many lines.")] = 50,
    level: Annotated[Level, typer.Option(help="Least level shown; lines that name none are shown.")] = Level.debug,
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line, as it was written.")] = False,
) -> None:
    """Show what workers and stores have logged last.

    All logs of the data folder are merged by time, also those of a stack that has ended. In compose and Kubernetes
    workers log to standard error, and the engine keeps it.

    [dim]Examples:[/dim] nvp logs shadow-1 --lines 20  ·  nvp logs --follow --level warning
    """
    from nvp_agentkit.cli.logs.tail import Log
    from nvp_agentkit.cli.screen import console, say

    folder = deployment.settings_for(data_dir).data_dir
    logs = [Log(name, path) for name, path in _chosen(folder, worker).items()]
    screen = console()

    def show(found: list[Line]) -> None:
        for line in found:
            if as_json:
                typer.echo(line.as_json())
            else:
                say(screen, line.as_text())

    def fresh() -> list[Line]:
        wanted = (line for log in logs for line in log.fresh() if line.reaches(level))
        return sorted(wanted, key=lambda line: line.at)

    found = fresh()
    show(found[max(len(found) - lines, 0) :])
    while follow:
        time.sleep(POLL_S)
        show(fresh())


def _chosen(folder: Path, name: str | None) -> dict[str, Path]:
    from nvp_agentkit.errors import StackNotRunning, UnknownName

    known = files(folder)
    if not known:
        raise StackNotRunning(
            f"no logs on data folder {folder}; `nvp up` starts a stack there, --data-dir names another folder"
        )
    if name is not None and name not in known:
        raise UnknownName(f"no log of {name!r} on data folder {folder}; there are {', '.join(known)}")
    return known if name is None else {name: known[name]}
