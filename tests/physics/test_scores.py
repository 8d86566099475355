"""Scores of doubt, where the honest answer is known."""

import numpy as np
import pytest

from nvp_agentkit.errors import InvalidField, InvalidInput
from nvp_agentkit.fields import scores

RNG = np.random.default_rng(0)
TRUTH = RNG.normal(size=(20, 32, 32))


def honest(count: int) -> np.ndarray:
    """Members that know as much of the truth as it knows of them: all drawn around one unknown mean."""
    return RNG.normal(size=(count, *TRUTH.shape))


def test_fair_crps_does_not_reward_or_punish_the_number_of_members() -> None:
    found = [scores.fair_crps(honest(count), TRUTH) for count in (2, 3, 10)]
    assert found == pytest.approx([1 / np.sqrt(np.pi)] * 3, rel=0.02)  # E|X - Y| / 2 of standard normals


def test_fair_crps_prefers_the_better_ensemble_and_is_zero_for_the_truth() -> None:
    right = honest(5)
    assert scores.fair_crps(right + 1, TRUTH) > scores.fair_crps(right, TRUTH)
    assert scores.fair_crps(np.stack([TRUTH, TRUTH]), TRUTH) == 0


def test_an_interval_covers_what_it_says_and_is_as_wide_as_it_is() -> None:
    low, high = np.full_like(TRUTH, -1.645), np.full_like(TRUTH, 1.645)
    assert scores.coverage(low, high, TRUTH) == pytest.approx(0.90, abs=0.01)
    assert scores.width(low, high, TRUTH) == pytest.approx(3.29)
    assert scores.coverage(TRUTH, TRUTH, TRUTH) == 1


@pytest.mark.parametrize(("claimed", "expected"), [(1.0, 1.0), (0.25, 0.5), (4.0, 2.0)])
def test_spread_against_skill_is_one_where_doubt_is_honest(claimed: float, expected: float) -> None:
    log_var = np.full_like(TRUTH, np.log(claimed))
    assert scores.spread_skill(np.zeros_like(TRUTH), log_var, TRUTH) == pytest.approx(expected, rel=0.02)


def test_an_ensemble_of_three_is_honest_once_it_is_corrected_for_being_three() -> None:
    members = honest(3)
    mean, log_var = members.mean(0), np.log(members.var(0, ddof=1))
    assert scores.spread_skill(mean, log_var, TRUTH) == pytest.approx(np.sqrt(3 / 4), rel=0.02)
    assert scores.spread_skill(mean, log_var, TRUTH, members=3) == pytest.approx(1, rel=0.02)


def test_what_the_mask_leaves_out_counts_for_nothing() -> None:
    mask = TRUTH > 0
    spoilt = np.where(mask, TRUTH, np.nan)
    members, zeros = honest(3), np.zeros_like(TRUTH)
    assert scores.fair_crps(members, spoilt, mask) == scores.fair_crps(members, TRUTH, mask)
    assert scores.coverage(zeros - 1, zeros + 1, spoilt, mask) == scores.coverage(zeros - 1, zeros + 1, TRUTH, mask)
    assert scores.spread_skill(zeros, zeros, spoilt, mask) == scores.spread_skill(zeros, zeros, TRUTH, mask)
    with pytest.raises(InvalidField, match="no valid cell"):
        scores.width(zeros, zeros, TRUTH, np.zeros(TRUTH.shape, bool))


def test_one_member_is_no_ensemble() -> None:
    with pytest.raises(InvalidField, match="M >= 2"):
        scores.fair_crps(honest(1), TRUTH)


def test_the_bootstrap_draws_trajectories_not_frames() -> None:
    errors = np.array([1.0, 2.0, 3.0, 4.0])
    found = scores.bootstrap_by_trajectory(lambda drawn: float(errors[drawn].mean()), len(errors))
    assert found.value == 2.5
    assert 1.2 < found.low < 2 < 3 < found.high < 3.8
    again = scores.bootstrap_by_trajectory(lambda drawn: float(errors[drawn].mean()), len(errors))
    assert found == again
    alone = scores.bootstrap_by_trajectory(lambda drawn: float(errors[drawn].mean()), 1)
    assert np.isnan([alone.low, alone.high]).all()
    with pytest.raises(InvalidInput, match="at least 1"):
        scores.bootstrap_by_trajectory(lambda drawn: 0.0, 0)


def test_coverage_by_decile_shows_where_intervals_are_too_narrow():
    size = np.linspace(0, 1, TRUTH.size).reshape(TRUTH.shape)
    deciles = scores.coverage_by_decile(TRUTH - 0.55, TRUTH + 0.55, TRUTH + size, size)
    assert deciles == pytest.approx([1, 1, 1, 1, 1, 0.5, 0, 0, 0, 0], abs=0.01)
    shuffled = np.random.default_rng(0).permutation(size.ravel()).reshape(TRUTH.shape)
    mixed = scores.coverage_by_decile(TRUTH - 0.55, TRUTH + 0.55, TRUTH + size, shuffled, np.ones(TRUTH.shape, bool))
    assert mixed == pytest.approx([0.55] * 10, abs=0.1)
