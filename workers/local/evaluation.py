"""``python -m workers.local.evaluation OPTIONS``: models judged in this process, without stack or account.

Beside them every trivial forecaster and, where the data are simulated, the equation itself on half the cells.
``OPTIONS`` is JSON from `nvp evaluate`, which becomes this program.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nvp_agentkit.cli.evaluation_pictures import draw
from nvp_agentkit.cli.evaluation_words import lines, meaning, tables
from nvp_agentkit.cli.inspect import short
from nvp_agentkit.cli.screen import console, tabulate
from nvp_agentkit.domains import get_domain
from nvp_agentkit.domains.coarse import coarse_rollouts
from nvp_agentkit.energy.sensors import named_sensor
from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.fields.evaluation import TOGETHER, AtLead, Judged, Told, Windows, judge, tell
from nvp_agentkit.fields.forecasters import Forecaster, TrivialForecaster, trivial_forecasters
from nvp_agentkit.fields.readers import Meant, take_in
from nvp_agentkit.fields.scores import Interval
from nvp_agentkit.fields.sequence import SequenceSet
from nvp_agentkit.fields.split import split
from nvp_agentkit.fields.storage import open_sequences
from nvp_agentkit.model import NetworkForecaster, load_model, model_id
from nvp_agentkit.model.foreign import is_foreign, load_foreign
from nvp_agentkit.settings import Settings

from ..compute.spending import Spending, used_cpu_s
from . import programs as local
from .export import read

TAUGHT = 1 / 3  # of simulated trajectories, which the trivial forecasters learn from
COARSER = 2
SOLVER = f"solver_{COARSER}x_wider"


@dataclass(frozen=True)
class Options:
    """As `nvp evaluate` takes them; ``models`` are files or folders, ``called`` what the user calls them."""

    models: list[str]
    called: list[str]
    domain: str | None
    variant: str | None
    data: str | None
    array: str | None
    leads: list[int]
    trajectories: int
    frames: int
    size: int
    seed: int
    pictures: str | None
    as_json: bool


class Model(NamedTuple):
    """Who is judged, by the id of the file."""

    forecaster: Forecaster
    model_id: str
    domain: str
    parameters: int


class Material(NamedTuple):
    """What is judged by, what the trivial forecasters learn from, what the coarse solver said, and about all that."""

    test: SequenceSet
    train: SequenceSet
    solved: np.ndarray | None
    about: dict[str, Any]


def evaluate(options: Options, settings: Settings) -> dict[str, Any]:
    """Print tables and write pictures; what was found, as plain JSON."""
    spending = Spending(0, settings.watts_per_core, sensor=named_sensor(settings))
    models = [_model(read(Path(path))) for path in options.models]
    with tempfile.TemporaryDirectory() as folder:
        material = _material(options, models[0].domain, Path(folder))
        context = max(TrivialForecaster.context_frames, *(one.forecaster.context_frames for one in models))
        windows = Windows.of(material.test, context, options.leads)
        if left := sorted(set(options.leads) - set(windows.leads)):
            print(f"Not judged, {', '.join(map(str, left))} steps ahead: {context} frames are shown first, so that "
                  f"takes {context + left[0]} or more; {material.test.frames} are there")
        told = _told([one.forecaster for one in models], material, windows)
        judged = judge(told, windows, periodic=material.test.meta.boundary == ("periodic", "periodic"))
    document = {
        "models": [
            {"name": one.forecaster.name, "called": called, "model_id": one.model_id, "domain": one.domain,
             "parameters": one.parameters}
            for one, called in zip(models, options.called, strict=True)
        ],
        "data": material.about | {"windows": len(windows.shown), "units": material.test.meta.units},
        "leads": list(windows.leads),
        "scores": [_score(one, at) for one in judged for at in one.leads],
        "energy": spending.reading().model_dump(),
    }  # fmt: skip
    screen = console()
    for line in lines(document):
        print(line)
    for table in tables(document):
        print()
        tabulate(screen, table)
    print("\n" + "\n".join(meaning(document)))
    if options.pictures is not None:
        drawn = [str(path) for path in draw(Path(options.pictures), document, _maps(told, windows))]
        print("Pictures: " + ", ".join(drawn))
        document["pictures"] = drawn
    return document


def _model(data: bytes) -> Model:
    """The model in a file: one of our networks, or a plug-in's."""
    name = model_id(data)
    if is_foreign(data):
        foreign = load_foreign(data)
        return Model(replace(foreign, called=short(name)), name, foreign.domain, foreign.parameters)
    bundle = load_model(data)
    return Model(NetworkForecaster(bundle, short(name)), name, bundle.domain, bundle.parameters)


def _material(options: Options, domain: str, folder: Path) -> Material:
    if options.data is not None:
        file = folder / "sequences"
        take_in(Path(options.data), file, Meant(domain), array=options.array)
        parts = split(open_sequences(file))
        source = Path(options.data).name + (f":{options.array}" if options.array else "")
        about = {"source": source, "domain": domain, "held_out_by": parts.rule}
        return Material(parts.test, parts.train, None, about | _sides(parts.test, parts.train))
    return _simulated(options, options.domain or domain)


def _simulated(options: Options, domain: str) -> Material:
    process = get_domain(domain).chosen(options.size, options.seed, options.variant)
    print(f"No --data given: making {options.trajectories} sequences of {options.frames} frames ({domain})")
    reach = tuple(lead for lead in sorted(set(options.leads)) if lead < options.frames)
    try:
        ahead = coarse_rollouts(process, COARSER, options.trajectories, options.frames, reach)
        data, solved = SequenceSet(ahead.truth, None, process.meta), ahead.forecast
    except InvalidInput as error:
        print(f"No coarse solver beside the others: {error}")
        data = get_domain(domain).simulate(
            options.trajectories, options.frames, options.size, options.seed, variant=options.variant
        )
        solved = None
    taught = max(1, round(TAUGHT * options.trajectories))
    if solved is not None and not np.isfinite(solved[taught:]).all():
        print("No coarse solver beside the others: on these cells it becomes unstable")
        solved = None
    train, test = data.select(slice(0, taught)), data.select(slice(taught, None))
    about = {"source": "simulated", "domain": domain, "seed": options.seed, "held_out_by": "by trajectory"}
    return Material(test, train, None if solved is None else solved[taught:], about | _sides(test, train))


def _sides(test: SequenceSet, train: SequenceSet) -> dict[str, Any]:
    return {
        "trajectories": test.trajectories, "frames": test.frames, "height": test.grid[0], "width": test.grid[1],
        "taught_trajectories": train.trajectories, "taught_frames": train.frames,
        "interval_by": "trajectory" if test.trajectories > 1 else "blocks of windows",
    }  # fmt: skip


def _told(models: list[Forecaster], material: Material, windows: Windows) -> list[Told]:
    told = []
    for one in (*models, *trivial_forecasters(material.train)):
        print(f"  {one.name} forecasts {len(windows.shown)} windows", file=sys.stderr)
        if isinstance(one, NetworkForecaster):
            one.rollout(windows.shown[:TOGETHER], 1)  # compiled, and not counted
        told.append(tell(one, windows, used_cpu_s))
    if material.solved is not None:
        last = windows.start + windows.shown.shape[1] - 1
        places = [sorted(set(windows.leads)).index(lead) for lead in windows.leads]
        told.append(Told(SOLVER, material.solved[windows.trajectory, last][:, places], None))
    return told


def _score(judged: Judged, at: AtLead) -> dict[str, Any]:
    """Named as in `messages.ForecasterScore`, with what that has not."""
    said = asdict(at)
    vrmse, skill = at.vrmse, at.skill
    said |= {"vrmse": vrmse.value, "vrmse_low": _known(vrmse, 1), "vrmse_high": _known(vrmse, 2),
             "skill": skill.value, "skill_low": _known(skill, 1), "skill_high": _known(skill, 2)}  # fmt: skip
    for name in ("coverage", "risk", "ideal"):
        said[name] = {f"{share:g}": value for share, value in said[name].items()}
    return {"name": judged.name} | said | {"cpu_s": judged.cpu_s, "correlated_until": judged.correlated_until}


def _known(interval: Interval, place: int) -> float | None:
    return None if np.isnan(interval[place]) else interval[place]


def _maps(told: Sequence[Told], windows: Windows) -> dict[str, Any]:
    """One window to look at: where the first model's error at the first lead time is the middle one of all."""
    model = told[0]
    weight = 1.0 if windows.there is None else windows.there[:, 0]
    missed = (((model.mean[:, 0] - windows.came[:, 0]) ** 2) * weight).sum((1, 2))
    middle = int(np.argsort(missed)[len(missed) // 2])
    return {
        "trajectory": int(windows.trajectory[middle]),
        "frame": int(windows.start[middle]) + windows.shown.shape[1] - 1,
        "last": windows.shown[middle, -1],
        "came": windows.came[middle],
        "there": None if windows.there is None else windows.there[middle],
        "mean": {one.name: one.mean[middle] for one in told},
        "sigma": None if model.log_var is None else np.exp(model.log_var[middle] / 2),
    }


def main(arguments: list[str]) -> int:
    options = Options(**json.loads(arguments[0]))
    work = partial(evaluate, options, Settings.from_env())
    return local.answer(work, as_json=options.as_json)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
