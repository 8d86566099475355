"""What two answers' difference, the agreeing set and the combined answer promise, whatever the arrays are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nvp_agentkit.ensemble import Answer
from nvp_agentkit.ensemble.agreement import Difference, combine, difference, largest_agreeing
from nvp_agentkit.ensemble.record import AgreementRule
from nvp_agentkit.errors import InvalidField, InvalidInput

RULE = AgreementRule(units="J", spread=1, limit=1, peak_limit=1, variance_limit=1,
                     budget_limit=1, quantile=0.99, margin=1, pairs=1)
seeds = st.integers(0, 2**32 - 1)


def answer(seed: int, size: int = 16) -> Answer:
    rng = np.random.default_rng(seed)
    return Answer(rng.normal(2, 1, (size, size)).astype("f4"), rng.normal(-3, 0.5, (size, size)).astype("f4"))


@given(seeds, seeds)
def test_a_difference_is_symmetric_and_zero_for_equals(one, other):
    assert difference(answer(one), answer(other), 0.5) == difference(answer(other), answer(one), 0.5)
    assert difference(answer(one), answer(one), 0.5) == Difference(0, 0, 0, 0)


@given(seeds, seeds, st.floats(0.01, 100))
def test_a_difference_does_not_depend_on_the_unit(one, other, factor):
    a, b = answer(one), answer(other)
    wide = [Answer(x.mean.astype("f8") * factor, x.log_var) for x in (a, b)]
    np.testing.assert_allclose(difference(*wide, 0.5 * factor), difference(a, b, 0.5), rtol=1e-9, atol=1e-12)


@given(seeds, st.floats(1.01, 10))
def test_no_claimed_variance_shrinks_a_distance(seed, factor):
    a, b = answer(seed), answer(seed + 1)
    bold = Answer(b.mean, b.log_var + np.float32(np.log(factor)))
    assert difference(a, bold, 0.5).distance == difference(a, b, 0.5).distance


@pytest.mark.parametrize("measure", Difference._fields)
def test_each_measure_alone_can_part_two_votes(measure):
    assert Difference(1, 1, 1, 1).within(RULE)
    assert not Difference(0, 0, 0, 0)._replace(**{measure: 1.01}).within(RULE)


def test_masked_cells_do_not_count():
    a, mask = answer(1), np.ones((16, 16), bool)
    mask[:4] = False
    b = Answer(np.where(mask, a.mean, np.float32(np.nan)), np.where(mask, a.log_var, np.float32(np.nan)))
    assert difference(a, b, 0.5, mask) == Difference(0, 0, 0, 0)


def test_a_mask_of_another_grid_is_not_applied_and_an_empty_one_is_refused():
    assert difference(answer(1), answer(2), 1.0, np.zeros((4, 4), bool)) == difference(answer(1), answer(2), 1.0)
    with pytest.raises(InvalidField, match="every cell is masked"):
        difference(answer(1), answer(2), 1.0, np.zeros((16, 16), bool))


@given(st.integers(1, 7), seeds)
def test_the_members_total_is_the_answers_total(count, seed):
    """Conservation: members that all carry one total leave it unchanged, to the rounding of float32."""
    members = {}
    for k in range(count):
        mean, log_var = answer(seed + k)
        members[f"voter-{k}"] = Answer((mean + (100 - mean.sum(dtype="f8")) / mean.size).astype("f4"), log_var)
    assert combine(members).mean.sum(dtype="f8") == pytest.approx(100, rel=1e-5)


@given(st.integers(1, 7), seeds)
def test_the_variance_is_within_plus_between_for_a_finite_ensemble(count, seed):
    members = {f"voter-{k}": answer(seed + k) for k in range(count)}
    means = np.float64([a.mean for a in members.values()])
    within = np.exp(np.float64([a.log_var for a in members.values()])).mean(axis=0)
    expected = (within + means.var(axis=0)) * (count + 1) / count
    np.testing.assert_allclose(np.exp(combine(members).log_var.astype("f8")), expected, rtol=3e-4)


def test_a_masked_cell_without_a_value_stays_without_one():
    mean, log_var = answer(1)
    hole = mean.copy()
    hole[0, 0] = np.nan
    combined = combine({"voter-0": Answer(mean, log_var), "voter-1": Answer(hole, log_var)})
    assert np.isnan(combined.mean).sum() == np.isnan(combined.log_var).sum() == 1


def test_of_equal_sets_the_closest_is_taken():
    flat = {name: Answer(np.full((2, 2), level, "f4"), np.zeros((2, 2), "f4"))
            for name, level in {"voter-0": 0.0, "voter-1": 0.9, "voter-2": 1.7}.items()}
    pairs = {(a, b): difference(flat[a], flat[b], 1.0) for a, b in itertools.combinations(flat, 2)}
    assert largest_agreeing(flat, pairs, RULE) == ("voter-1", "voter-2")


def test_of_equally_close_sets_the_first_by_name_is_taken():
    flat = {name: Answer(np.full((2, 2), level, "f4"), np.zeros((2, 2), "f4"))
            for name, level in {"voter-0": 0.0, "voter-1": 1.0, "voter-2": 2.0}.items()}
    pairs = {(a, b): difference(flat[a], flat[b], 1.0) for a, b in itertools.combinations(flat, 2)}
    assert largest_agreeing(flat, pairs, RULE) == ("voter-0", "voter-1")


@pytest.mark.parametrize(("n", "quorum"), [(3, 2), (4, 3), (7, 5)])
def test_the_first_quorum_decides_and_one_vote_less_does_not(new_case, n, quorum):
    case = new_case(n)
    casts = list(case.casts().values())
    assert case.record.quorum == quorum
    assert case.decide(casts[:quorum], closed=False).outcome == "accepted"
    assert case.decide(casts[: quorum - 1], closed=False).outcome == "pending"
    assert case.decide(casts[: quorum - 1], closed=True).outcome == "abstained"


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), n=st.sampled_from([3, 4, 7]))
def test_the_same_votes_in_any_order_give_the_same_certificate(new_case, data, n):
    case = new_case(n, seed=2)
    case.answers["voter-2"] = Answer(case.answers["voter-2"].mean * np.float32(1.5), case.answers["voter-2"].log_var)
    junk = case.said("voter-0", envelope="junk")
    casts = [*case.casts().values(), junk, case.cast("voter-1", signer="voter-0")]
    again = data.draw(st.permutations([*casts, casts[0]]))
    assert case.decide(again).votes == case.decide(casts).votes
    assert case.certificate(again) == case.certificate(casts)


def test_a_single_model_has_no_quorum_to_ask(case):
    alone = case.record.model_copy(update={"members": case.record.members[:1], "rule": None})
    case.record = alone
    with pytest.raises(InvalidInput, match="at least 3"):
        case.decide([])
