"""``nvp train``: one network trained in this process, as the founding document's script does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nvp_agentkit.cli import extras
from nvp_agentkit.cli.model import become
from nvp_agentkit.cli.options import AsJson


def command(
    domain: Annotated[str, typer.Option(help="What the fields are of.", metavar="NAME")] = "plasma_physics",
    epochs: Annotated[int, typer.Option(help="Times that the data are gone through.", min=1)] = 50,
    batch_size: Annotated[int, typer.Option(help="Windows a step.", min=1)] = 8,
    lr: Annotated[float, typer.Option(help="Learning rate of Adam.")] = 1e-4,
    budget_j: Annotated[
        float | None,
        typer.Option("--budget-j", help="Joules it may use.", metavar="J", min=0, show_default="no limit"),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="A file of sequences; which array of it.", metavar="FILE[:NAME]",
            show_default="DOMAIN.npz, .h5, .nc or .zarr in data/ or here, else simulated",
        ),
    ] = None,
    trajectories: Annotated[int, typer.Option(help="Sequences to simulate.", min=3)] = 20,
    frames: Annotated[int, typer.Option(help="Frames of each.", min=3)] = 10,
    size: Annotated[int, typer.Option(help="Cells a side of each.", min=16)] = 64,
    seed: Annotated[int, typer.Option(help="Of simulation, first weights and order.", min=0)] = 0,
    parent: Annotated[
        Path | None,
        typer.Option(
            help="A model to go on from: its file, or `starter`.", metavar="FILE", show_default="fresh weights"
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="For checkpoints, metrics and model.", metavar="FOLDER")
    ] = Path("checkpoints"),
    as_json: AsJson = False,
) -> None:
    """Train one network here, epoch by epoch.

    Needs no stack and no account; joules are printed. Only jobs on a stack must carry a budget, and only they make an
    ensemble that agents can ask.

    [dim]Example:[/dim] nvp train --domain plasma_physics --epochs 50 --batch-size 8 --lr 1e-4
    """
    from nvp_agentkit.arrayfile import file_and_array

    extras.need("model")
    path, array = (None, None) if data is None else file_and_array(data)
    options = {
        "domain": domain, "epochs": epochs, "batch_size": batch_size, "lr": lr, "budget_j": budget_j,
        "data": path and str(path), "array": array, "trajectories": trajectories, "frames": frames, "size": size,
        "seed": seed, "parent": parent and str(parent), "out": str(out), "as_json": as_json,
    }  # fmt: skip
    become("nvp_agentkit.workers.local.training", options)
