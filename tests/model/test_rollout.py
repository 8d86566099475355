from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from nvp_agentkit.errors import InvalidField, InvalidInput
from nvp_agentkit.fields.forecasters import rollout as rolled
from nvp_agentkit.model import Calibration, ModelBundle, NetworkForecaster, Normalization, predict_next, rollout
from nvp_agentkit.model.layers import warp
from nvp_agentkit.model.predict import origins
from nvp_agentkit.model.rollout import STEPS_AT_ONCE, rollout_by_steps

from .conftest import SMALL, scrambled


@pytest.fixture
def roomy(bundle: ModelBundle) -> ModelBundle:
    """Nothing that it says is cut."""
    return dataclasses.replace(bundle, normalization=Normalization(low=-1e3, high=1e3))


def test_the_scan_says_what_one_step_after_the_other_says(bundle, frames):
    means, log_vars = rollout(bundle, frames, STEPS_AT_ONCE + 1)
    assert means.shape == log_vars.shape == (3, STEPS_AT_ONCE + 1, 16, 24)
    one_by_one = rollout_by_steps(bundle, frames, STEPS_AT_ONCE + 1)
    np.testing.assert_allclose(means, one_by_one[0], atol=1e-4)
    np.testing.assert_allclose(log_vars, one_by_one[1], atol=1e-3)


def test_each_step_is_the_forecast_from_those_before_it_and_inherits_their_doubt_where_it_drifts(roomy, frames):
    variables = roomy.variables | {"params": roomy.variables["params"] | {"drift": np.float32(1)}}
    bundle = dataclasses.replace(roomy, variables=variables)
    means, log_vars = rollout(bundle, frames, 2)
    first = predict_next(bundle, frames)
    np.testing.assert_allclose(means[:, 0], first[0], atol=1e-4)
    np.testing.assert_allclose(log_vars[:, 0], first[1], atol=1e-3)
    shown = np.stack([frames[:, 1], means[:, 0]], axis=1)
    mean, log_var = predict_next(bundle, shown)
    np.testing.assert_allclose(means[:, 1], mean, atol=1e-3)
    came_from = origins(SMALL, shown.transpose(0, 2, 3, 1))[..., :2]
    inherited = warp(np.exp(first[1])[..., None], came_from, SMALL.boundary)[..., 0]
    np.testing.assert_allclose(np.exp(log_vars[:, 1]), np.exp(log_var) + inherited, rtol=1e-2)
    assert np.abs(inherited / np.exp(first[1]) - 1).max() > 0.1


def test_every_forecaster_is_rolled_out_by_one_call(bundle, frames):
    network = NetworkForecaster(bundle, "champion")
    np.testing.assert_array_equal(rolled(network, frames, 2), rollout(bundle, frames, 2))


def test_a_network_that_would_run_away_stays_within_range_and_finite(frames):
    units = Normalization(0.5, 0.01, low=-2.0, high=3.0)
    wild = dataclasses.replace(scrambled(SMALL, seed=3), normalization=units, calibration=Calibration(50.0))
    means, log_vars = rollout(wild, frames, 200)
    assert means.shape == (3, 200, 16, 24)
    assert means.min() >= 0
    assert 2.9 < means.max() <= 3.0 + 1e-5
    assert np.isfinite(log_vars).all()
    assert 2.9 < np.exp(log_vars / 2).max() <= 3.0 + 1e-4


def test_frames_beyond_the_training_data_widen_the_range(bundle, frames):
    narrow = dataclasses.replace(bundle, normalization=Normalization(0.0, 1.0, low=0.0, high=1e-3))
    assert rollout(narrow, 1 + frames, 1)[0].max() > 0.5


def test_sigma_is_calibrated_for_its_lead(roomy, frames):
    later = {2: Calibration(2.0), 4: Calibration(8.0)}
    calibrated = dataclasses.replace(roomy, calibration=Calibration(1.0, later=later))
    (means, plain), (same, wider) = rollout(roomy, frames, 4), rollout(calibrated, frames, 4)
    np.testing.assert_array_equal(means, same)
    factor = np.exp((wider - plain) / 2).mean((0, 2, 3))
    np.testing.assert_allclose(factor, [1, 2, 2 * 4 ** np.log2(1.5), 8], rtol=1e-3)


def test_cells_that_were_never_seen_stay_unseen_and_are_forecast(frames):
    mask = np.ones(frames.shape, bool)
    mask[..., 2:6, 2:6] = False
    seeing = dataclasses.replace(
        scrambled(dataclasses.replace(SMALL, masked=True)), normalization=Normalization(low=-1e3, high=1e3)
    )
    means, log_vars = rollout(seeing, frames, 3, mask)
    spoilt = rollout(seeing, np.where(mask, frames, np.float32(9)), 3, mask)
    np.testing.assert_array_equal(means, spoilt[0])
    assert np.isfinite(log_vars).all()
    second = predict_next(
        seeing, np.stack([frames[:, 1], means[:, 0]], axis=1), np.stack([mask[:, 1], mask[:, 1]], axis=1)
    )
    np.testing.assert_allclose(means[:, 1], second[0], atol=1e-4)


def test_no_step_is_refused(bundle, frames):
    with pytest.raises(InvalidField, match="at least 1"):
        rollout(bundle, frames, 0)


def test_what_cells_are_worth_by_what_they_claim_is_interpolated_between_leads_cell_by_cell():
    found = Calibration(1.0, bend=((0.0, 0.0), (4.0, -2.0)), later={4: Calibration(4.0, bend=((2.0, 1.0), (3.0, 0.0)))})
    claimed = np.linspace(-2, 10, 49, dtype=np.float32)
    first, last = found.log_var(claimed), found.at(4).log_var(claimed)
    np.testing.assert_allclose(found.at(2).log_var(claimed), (first + last) / 2, atol=1e-5)
    np.testing.assert_allclose(found.at(9).log_var(claimed) - last, 2 * np.log(found.at(9).scale / 4), atol=1e-5)
    plain = Calibration(1.0, later={4: found.later[4]})
    np.testing.assert_allclose(plain.at(2).log_var(claimed), (claimed + last) / 2, atol=1e-5)


def test_deviations_that_do_not_come_true_are_damped_and_totals_kept():
    config = dataclasses.replace(SMALL, conservation="closed", positive=True, masked=True)
    later = {2: Calibration(1.0), 3: Calibration(1.0, kept=0.5)}
    plain, damped = (
        dataclasses.replace(scrambled(config), normalization=Normalization(2.0, 0.5), calibration=one)
        for one in (Calibration(), Calibration(later=later))
    )
    frames = np.random.default_rng(3).uniform(0, 4, (2, 2, 32, 48)).astype(np.float32)
    mask = np.ones(frames.shape, bool)
    mask[:, :, 5:9, 7:20] = False
    (whole, _), (less, _) = (rollout(one, frames, 6, mask) for one in (plain, damped))
    np.testing.assert_array_equal(less[:, :2], whole[:, :2])
    known = mask[:, 0]
    for window in range(2):
        for step in range(2, 6):
            deviates = [one[window, step] - one[window, step][known[window]].mean() for one in (less, whole)]
            np.testing.assert_allclose(deviates[0], 0.5 * deviates[1], atol=1e-5)
            sums = [one[window, step][known[window]].sum(dtype=np.float64) for one in (less, whole)]
            np.testing.assert_allclose(*sums, rtol=1e-6)
    assert less.min() >= 0


def test_leads_between_are_interpolated_and_beyond_go_on_growing():
    found = Calibration(1.0, later={2: Calibration(2.0), 8: Calibration(4.0)})
    assert [found.at(lead).scale for lead in (1, 2, 8)] == pytest.approx([1, 2, 4])
    assert found.at(4).scale == pytest.approx(8**0.5)
    assert found.at(32).scale == pytest.approx(8)
    shrinking = Calibration(1.0, later={2: Calibration(0.1)})
    assert shrinking.at(8).scale == pytest.approx(0.05)  # as fast as summed variances grow, and no faster
    assert Calibration(3.0).at(7).scale == pytest.approx(3.0)
    fading = Calibration(later={2: Calibration(kept=0.8), 8: Calibration(kept=0.4)})
    assert [fading.at(lead).kept for lead in (1, 2, 4, 8, 50)] == pytest.approx([1, 0.8, 0.6, 0.4, 0.4])
    with pytest.raises(InvalidInput, match="lead"):
        found.at(0)
