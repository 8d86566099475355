"""``nvp demo``: the whole path, from an equation to a certified forecast, on real stores."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from nvp_agentkit.cli import deployment, extras, screen
from nvp_agentkit.cli.options import INTERRUPTED, AsJson, DataDir, say_json


def command(
    data: Annotated[
        str | None, typer.Option(help="A field of your own: NetCDF, HDF5, Zarr, .npz or .npy.", metavar="FILE[:NAME]")
    ] = None,
    units: Annotated[str, typer.Option(help="Units of --data; 1: the file's.")] = "1",
    budget_j: Annotated[float, typer.Option("--budget-j", help="Joules the training may use.")] = 360.0,
    size: Annotated[int, typer.Option(min=32, max=256, help="Cells a side of the simulation.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of simulation and training.")] = 0,
    ephemeral: Annotated[bool, typer.Option("--ephemeral", help="Keep nothing: use a temporary data folder.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show the whole path, from an equation to a certified forecast.

    Simulate, train under a joule budget, forecast by quorum, verify, trace: about two minutes. Starts a
    stack of its own on the data folder and ends it, or uses the one that runs there.

    [dim]Examples:[/dim] nvp demo  ·  nvp demo --data rain.npz:rain_mm_h --units mm/h
    """
    extras.need_for_stack(deployment.settings_for(data_dir))
    from nvp_agentkit.arrayfile import existing
    from nvp_agentkit.cli.demo.options import Options
    from nvp_agentkit.cli.demo.story import tell

    if data is not None:
        existing(data)  # said before anything starts
    # On a short path: the stores put sockets and locks there.
    with tempfile.TemporaryDirectory(prefix="nvp-") if ephemeral else nullcontext(None) as temporary:
        settings = deployment.settings_for(Path(temporary) if temporary else data_dir)
        options = Options(settings, data, units, budget_j, size, seed, keep=not ephemeral)
        played = asyncio.run(tell(options, screen.console(stderr=as_json)))
        if played is None:
            raise typer.Exit(INTERRUPTED)
        if as_json:
            say_json(played.as_json(options))
