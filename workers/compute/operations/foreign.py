"""A training job whose members are a plug-in's: fitted one after the other, calibrated and judged as our own are."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nvp_agentkit import plugins
from nvp_agentkit.energy.budget import require_useful
from nvp_agentkit.fields.baselines import Fit
from nvp_agentkit.fields.sequence import SequenceSet
from nvp_agentkit.fields.split import Split, split
from nvp_agentkit.fields.storage import open_sequences
from nvp_agentkit.model.foreign import ForeignModel, foreign_bytes
from nvp_agentkit.model.storage import model_id
from nvp_agentkit.training import MemberConfig
from nvp_agentkit.training.evaluate import Forecasts
from nvp_agentkit.training.examples import all_windows

from ..call import Arrays, Call
from ..spending import Allowance
from .comparing import Incumbent
from .prices import Prices
from .training import report, result


def train(call: Call) -> tuple[dict[str, Any], Arrays]:
    """``params``: as those of `training.train`, and model: the plug-in's name.

    Nobody can stop a plug-in half way: a fit that costs more than the budget is ended with its process.

    Raises:
        UnknownName, PluginFailed: no such plug-in, or it does not do what one has to.
        BudgetTooSmall, BudgetExhausted: the budget does not reach for the data, or for all members.
    """
    params = call.params
    plugin = plugins.load(plugins.MODELS, params["model"])
    parts = split(open_sequences(Path(params["path"])))
    prices = Prices.of(parts, MemberConfig(), watts_per_core=float(params["watts_per_core"]))
    least_mj = round(2 * prices.baselines_mj + prices.closing_mj)
    require_useful(call.spending.granted_mj, least_mj, f"an ensemble of {plugin.name} beside trivial forecasters")
    room_mj, say = call.spending.granted_mj - least_mj, partial(call.progress, step=0)
    incumbent = Incumbent.hear(params["incumbent"], parts.test, prices, MemberConfig(), room_mj=room_mj, say=say)
    allowance = Allowance(call.spending, stop=call.stop_reason)
    models, validated, judged = [], [], []
    for place in range(params["members"]):
        call.progress(phase="training", step=place, steps=params["members"], note=f"voter-{place}: {plugin.name}")
        model, on_validation = _calibrated(plugin, parts, 1000 * params["seed"] + place)
        models.append(model)
        validated.append(on_validation)
        judged.append(_forecasts(model, parts.test))
        allowance.require(place + 1, f"fitting {plugin.name}")
    call.progress(phase="judging", step=len(models), steps=len(models))
    context = models[0].context_frames
    baselines = Fit.on(parts.train, max(context, 2)).score(parts.test, max(context, 2))
    members = [
        _member(place, model, told, baselines, Path(params["out"]))
        for place, (model, told) in enumerate(zip(models, judged, strict=True))
    ]
    beside = incumbent and incumbent.beside(judged[0], parts.test)
    values, arrays = result(parts, members, judged, validated, baselines, context)
    configs = {member["voter"]: model.about() for member, model in zip(members, models, strict=True)}
    return values | {"configs": configs, "stopped_by": allowance.stopped_by, "beside": beside}, arrays


def _calibrated(plugin: plugins.Plugin, parts: Split, seed: int) -> tuple[ForeignModel, Forecasts]:
    model = ForeignModel.fitted(plugin, parts.train, seed)
    told = _forecasts(model, parts.validation)
    found = told.calibration()
    return replace(model, calibration=found), told.calibrated(found)


def _forecasts(model: ForeignModel, data: SequenceSet) -> Forecasts:
    frames, seen, came, there = all_windows(data, model.context_frames)
    return Forecasts(*model.predict_next(frames, seen), came, there)


def _member(
    place: int, model: ForeignModel, judged: Forecasts, baselines: dict[str, float], out: Path
) -> dict[str, Any]:
    data, path = foreign_bytes(model), out / f"voter-{place}.safetensors"
    path.write_bytes(data)
    made = {"voter": f"voter-{place}", "model_id": model_id(data), "path": str(path), "seed": model.seed}
    sizes = {"parameters": model.parameters, "width": 0, "steps": 0, "parent": None}
    return made | sizes | report(judged.score(model.calibration, baselines))
