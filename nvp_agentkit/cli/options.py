"""What all commands share: options, exit statuses, and how a result becomes JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

FAILED, USAGE, INTERRUPTED = 1, 2, 130
STATUSES = {
    0: "done",
    FAILED: "refused or failed (the message says why)",
    USAGE: "wrong usage",
    INTERRUPTED: "interrupted",
}

SIMULATED = (  # the names in `domains.DOMAINS`, which this column must not import
    "plasma_physics", "turbulence_2d", "shear_flow", "magnetohydrodynamics", "shallow_water", "heat_diffusion",
    "reaction_diffusion",
)  # fmt: skip

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder of the stack.", metavar="FOLDER", show_default="NVP_DATA_DIR, else .nvp"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of words.")]


def say_json(document: Any) -> None:
    """Print ``document`` as one line of JSON: all that a command writes to standard output with ``--json``."""
    typer.echo(json.dumps(document, default=str))
