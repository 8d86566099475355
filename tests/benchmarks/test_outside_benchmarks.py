"""What the benchmarks against APEBench, against solvers and of samples decide, on numbers made up for it."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from benchmarks import apebench, apebench_peers, break_even, cells, samples, throwaway, unfamiliar
from benchmarks.verdict import BrokenError


def told(mean_nrmse: float, parameters: float = 1.0, joules: float = 1.0) -> dict[str, float]:
    return {"mean_nrmse": mean_nrmse, "parameters": parameters, "joules": joules}


def test_the_networks_of_two_fields_are_shown_both_and_that_of_one_field_is_shown_it_alone() -> None:
    states = np.arange(6, dtype=np.float32).reshape(3, 2, 1, 1)
    assert {name: maps.ravel().tolist() for name, maps in apebench._maps(states).items()} == {
        "field_0": [0, 2, 4], "field_1": [1, 3, 5],
    }  # fmt: skip
    assert apebench._maps(states[:, :1]) == {}


@pytest.mark.parametrize(("ours", "ratio", "met"), [(0.2, 2.0, True), (0.8, 0.5, False)])
def test_ours_is_held_to_the_preset_that_is_best_over_all_scenarios(ours: float, ratio: float, met: bool) -> None:
    data = {"persistence": 0.01, "cpu_s": 1.0, "joules": 4.0}  # no rival
    found = {
        "a": {"data": data, "ours": told(ours), "conv": told(0.2), "fno": told(0.4)},
        "b": {"data": data, "ours": told(ours), "conv": told(0.8), "fno": told(0.9, joules=0.5)},
    }
    figures = apebench._figures(found, held=True)
    assert figures["best_preset/over_ours"].value == pytest.approx(ratio)
    assert figures["best_preset/over_ours"].meets(figures["best_preset/over_ours"].floor) is met
    assert figures["b/by_joules/over_ours"].value == pytest.approx(0.45 / ours)
    assert figures["fno/over_ours"].value == pytest.approx(0.6 / ours)


def test_what_is_kept_is_told_and_no_more_is_made_than_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "KEPT", tmp_path)
    plan, presets = apebench.Plan(1, 16), apebench.QUICK_PRESET
    assert apebench._found(plan, presets, ("a",), 0) == {}
    for name in ("data", "ours", "fno"):
        assert apebench._found(plan, presets, ("a",), 0) == {}
        one = apebench._Cell(plan, "a", name, presets.get(name))
        cells.cell(*one._known_by, lambda: {"cpu_s": 1.0}, ours=name == "ours")
    assert list(apebench._found(plan, presets, ("a", "b"), 0)) == ["a"]


def test_its_program_is_python_and_its_environment_is_pinned() -> None:
    ast.parse(apebench_peers.PROGRAM)
    pins = apebench_peers.PINS.read_text().splitlines()
    assert any(line.startswith("apebench==") for line in pins)
    assert all("==" in line for line in pins)


def test_without_a_package_index_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throwaway, "KEPT", tmp_path)
    monkeypatch.setattr(throwaway, "environment", lambda *_, **__: None)
    with pytest.raises(BrokenError, match="apebench cannot be installed; this benchmark needs a package index"):
        throwaway.kept_environment("apebench", "apebench", pins=apebench_peers.PINS)


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


@pytest.fixture(scope="module")
def fields() -> np.ndarray:
    """Thirteen white fields of unit spread, twelve times: a truth is as likely as any sample of it."""
    return np.random.default_rng(0).standard_normal((13, 12, 16, 16), np.float32)


def test_samples_like_the_truth_have_its_spread_and_its_power_at_every_wavenumber(fields: np.ndarray) -> None:
    found = dict(samples._scores(fields[1:], np.zeros_like(fields[0]), fields[0]))
    ratios = [found[name] for name in ("spread", "power_from_0", "power_from_8", "power_from_24")]
    assert ratios == pytest.approx([1.0] * 4, abs=0.15)


def test_scores_prefer_what_came_and_then_samples_like_it(fields: np.ndarray) -> None:
    came, zero = fields[0], np.zeros_like(fields[0])
    near, alike, wide = (
        dict(samples._scores(told, zero, came)) for told in (came + 0.01 * fields[1:], fields[1:], 3 * fields[1:])
    )
    for score in ("crps", "crps_8x8", "energy", "variogram"):
        assert 0 <= near[score] < 0.1
        assert near[score] < alike[score] < wide[score]


def test_scrambling_keeps_the_power_of_every_wave_and_if_asked_what_changed_between_frames(fields: np.ndarray) -> None:
    frames = fields[:, :2]
    for together in (True, False):
        turned = unfamiliar._scrambled(frames, np.random.default_rng(1), together=together)
        powers = [np.abs(np.fft.fft2(one)) for one in (frames, turned)]
        assert np.allclose(*powers, atol=1e-3)
        changes = [np.abs(np.fft.fft2(one[:, 1] - one[:, 0])) for one in (frames, turned)]
        assert np.allclose(*changes, atol=1e-3) is together
