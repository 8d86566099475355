"""A model as a folder that needs nothing of this package: weights, description, card, and the forecast as a program.

The folder has the layout of model hubs: ``model.safetensors`` (the model file itself, so its id stays what it was),
``config.json``, ``README.md`` with a card, and one program a field size by `jax.export` (StableHLO inside), which takes
frames in the field's own unit and gives mean and log-variance: whoever has jax can run it.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from nvp_agentkit.errors import DigestMismatch, InvalidFile, InvalidInput
from nvp_agentkit.model.bundle import Calibration, ModelBundle
from nvp_agentkit.model.card import card
from nvp_agentkit.model.flow import origin
from nvp_agentkit.model.network import SMALLEST_SIDE
from nvp_agentkit.model.predict import forward, lowest
from nvp_agentkit.model.storage import load_model, model_bytes, model_id, read_bounded

WEIGHTS, DESCRIPTION, CARD = "model.safetensors", "config.json", "README.md"
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
LARGEST_SIDE = 4096
SIZE = re.compile(r"(\d+)x(\d+)")

Grid = tuple[int, int]
Program = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


def export_model(model: ModelBundle | bytes, folder: str | Path, sizes: Iterable[Grid] = ()) -> str:
    """Write ``model`` into ``folder`` whole or not at all; its id.

    Args:
        model: the trained model, or its file's bytes, which are kept as they are.
        folder: a new or an empty one.
        sizes: (H, W) of the fields that programs are made for, any batch each; none: weights and description alone.
            Sides are fixed, for padding round a periodic edge is not expressible in symbols (jax 0.10).

    Raises:
        InvalidInput: the folder holds something, or a size that the network cannot take.
    """
    folder, wanted = Path(folder), tuple(dict.fromkeys(sizes))
    data = model if isinstance(model, bytes) else model_bytes(model)
    bundle = load_model(data)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInput(f"{folder} is there and not empty; name a new folder")
    for size in wanted:
        _check(bundle, size)
    programs = {size: f"forecast-{size[0]}x{size[1]}.jaxexport" for size in wanted}
    about = _about(bundle, model_id(data), programs)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as begun:
        made = Path(begun) / "whole"
        made.mkdir()
        (made / WEIGHTS).write_bytes(data)
        (made / DESCRIPTION).write_text(json.dumps(about, indent=2, sort_keys=True, allow_nan=False) + "\n")
        (made / CARD).write_text(card(bundle, model_id(data), programs))
        for size, name in programs.items():
            (made / name).write_bytes(serialised(bundle, size))
        made.replace(folder)
    return model_id(data)


def import_model(folder: str | Path) -> ModelBundle:
    """The model that `export_model` wrote; its id is the one it had.

    Raises:
        InvalidFile, DigestMismatch: as `exported_bytes`.
    """
    return load_model(exported_bytes(folder))


def exported_bytes(folder: str | Path) -> bytes:
    """The model's file in a folder that `export_model` wrote.

    Raises:
        InvalidFile: no such folder, or a file in it that is none of ours.
        DigestMismatch: the weights are not those that the description is of.
    """
    folder = Path(folder)
    data = read_bounded(folder / WEIGHTS)
    try:
        said = json.loads(read_bounded(folder / DESCRIPTION))["model_id"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidFile(f"{folder / DESCRIPTION} does not say of which model it is ({error})") from error
    if said != model_id(data):
        raise DigestMismatch(f"{folder / WEIGHTS} is {model_id(data)}, {DESCRIPTION} is of {said}; export it anew")
    return data


def program(bundle: ModelBundle) -> Program:
    """`predict_next` of ``bundle`` as one function of JAX alone.

    It takes (B, K, H, W) in the field's unit, oldest first, K the model's context, NaN where a cell has no value, and
    gives mean and log-variance (B, H, W). Bad input is not refused: there is nobody to do it.
    """
    config, units, calibration = bundle.config, bundle.normalization, bundle.calibration
    knots, factors = jnp.array(calibration.bend or [(0, 0)], jnp.float32).T

    def forecast(frames: jax.Array) -> tuple[jax.Array, jax.Array]:
        there = jnp.isfinite(frames)
        normal = jnp.where(there, (frames - units.offset) / units.scale, 0).transpose(0, 2, 3, 1)
        valid = there.transpose(0, 2, 3, 1).astype(jnp.float32) if config.masked else None
        known = origin(normal, config.boundary) if config.context_frames > 1 else normal[..., :0]
        mean, log_var = forward(config, bundle.variables, normal, valid, known, lowest(bundle))
        mean = units.offset + units.scale * mean
        claimed = log_var + 2 * jnp.log(units.scale)
        factor = jnp.log(calibration.scale) + jnp.interp(claimed / 2, knots, factors)
        return jnp.maximum(mean, 0) if config.positive else mean, claimed + 2 * factor

    return forecast


def serialised(bundle: ModelBundle, size: Grid) -> bytes:
    """The program for fields of ``size``, for every platform; `jax.export.deserialize` reads it."""
    (batch,) = jax.export.symbolic_shape("b")
    shape = (batch, bundle.config.context_frames, *size)
    frames = jax.ShapeDtypeStruct(shape, jnp.float32)  # type: ignore[no-untyped-call]
    return bytes(jax.export.export(jax.jit(program(bundle)), platforms=PLATFORMS)(frames).serialize())


def size_of(text: str) -> Grid:
    """``64x96`` is (64, 96), rows first. Raises `InvalidInput` on anything else."""
    if (match := SIZE.fullmatch(text)) is None:
        raise InvalidInput(f"size {text!r}; give rows x columns, as 256x256")
    return int(match[1]), int(match[2])


def _check(bundle: ModelBundle, size: Grid) -> None:
    if bundle.config.beside:
        raise InvalidInput(
            f"this network looks at {', '.join(bundle.config.beside)} beside the field, and a program takes frames "
            "alone: export it without sizes, and call predict_next"
        )
    grid = bundle.config.document_grid
    if grid is not None and size != grid:
        raise InvalidInput(f"size {size[0]}x{size[1]}; this network is built for {grid[0]}x{grid[1]}")
    if not SMALLEST_SIDE <= min(size) <= max(size) <= LARGEST_SIDE:
        raise InvalidInput(f"size {size[0]}x{size[1]}; give sides of {SMALLEST_SIDE} to {LARGEST_SIDE} cells")


def _about(bundle: ModelBundle, name: str, programs: dict[Grid, str]) -> dict[str, Any]:
    return {
        "model_type": "nvp-agentkit",
        "model_id": name,
        "domain": bundle.domain,
        "parameters": bundle.parameters,
        "config": bundle.config.to_dict(),
        "normalization": dataclasses.asdict(bundle.normalization),
        "calibration": {str(lead): _plain(bundle.calibration.at(lead)) for lead in (1, *bundle.calibration.later)},
        "recipe": dict(bundle.recipe),
        "metrics": dict(bundle.metrics),
        "programs": {f"{rows}x{columns}": name for (rows, columns), name in programs.items()},
        "jax": jax.__version__,
    }  # fmt: skip


def _plain(calibration: Calibration) -> dict[str, Any]:
    """Of one lead time: factors of sigma, of all and by its log, intervals' widths in sigmas, deviations' share."""
    width = {f"{level:g}": width for level, width in calibration.width.items()}
    return {"scale": calibration.scale, "bend": calibration.bend, "width": width, "kept": calibration.kept}
