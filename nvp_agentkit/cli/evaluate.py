"""``nvp evaluate``: a model on data it has not seen, beside everything that should be beaten."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nvp_agentkit.cli import extras
from nvp_agentkit.cli.model import MODEL_HELP, become, located
from nvp_agentkit.cli.options import AsJson, DataDir


def command(
    models: Annotated[list[str], typer.Argument(help=MODEL_HELP + " The first is judged.", metavar="MODEL...")],
    data: Annotated[
        str | None,
        typer.Option(help="A file of sequences; which array of it.", metavar="FILE[:NAME]", show_default="simulate"),
    ] = None,
    domain: Annotated[
        str | None, typer.Option(help="What to simulate.", metavar="NAME", show_default="the model's")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="Of the equation.", metavar="NAME", show_default="the first")
    ] = None,
    leads: Annotated[str, typer.Option(help="Steps ahead, each from the steps before.", metavar="N,N,...")] = "1,2,4,8",
    trajectories: Annotated[int, typer.Option(help="Sequences to simulate.", min=3)] = 12,
    frames: Annotated[int, typer.Option(help="Frames of each.", min=3)] = 21,
    size: Annotated[int, typer.Option(help="Cells a side of each.", min=16)] = 64,
    seed: Annotated[int, typer.Option(help="Of the simulation: none that a model was trained on.", min=0)] = 9001,
    pictures: Annotated[
        Path | None, typer.Option(help="Draw into this folder.", metavar="FOLDER", show_default="no pictures")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Judge models on data they have not seen.

    Beside every trivial forecaster and, on simulated data, the equation on half the cells, which is given the whole
    hidden state. Of a file the part is judged that training leaves out; of a simulation all but the third that trivial
    forecasters learn from. Intervals are by trajectory. Needs no stack and no account for models that are files.

    [dim]Examples:[/dim] nvp evaluate checkpoints/model.safetensors --pictures judged  ·  nvp evaluate rain --data
    rain.nc
    """
    from nvp_agentkit.arrayfile import file_and_array

    extras.need("model", *["plot"] * (pictures is not None))
    path, array = (None, None) if data is None else file_and_array(data)
    options = {
        "models": [str(located(one, data_dir)) for one in models], "called": models, "domain": domain,
        "variant": variant, "data": path and str(path), "array": array, "leads": _leads(leads),
        "trajectories": trajectories, "frames": frames, "size": size, "seed": seed,
        "pictures": pictures and str(pictures), "as_json": as_json,
    }  # fmt: skip
    become("nvp_agentkit.workers.local.evaluation", options)


def _leads(text: str) -> list[int]:
    from nvp_agentkit.errors import InvalidInput

    found = [int(word) for word in text.split(",") if word.strip().isdigit()]
    if len(found) != len(text.split(",")) or not all(1 <= lead <= 1000 for lead in found):
        raise InvalidInput(f"--leads {text!r}; give whole numbers from 1 to 1000, as 1,2,4,8")
    return sorted(set(found))
