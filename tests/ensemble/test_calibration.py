"""The rule follows from honest members: it lets their like pass and names what it was made from."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nvp_agentkit.ensemble import Answer, calibrate_rule
from nvp_agentkit.ensemble.agreement import combine, difference
from nvp_agentkit.errors import InvalidField

SAMPLES, SIZE = 60, 16


def members(honest_arrays, k):
    means, log_vars, _ = honest_arrays
    return [Answer(means[i, k], log_vars[i, k]) for i in range(len(means))]


@pytest.fixture(scope="module")
def arrays():
    """Calibration data of three members and as much again that the rule has not seen."""
    rng = np.random.default_rng(5)
    truths = rng.gamma(4, 0.25, (2 * SAMPLES, SIZE, SIZE))
    level = rng.lognormal(0, 0.2, (1, 2 * SAMPLES, 1, 1))
    skills = np.array([0.05, 0.06, 0.08]).reshape(3, 1, 1, 1)
    means = truths + level * skills * rng.normal(size=(3, *truths.shape))
    log_vars = np.log((level * skills) ** 2) + 0.1 * rng.normal(size=means.shape)
    seen, new = np.s_[:, :SAMPLES], np.s_[:, SAMPLES:]
    return (means[seen], log_vars[seen], truths[:SAMPLES]), (means[new], log_vars[new], truths[SAMPLES:])


def share_agreeing(rule, honest_arrays, mask=None):
    pairs = [
        difference(a, b, rule.spread, mask).within(rule)
        for k in range(honest_arrays[0].shape[1])
        for a, b in itertools.combinations(members(honest_arrays, k), 2)
    ]
    return np.mean(pairs)


def test_honest_members_agree_on_data_the_rule_has_not_seen(arrays):
    seen, new = arrays
    assert share_agreeing(calibrate_rule(*seen), new) >= 0.99


def test_the_spread_is_the_error_of_the_members(arrays):
    means, log_vars, truths = arrays[0]
    rule = calibrate_rule(means, log_vars, truths, units="K")
    assert rule.spread == pytest.approx(np.sqrt(np.mean((means - truths) ** 2)))
    assert (rule.units, rule.pairs, rule.quantile, rule.margin) == ("K", 3 * SAMPLES, 0.99, 1.25)


def test_what_members_say_together_claims_the_variance_of_its_error(arrays):
    (means, log_vars, truths), (new_means, new_log_vars, new_truths) = arrays
    shared = 0.05 * np.random.default_rng(6).normal(size=(2, *truths.shape))  # an error that all make
    rule = calibrate_rule(means + shared[0], log_vars, truths)
    for count in (2, 3):
        told = [
            combine({str(n): Answer(new_means[n, k] + shared[1, k], new_log_vars[n, k]) for n in range(count)}, rule)
            for k in range(SAMPLES)
        ]
        error = np.mean([(one.mean - truth) ** 2 for one, truth in zip(told, new_truths, strict=True)])
        assert np.mean([np.exp(one.log_var) for one in told]) == pytest.approx(error, rel=0.2)
    assert rule.doubt[0] == 1 > rule.doubt[2]


def test_samples_in_which_nothing_was_observed_say_nothing_of_doubt(arrays):
    means, log_vars, truths = (np.repeat(array, 4, axis=-3) for array in arrays[0])
    mask = np.zeros(truths.shape, bool)
    mask[1] = True
    assert calibrate_rule(means, log_vars, truths, mask=mask).doubt[2] > 0


def test_the_limit_is_a_quantile_of_honest_pairs_times_the_declared_margin(arrays):
    plain, wide = (calibrate_rule(*arrays[0], quantile=0.5, margin=margin) for margin in (1.0, 2.0))
    assert wide.limit == pytest.approx(2 * plain.limit)
    assert share_agreeing(plain, arrays[0]) < 0.55


def test_the_rule_scales_with_the_unit_of_the_field(arrays):
    means, log_vars, truths = arrays[0]
    joule, kilojoule = calibrate_rule(means, log_vars, truths), calibrate_rule(means / 1e3, log_vars, truths / 1e3)
    assert kilojoule.spread == pytest.approx(joule.spread / 1e3)
    assert kilojoule.limit == pytest.approx(joule.limit)


def test_perfect_members_make_a_rule_that_they_meet():
    truths = np.ones((4, SIZE, SIZE))
    perfect = np.ones((3, 4, SIZE, SIZE))
    rule = calibrate_rule(perfect, np.zeros_like(perfect), truths)
    assert share_agreeing(rule, (perfect, np.zeros_like(perfect), truths)) == 1


@pytest.mark.parametrize("changing", [False, True])
def test_masked_cells_have_no_say(arrays, changing):
    means, log_vars, truths = (array.copy() for array in arrays[0])
    mask = np.ones((SAMPLES, SIZE, SIZE), bool)
    mask[:, :5] = False
    mask = mask if changing else mask[0]
    inside = np.broadcast_to(mask, truths.shape)
    for array in (means, log_vars):
        array[:, ~inside] = np.nan
    truths[~inside] = np.nan
    assert calibrate_rule(means, log_vars, truths, mask=mask) == calibrate_rule(
        *(array[..., 5:, :] for array in (means, log_vars, truths)))


@pytest.mark.parametrize(("spoil", "said"), [
    (lambda m, v, t: (m[:1], v[:1], t), "n >= 2 members"),
    (lambda m, v, t: (m, v[:, :-1], t), "do not fit"),
    (lambda m, v, t: (m, v, t[:, :-1]), "do not fit"),
    (lambda m, v, t: (np.where(m > 2, np.nan, m), v, t), "means: a valid cell is not finite"),
    (lambda m, v, t: (m, np.where(m > 2, np.inf, v), t), "log_vars: a valid cell is not finite"),
])
def test_what_no_rule_can_be_made_of_is_refused(arrays, spoil, said):
    with pytest.raises(InvalidField, match=said):
        calibrate_rule(*spoil(*arrays[0]))


def test_a_mask_that_leaves_nothing_or_does_not_fit_is_refused(arrays):
    with pytest.raises(InvalidField, match="nothing to calibrate on"):
        calibrate_rule(*arrays[0], mask=np.zeros((SIZE, SIZE), bool))
    with pytest.raises(InvalidField, match="mask of shape"):
        calibrate_rule(*arrays[0], mask=np.ones((3, 3), bool))
