"""The card of an exported model: what it is, how to run it with jax alone, what is known of it and what is not."""

from __future__ import annotations

import json
from typing import Any

from nvp_agentkit.model.bundle import ModelBundle

SNIPPET = """\
from pathlib import Path

import jax
import numpy as np

program = jax.export.deserialize(bytearray(Path("{file}").read_bytes()))
forecast = jax.jit(program.call)
frames = np.zeros((1, {context}, {rows}, {columns}), np.float32)  # yours: oldest first; NaN where there is no value
mean, log_var = forecast(frames)  # of the next frame: (B, {rows}, {columns}) each
print(float(mean.mean()), "+-", float(np.exp(log_var / 2).mean()))
"""
TOTALS = {
    "closed": "forecasts have the total of the newest frame, over its cells that have a value",
    "dissipative": "no forecast's total is above that of the newest frame, over its cells that have a value",
}
BEYOND = {"periodic": "the other side", "reflecting": "a wall", "open": "nobody knows"}


def card(bundle: ModelBundle, model_id: str, programs: dict[tuple[int, int], str]) -> str:
    """Markdown with YAML in front, as model hubs read it."""
    parts = [_front(bundle), f"# {_title(bundle)}\n", _what(bundle, model_id)]
    if programs:
        (rows, columns), file = next(iter(programs.items()))
        code = SNIPPET.format(file=file, context=bundle.config.context_frames, rows=rows, columns=columns)
        parts.append(f"## Run it\n\nWith `pip install jax flatbuffers`, in this folder:\n\n```python\n{code}```\n")
    parts += [_again(bundle), _known(bundle), _made(bundle)]
    return "\n".join(parts)


def _title(bundle: ModelBundle) -> str:
    return f"Next-frame forecaster of {bundle.domain.replace('_', ' ')}"


def _front(bundle: ModelBundle) -> str:
    """YAML, of which JSON is a part."""
    said: dict[str, Any] = {
        "library_name": "jax",
        "tags": ["jax", "stablehlo", "forecasting", "nvp-agentkit", bundle.domain],
    }
    if judged := {name: value for name, value in bundle.metrics.items() if not name.startswith("train_")}:
        said["model-index"] = [{
            "name": _title(bundle),
            "results": [{
                "task": {"type": "time-series-forecasting"},
                "dataset": {"type": bundle.domain, "name": bundle.domain},
                "metrics": [{"type": name, "value": value} for name, value in sorted(judged.items())],
            }],
        }]  # fmt: skip
    return "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in said.items()) + "---\n"


def _what(bundle: ModelBundle, model_id: str) -> str:
    config, (y, x) = bundle.config, bundle.config.boundary
    inputs = f"the last {config.context_frames} frames" if config.context_frames > 1 else "the last frame"
    facts = [
        f"From {inputs} of a 2-D field it forecasts the next one, cell by cell: mean and log-variance.\n",
        f"- id: `{model_id}`",
        f"- {bundle.parameters:,} parameters, float32",
        f"- values in the field's own unit, those it was trained in: mean {bundle.normalization.offset:.4g}, "
        f"standard deviation {bundle.normalization.scale:.4g} there; one step is the distance of training frames",
        f"- beyond the upper and lower edge is {BEYOND[y]}, beyond the left and right {BEYOND[x]}",
    ]
    if config.positive:
        facts.append("- the field cannot be negative: means are cut off at 0")
    if config.conservation in TOTALS:
        facts.append(f"- {TOTALS[config.conservation]} (`conservation` {config.conservation})")
    if config.beside:
        facts.append(f"- beside the frames it looks at maps of {', '.join(config.beside)}, at the newest frame")
    if config.masked:
        facts.append("- trained on frames with missing cells: give NaN there")
    return "\n".join(facts) + "\n"


def _again(bundle: ModelBundle) -> str:
    judged = "" if bundle.config.beside else "; `nvp evaluate FOLDER --data FILE` judges it on data of yours"
    return (
        "## Use it in NVP AgentKit\n\n"
        f"`nvp_agentkit.model.export.import_model(folder)` gives the model back under the same id{judged}.\n"
    )


def _known(bundle: ModelBundle) -> str:
    levels = ", ".join(f"{100 * level:.0f}%: {width:.3f}" for level, width in sorted(bundle.calibration.width.items()))
    lines = ["## What is known of it\n"]
    lines += [f"- {name}: {value:.4g}" for name, value in sorted(bundle.metrics.items())]
    lines.append(f"- intervals that held on validation data, in sigmas: {levels}")
    lines.append(
        "- nothing is known of fields in another unit, of another process, or of frames further apart; a program "
        "forecasts one step, and is less sure of a step from its own forecast than it says"
    )
    return "\n".join(lines) + "\n"


def _made(bundle: ModelBundle) -> str:
    if not bundle.recipe:
        return "## How it was made\n\nNot recorded.\n"
    return "## How it was made\n\n```json\n" + json.dumps(dict(bundle.recipe), indent=2, sort_keys=True) + "\n```\n"
