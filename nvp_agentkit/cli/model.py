"""``nvp model``: a trained model as a file, wherever it lies, and as a folder that needs nothing of this package."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from nvp_agentkit.cli import deployment, extras
from nvp_agentkit.cli.options import AsJson, DataDir

HELP = """Trained models, to take elsewhere.

[dim]Example:[/dim] nvp model export checkpoints/model.safetensors exported
"""
MODEL_HELP = "A model's file or exported folder; or, of the running stack, an id, a domain or DOMAIN/voter-1."
app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help=HELP)


@app.callback()
def _group() -> None:
    pass


@app.command("export")
def export(
    model: Annotated[str, typer.Argument(help=MODEL_HELP, metavar="MODEL")],
    folder: Annotated[Path, typer.Argument(help="A new folder.", metavar="FOLDER")],
    size: Annotated[
        list[str] | None,
        typer.Option(help="Rows x columns of the fields to forecast; may be given often.", metavar="HxW",
                     show_default="64x64"),
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Write a model as a folder that needs nothing of this package.

    In the layout of model hubs: weights (safetensors), config.json, a card (README.md), and for each size the forecast
    as a program (StableHLO by jax.export, for CPU, CUDA, ROCm and TPU) that takes frames in the field's own unit and
    gives mean and log-variance. The card's Python runs it with jax alone.

    [dim]Example:[/dim] nvp model export checkpoints/model.safetensors exported --size 64x64 --size 256x256
    """
    extras.need("model")
    options = {"model": str(located(model, data_dir)), "folder": str(folder), "sizes": size or ["64x64"],
               "as_json": as_json}  # fmt: skip
    become("nvp_agentkit.workers.local.export", options)


def become(program: str, options: dict[str, Any]) -> NoReturn:
    """Go on as that worker's program: the composition of model and system is not the command line's."""
    os.execv(sys.executable, [sys.executable, "-m", program, json.dumps(options)])  # noqa: S606


def located(model: str, data_dir: Path | None) -> Path:
    """Where the weights of ``model`` lie on this machine.

    Raises:
        UnknownModel: it is no file, and the running stack has none of that name.
        StackNotRunning: it is no file, and no stack runs that could know it.
    """
    if (path := Path(model)).exists():
        return path.resolve()
    extras.need("graph")
    from nvp_agentkit.artifacts import Artifacts
    from nvp_agentkit.client.place import find_as_owner
    from nvp_agentkit.errors import StackNotRunning
    from nvp_agentkit.lineage.graph import Graph
    from nvp_agentkit.lineage.models import find_model

    try:
        place = find_as_owner(deployment.settings_for(data_dir))
    except StackNotRunning as error:
        raise StackNotRunning(f"{model} is no file here, and no stack runs that could know it: {error}") from error

    async def ask() -> Path:
        async with Graph.connect(place.settings) as graph:
            ref = await find_model(graph, model)
        return (await Artifacts.from_settings(place.settings).local_path(ref)).resolve()

    return asyncio.run(ask())
