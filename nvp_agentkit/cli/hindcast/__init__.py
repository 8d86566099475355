"""``nvp hindcast``: forecasts from a whole archive, as one job and one Zarr store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nvp_agentkit.cli import deployment, extras
from nvp_agentkit.cli.options import FAILED, AsJson, DataDir, say_json

if TYPE_CHECKING:
    from nvp_agentkit.cli.hindcast.making import Made


THE_FILES = "the file's"
Data = Annotated[str, typer.Option(help="Zarr, NetCDF, HDF5, .npz or .npy; which array of it.", metavar="FILE[:NAME]")]
Out = Annotated[Path, typer.Option(help="The Zarr store to write, .zarr.", metavar="FOLDER")]
Domain = Annotated[str, typer.Option(help="Whose ensemble forecasts.", metavar="NAME")]
Steps = Annotated[int, typer.Option(help="Frames ahead, from each start.", metavar="N", min=1)]
Every = Annotated[int, typer.Option(help="Start from every K-th frame.", metavar="K", min=1)]
Model = Annotated[
    str | None,
    typer.Option(help="A member's id, an ensemble's digest.", metavar="ID", show_default="who serves"),
]
Units = Annotated[str, typer.Option(help="Units of the values; 1: those that the file names, if it does.")]
Seconds = Annotated[
    float | None, typer.Option("--dt-s", help="Seconds between frames.", metavar="S", show_default=THE_FILES)
]
Metres = Annotated[
    float | None, typer.Option("--dx-m", help="Metres between cells.", metavar="M", show_default=THE_FILES)
]
Budget = Annotated[
    float, typer.Option("--budget-j", help="Joules each job may cost: reading the file, forecasting.", metavar="J")
]
Partial = Annotated[bool, typer.Option("--partial", help="Begin although the joules will not reach to the end.")]
Deadline = Annotated[float, typer.Option("--deadline-s", help="How long it may take.", metavar="S")]
Account = Annotated[
    str | None, typer.Option(help="Who pays.", metavar="NAME", show_default="NVP_ACCOUNT, else the only one here")
]


def command(
    data: Data,
    out: Out,
    domain: Domain,
    steps: Steps,
    every: Every = 1,
    model: Model = None,
    units: Units = "1",
    dt_s: Seconds = None,
    dx_m: Metres = None,
    budget_j: Budget = 200.0,
    partial: Partial = False,
    deadline_s: Deadline = 86_400.0,
    account: Account = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Forecast N frames ahead from every frame of an archive.

    One job, part by part. Whatever stops it, a kill, spent joules or a full disk, the same command goes on from there,
    pays for the rest alone, and ends with the bytes of a run that nothing disturbed; until then FOLDER.partial holds
    what is there. Says the skill at each lead time over persistence and over the best trivial forecaster.

    [dim]Example:[/dim] nvp hindcast --data rain.zarr --out forecasts.zarr --domain rain --steps 8
    """
    extras.need("data")
    from nvp_agentkit.cli.atlas import session
    from nvp_agentkit.cli.hindcast.making import Wanted, make

    asked = {"domain": domain, "steps": steps, "every": every, "model": model, "partial": partial}
    meaning = {"units": units, "dt_s": dt_s, "dx_m": dx_m}
    wanted = Wanted.of(data, out, asked, meaning, budget_j=budget_j, deadline_s=deadline_s)
    made = session.run(make(deployment.settings_for(data_dir), account, wanted))
    if as_json:
        say_json(document(made))
    else:
        typer.echo("\n".join(lines(made)))
    if not made.whole:
        raise typer.Exit(FAILED)


def document(made: Made) -> dict[str, Any]:
    """For a program."""
    return {
        "out": str(made.path),
        "whole": made.whole,
        "stopped_by": made.stopped_by,
        "job_id": made.job_id,
        "mj": made.mj,
        **made.begun.facts(),
        "parts": made.parts,
        "parts_in_all": made.parts_in_all,
        "skill": made.skill,
    }


def lines(made: Made) -> list[str]:
    """In words, one fact a line."""
    from nvp_agentkit.energy.accounts import joules

    told = [
        f"lead {one['lead']}: VRMSE {one['vrmse']:.4f}, skill {one['over_persistence']:+.3f} over persistence, "
        f"{one['over_best']:+.3f} over {one['best']}"
        for one in made.skill
    ]
    if made.job_id is None:
        return [f"{made.path} is there already, whole: nothing was asked for"]
    if made.whole:
        return [*told, f"wrote {made.path}: {made.parts} parts by {made.begun.model}, {joules(made.mj)}"]
    return [
        f"{made.stopped_by}: {made.parts} of {made.parts_in_all} parts are done, {joules(made.mj)}; "
        f"they lie in {made.partial}",
        "The same command goes on from there and pays for the rest alone; raise --budget-j or --deadline-s",
    ]
