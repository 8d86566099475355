"""Forecasters side by side at several lead times."""

from __future__ import annotations

from dataclasses import dataclass
from time import process_time

import numpy as np
import pytest

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields import SequenceSet
from nvp_agentkit.fields.baselines import NAMES, score_baselines
from nvp_agentkit.fields.evaluation import Judged, Told, Windows, judge, tell
from nvp_agentkit.fields.forecasters import trivial_forecasters
from nvp_agentkit.fields.metrics import error_spectrum, spectral_error

from .test_baselines import PERIODIC, drifting


@dataclass(frozen=True)
class Sure:
    """The truth, missed by noise whose sigma it knows: twice as large in the lower half."""

    name: str = "sure"

    def told(self, windows: Windows) -> Told:
        sigma = np.full(windows.came.shape, 0.1, np.float32)
        sigma[..., windows.came.shape[2] // 2 :, :] = 0.2
        noise = np.random.default_rng(3).standard_normal(sigma.shape, np.float32)
        return Told(self.name, windows.came + sigma * noise, 2 * np.log(sigma))


def parts(turbulence: SequenceSet) -> tuple[SequenceSet, SequenceSet]:
    """To learn from, and to judge by: few frames, for flows take time."""
    return turbulence.select(slice(0, 2), slice(0, 5)), turbulence.select(slice(2, 4), slice(0, 7))


def judged(test: SequenceSet, train: SequenceSet, leads: tuple[int, ...], *others: Told) -> dict[str, Judged]:
    windows = Windows.of(test, 2, leads)
    told = [tell(one, windows, process_time) for one in trivial_forecasters(train)]
    return {one.name: one for one in judge([*told, *others], windows, periodic=True)}


def test_one_step_ahead_errors_are_those_of_the_scoreboard_and_they_grow_with_lead_time(turbulence) -> None:
    train, test = parts(turbulence)
    windows = Windows.of(test, 2, (1,))
    rows = judge([tell(one, windows, process_time) for one in trivial_forecasters(train)], windows, periodic=True)
    assert {one.name: one.leads[0].vrmse.value for one in rows} == pytest.approx(score_baselines(train, test))
    advection = judged(test, train, (1, 3))["advection"]
    assert [at.lead for at in advection.leads] == [1, 3]
    assert advection.leads[1].vrmse.value > 1.5 * advection.leads[0].vrmse.value
    assert advection.cpu_s > 0


def test_who_knows_its_own_doubt_is_reliable_and_can_be_asked_for_its_surest_cells(turbulence) -> None:
    train, test = parts(turbulence)
    windows = Windows.of(test, 2, (1, 2))
    rows = judged(test, train, (1, 2), Sure().told(windows))
    sure = rows["sure"].leads[1]
    for claimed, observed in sure.coverage.items():
        assert observed == pytest.approx(claimed, abs=0.02)
    assert sure.spread_skill == pytest.approx(1, abs=0.02)
    assert sure.risk[0.5] == pytest.approx(0.1 / np.sqrt((0.1**2 + 0.2**2) / 2), abs=0.02)
    assert sure.risk[1.0] == pytest.approx(1)
    assert sure.ideal[0.5] < sure.risk[0.5]
    best = min((one for name, one in rows.items() if name in NAMES), key=lambda one: one.leads[1].vrmse.value)
    assert (sure.best, best.leads[1].skill.value) == (best.name, 0)
    assert sure.skill.value == pytest.approx(1 - sure.vrmse.value / best.leads[1].vrmse.value)
    assert sure.skill.low <= sure.skill.value <= sure.skill.high
    assert rows["persistence"].leads[0].risk == {}  # one sigma for all cells


def test_it_is_told_until_when_a_forecast_is_like_what_came(turbulence) -> None:
    train, test = parts(turbulence)
    windows = Windows.of(test, 2, (1, 2, 4))
    lost = windows.came.copy()
    lost[:, 2] = np.random.default_rng(1).permuted(lost[:, 2], axis=-1)  # of the third lead time nothing is right
    rows = judged(test, train, (1, 2, 4), Told("right", windows.came, None), Told("lost", lost, None))
    assert (rows["right"].correlated_until, rows["lost"].correlated_until) == (4, 2)
    assert [at.correlation for at in rows["right"].leads] == pytest.approx([1, 1, 1])
    assert rows["lost"].leads[2].correlation < 0.8
    wrong = judged(test, train, (1, 2, 4), Told("wrong", lost[:, ::-1], None))["wrong"]
    assert wrong.correlated_until == 0


def test_who_claims_no_doubt_has_no_coverage_and_masked_cells_count_for_nothing() -> None:
    clean = drifting(8, trajectories=3)
    mask = np.random.default_rng(2).random(clean.values.shape) > 0.2
    rubbish = SequenceSet(np.where(mask, clean.values, np.float32(1e4)), mask, PERIODIC)
    windows = Windows.of(rubbish, 2, (1, 2))
    rows = judged(rubbish, rubbish, (1, 2), Told("silent", windows.came, None))
    silent = rows["silent"].leads[0]
    assert (silent.vrmse.value, silent.coverage, silent.width_90) == (0, {}, None)
    assert (silent.bands, silent.spectrum) == ({}, ())
    assert all(at.vrmse.value < 4 for at in rows["advection"].leads)


def test_lead_times_beyond_the_data_are_left_out_and_where_none_is_left_that_is_refused() -> None:
    assert Windows.of(drifting(6), 2, (1, 2, 4, 8)).leads == (1, 2, 4)
    with pytest.raises(InvalidField, match="bring 3 or more"):
        Windows.of(drifting(2), 2, (1,))


def test_many_windows_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    data = drifting(20, trajectories=3)
    whole = Windows.of(data, 2, (1,))
    assert len(whole.shown) == 54
    monkeypatch.setattr("nvp_agentkit.fields.evaluation.CELLS", 10 * data.grid[0] * data.grid[1])
    some = Windows.of(data, 2, (1,))
    assert len(some.shown) == 10
    assert set(some.trajectory) == {0, 1, 2}
    assert (some.start[0], some.start[-1]) == (0, 17)


def test_of_one_trajectory_blocks_of_windows_say_how_sure_a_score_is() -> None:
    windows = Windows.of(drifting(20, gain=1.05), 2, (1,))
    assert len(windows.groups) == 4
    assert (np.bincount(windows.group) >= 4).all()


def test_an_error_of_one_wavelength_is_seen_there_and_nowhere_else() -> None:
    y, x = np.meshgrid(np.arange(32), np.arange(32), indexing="ij")
    truth = np.random.default_rng(0).standard_normal((3, 32, 32))
    wave = np.cos(2 * np.pi * (3 * x + 4 * y) / 32)
    spectrum = error_spectrum(truth + 0.1 * wave, truth)
    assert len(spectrum) == 16
    assert int(np.argmax(spectrum)) == 5 - 1
    assert sum(value > 1e-6 for value in spectrum) == 1
    assert spectral_error(truth + 0.1 * wave, truth)["k<8"] > 0
