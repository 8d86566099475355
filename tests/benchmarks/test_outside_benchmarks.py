"""What the benchmarks against APEBench and against solvers decide, on numbers made up for it."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from benchmarks import apebench, apebench_peers, break_even, cells
from benchmarks.verdict import BrokenError


def told(mean_nrmse: float, parameters: float = 1.0, joules: float = 1.0) -> dict[str, float]:
    return {"mean_nrmse": mean_nrmse, "parameters": parameters, "joules": joules}


def test_the_network_of_a_field_sees_its_own_field_last() -> None:
    state = np.arange(3, dtype=np.float32)[None, :, None, None]
    assert [apebench._shown(state, place).ravel().tolist() for place in range(3)] == [[1, 2, 0], [0, 2, 1], [0, 1, 2]]


@pytest.mark.parametrize(("ours", "ratio", "met"), [(0.2, 2.0, True), (0.8, 0.5, False)])
def test_ours_is_held_to_the_preset_that_is_best_over_all_scenarios(ours: float, ratio: float, met: bool) -> None:
    persistence = {"mean_nrmse": 0.01}  # no preset
    found = {
        "a": {"conv": told(0.2), "fno": told(0.4), "ours": told(ours), "persistence": persistence},
        "b": {"conv": told(0.8), "fno": told(0.9, joules=0.5), "ours": told(ours), "persistence": persistence},
    }
    figures = apebench._figures(found, held=True)
    assert figures["best_preset/over_ours"].value == pytest.approx(ratio)
    assert figures["best_preset/over_ours"].meets(figures["best_preset/over_ours"].floor) is met
    assert figures["b/by_joules/over_ours"].value == pytest.approx(0.45 / ours)
    assert figures["geometric_mean/fno"].value == pytest.approx(0.6)


def test_its_program_is_python_and_its_environment_is_pinned() -> None:
    ast.parse(apebench_peers.PROGRAM)
    pins = apebench_peers.PINS.read_text().splitlines()
    assert any(line.startswith("apebench==") for line in pins)
    assert all("==" in line for line in pins)


def test_without_a_package_index_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apebench_peers, "KEPT", tmp_path)
    monkeypatch.setattr(apebench_peers, "environment", lambda *_, **__: None)
    with pytest.raises(BrokenError, match="package index"):
        apebench_peers.python()


def test_a_cell_that_is_not_ours_outlives_our_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "KEPT", tmp_path)
    cells.cell("gpu", "theirs", 1, lambda: {"vrmse": 0.25}, ours=False)
    monkeypatch.setattr(cells, "code", lambda: "other")
    assert cells.cell("gpu", "theirs", 1, lambda: {"vrmse": 9.0}, ours=False) == {"vrmse": 0.25}
    assert cells.cell("gpu", "theirs", 1, lambda: {"vrmse": 9.0}) == {"vrmse": 9.0}


@pytest.mark.parametrize(("solver_j", "count"), [(0.6, 200.0), (0.1, None), (0.05, None)])
def test_what_was_spent_is_paid_back_by_what_a_forecast_saves(solver_j: float, count: float | None) -> None:
    numbers = {"data": 20.0, "training": 80.0, "network/forecast": 0.1, "seeing/forecast": solver_j}
    assert break_even.forecasts(numbers, "seeing") == (None if count is None else pytest.approx(count))
