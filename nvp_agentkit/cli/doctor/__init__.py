"""``nvp doctor``: find each missing or broken thing, and say the remedy."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from nvp_agentkit.cli.options import FAILED, AsJson, DataDir, say_json

if TYPE_CHECKING:
    from rich.console import Console

    from nvp_agentkit.cli.doctor.finding import Finding

MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "broken": ("✗", "red")}


def command(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Find what is missing or broken, and say the remedy.

    Looks at this machine, what is installed, the data folder, the keys, the servers that NVP_* variables name and the
    stack that runs. Changes nothing, but for one object of 20 bytes in an artifact store elsewhere. Exit status 1 if
    anything is broken; a warning alone is none.

    [dim]Example:[/dim] nvp doctor --data-dir /var/lib/nvp
    """
    from nvp_agentkit.cli.doctor.examine import examine
    from nvp_agentkit.cli.screen import console

    screen, found = console(), []
    for one in examine(data_dir):
        found.append(one)
        if not as_json:
            _show(screen, one)
    counted = Counter(one.state for one in found)
    if as_json:
        say_json({"healthy": not counted["broken"], "findings": [asdict(one) for one in found]})
    else:
        told = [f"{counted[state]} {state}" for state in ("broken", "warning") if counted[state]]
        typer.echo(", ".join(told) or "nothing is wrong")
    raise typer.Exit(FAILED if counted["broken"] else 0)


def _show(screen: Console, one: Finding) -> None:
    """One line; on a terminal too narrow for it, the rest stands below in its column."""
    from rich.table import Table
    from rich.text import Text

    from nvp_agentkit.cli.screen import say

    mark, style = MARKS[one.state]
    said = Text(one.what)
    if one.remedy:
        said.append(f"; {one.remedy}", "bold")
    if not screen.is_terminal:
        say(screen, Text.assemble(f"{mark} {one.name:<20} ", said))
        return
    line = Table.grid(padding=(0, 1))
    line.add_column(width=1)
    line.add_column(width=20)
    line.add_column()
    line.add_row(Text(mark, style), one.name, said)
    screen.print(line)
