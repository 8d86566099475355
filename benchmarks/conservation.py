"""What keeping totals gives: a network told its domain's class beside one that is not, each trained the same.

Error of the forecast, of its total, and of what the class forbids it, one step and ten steps ahead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.verdict import Figure
from nvp_agentkit.domains import DOMAINS
from nvp_agentkit.domains.heat_diffusion import Furnace
from nvp_agentkit.fields.forecasters import rollout
from nvp_agentkit.fields.metrics import budget_error, budget_violation, vrmse
from nvp_agentkit.fields.sequence import SequenceSet
from nvp_agentkit.model import ModelBundle, NetworkForecaster
from nvp_agentkit.training import MemberConfig, MemberTrainer, StepPacer
from nvp_agentkit.training.members import network_for

SIZE, FRAMES, STEPS, SEEDS = 32, 31, 200, 3
QUICK_STEPS, QUICK_SEEDS = 20, 1
AHEAD = 10
STARTS = (0, 9, 18)
LARGEST_LOSS = 1.02  # of VRMSE, by being told the class: what seeds differ by
ROUNDING = 1e-6

COLD = replace(Furnace.for_size(SIZE), power=0.0)  # no flames
CASES: dict[str, tuple[str, Any]] = {
    "heat_closed": ("heat_diffusion", replace(COLD, cooling=0.0, sink=0.0)),
    "heat_dissipative": ("heat_diffusion", COLD),
    "shear_flow": ("shear_flow", None),
    "turbulence_2d": ("turbulence_2d", None),
}


def measure(*, quick: bool) -> dict[str, Figure]:
    """Medians over seeds of the network, on trajectories it was not trained on."""
    figures: dict[str, Figure] = {}
    for case in list(CASES)[: 1 if quick else None]:
        domain, parameters = CASES[case]
        train, validation, test = (
            DOMAINS[domain].simulate(count, FRAMES, SIZE, seed, parameters=parameters)
            for seed, count in ((1, 8), (2, 2), (3, 4))
        )
        network = network_for(train.meta, masked=False)
        found: list[dict[str, float]] = []
        for config in (replace(network, conservation="open"), network):
            runs = []
            for seed in range(QUICK_SEEDS if quick else SEEDS):
                member = MemberTrainer(MemberConfig(config, seed=seed))
                trained = member.fit(train, validation, StepPacer(QUICK_STEPS if quick else STEPS))
                runs.append(dict(_scores(trained.bundle, test)))
                print(case, config.conservation, seed, {name: f"{value:.3g}" for name, value in runs[-1].items()})
            found.append({name: float(np.median([run[name] for run in runs])) for name in runs[0]})
        untold, told = found
        for name in told:
            unit = "VRMSE" if name.startswith("vrmse") else "share"
            figures[f"{case}/{name}/untold"] = Figure(untold[name], unit)
            figures[f"{case}/{name}/told"] = Figure(told[name], unit, floor=ROUNDING if name == "total_own" else None)
        ratio = told["vrmse_1"] / untold["vrmse_1"]
        figures[f"{case}/told_over_untold"] = Figure(ratio, "ratio", floor=LARGEST_LOSS)
    return figures


def _scores(bundle: ModelBundle, test: SequenceSet) -> Iterator[tuple[str, float]]:
    context, values = bundle.config.context_frames, np.asarray(test.values)
    shown = np.concatenate([values[:, start : start + context] for start in STARTS])
    came = np.concatenate([values[:, start + context : start + context + AHEAD] for start in STARTS])
    told = rollout(NetworkForecaster(bundle), shown, AHEAD)[0]
    before = np.concatenate([shown[:, -1:], told[:, :-1]], 1)
    for step in (1, AHEAD):
        yield f"vrmse_{step}", vrmse(told[:, step - 1], came[:, step - 1])
        yield f"total_{step}", budget_error(told[:, step - 1], came[:, step - 1])
    yield "total_own", max(
        budget_violation(told[:, step], before[:, step], test.meta.conservation) for step in range(AHEAD)
    )
