"""One broken voter of three is outvoted, whatever its fault is; and the answer is what the honest two say."""

from __future__ import annotations

import numpy as np
import pytest

from nvp_agentkit.ensemble import Answer, load_signer, sign_vote
from nvp_agentkit.ensemble.agreement import combine, difference

VOTERS = ("voter-0", "voter-1", "voter-2")


def scaled(mean, log_var):
    return Answer(mean * np.float32(1.5), log_var)


def shifted(mean, log_var):
    return Answer(np.roll(mean, 2, axis=1), np.roll(log_var, 2, axis=1))


def noisy(mean, log_var):
    noise = 0.3 * mean.std() * np.random.default_rng(0).normal(size=mean.shape)
    return Answer(mean + noise.astype(np.float32), log_var)


def inflated_variance(mean, log_var):
    return Answer(mean, log_var + np.float32(np.log(100)))


def scaled_behind_inflated_variance(mean, log_var):
    """Passed a rule in units of the voters' own variances (agents.md: 0.50 against 0.71 for honest pairs)."""
    return Answer(mean * np.float32(1.5), log_var + np.float32(np.log(100)))


def energy_added(mean, log_var):
    return Answer(mean + np.float32(0.3 * mean.std()), log_var)


def not_a_number(mean, log_var):
    broken = mean.copy()
    broken[3, 4] = np.nan
    return Answer(broken, log_var)


def infinite_variance(mean, log_var):
    broken = log_var.copy()
    broken[3, 4] = np.inf
    return Answer(mean, broken)


def constant(mean, log_var):
    return Answer(np.full_like(mean, mean.mean()), log_var)


def another_domain(mean, log_var):
    return Answer(mean[::-1].T.copy(), log_var)


def exponent_bit_flipped(mean, log_var):
    raw = mean.copy()
    raw.view(np.uint32)[5, 5] ^= np.uint32(1 << 28)
    return Answer(raw, log_var)


def one_wrong_cell(mean, log_var):
    """Within the RMS limit: 10 spreads in one of 256 cells are 0.6 spreads of the map."""
    broken = mean.copy()
    broken[5, 5] += np.float32(10 * 0.06 * mean.std())
    return Answer(broken, log_var)


def faintly_wrong_everywhere(mean, log_var):
    """No cell over the peak limit, the total right: the distance alone gives it away."""
    checkers = np.indices(mean.shape).sum(axis=0) % 2 * 2 - 1
    return Answer(mean + (3.5 * 0.06 * mean.std() * checkers).astype(np.float32), log_var)


def another_grid(mean, log_var):
    return Answer(mean[:8], log_var[:8])


WRONG_ANSWERS = [
    scaled, shifted, noisy, inflated_variance, scaled_behind_inflated_variance, energy_added, not_a_number,
    infinite_variance, constant, another_domain, exponent_bit_flipped, one_wrong_cell,
    faintly_wrong_everywhere, another_grid,
]


def assert_outvoted(case, decision, broken: str) -> None:
    others = tuple(voter for voter in case.record.voters if voter != broken)
    assert decision.outcome == "accepted"
    assert decision.agreed == others
    assert decision.votes[broken] != "agreed"
    expected = combine({voter: case.answers[voter] for voter in others}, case.record.rule)
    np.testing.assert_array_equal(decision.answer.mean, expected.mean)


@pytest.mark.parametrize("broken", VOTERS)
@pytest.mark.parametrize("fault", WRONG_ANSWERS, ids=lambda fault: fault.__name__)
def test_a_wrong_answer_is_not_among_the_agreed(new_case, fault, broken):
    for seed in range(1, 6):
        case = new_case(3, seed=seed)
        casts = case.casts() | {broken: case.cast(broken, fault(*case.answers[broken]))}
        assert_outvoted(case, case.decide(casts.values()), broken)


@pytest.mark.parametrize("changes", [
    {"request_id": "request-0"},
    {"request_digest": f"sha256:{'0' * 64}"},
    {"record": f"sha256:{'0' * 64}"},
    {"model_id": "model:before-the-last-training"},
], ids=["replayed", "another field", "another rule", "stale model"])
def test_a_vote_on_something_else_is_not_among_the_agreed(case, changes):
    casts = case.casts() | {"voter-1": case.cast("voter-1", **changes)}
    decision = case.decide(casts.values())
    assert_outvoted(case, decision, "voter-1")
    assert "vote of another" in decision.dissent["voter-1"]


def test_a_vote_in_another_unit_is_not_among_the_agreed(case):
    mean = case.vote("voter-1").mean.model_copy(update={"units": "kJ"})
    casts = case.casts() | {"voter-1": case.cast("voter-1", mean=mean)}
    assert_outvoted(case, case.decide(casts.values()), "voter-1")


def test_a_forged_signature_is_not_among_the_agreed(case):
    casts = case.casts() | {"voter-1": case.cast("voter-1", signer="voter-2")}
    decision = case.decide(casts.values())
    assert_outvoted(case, decision, "voter-1")
    assert "in the name of" in decision.dissent["voter-1"]


def test_a_voter_that_says_two_things_is_not_among_the_agreed(case):
    casts = [*case.casts().values(), case.cast("voter-1", issued_at_ms=2_000)]
    decision = case.decide(casts)
    assert_outvoted(case, decision, "voter-1")
    assert "equivocated" in decision.dissent["voter-1"]


def test_the_same_vote_delivered_twice_is_one_vote(case):
    decision = case.decide([*case.casts().values(), *case.casts().values()])
    assert decision.agreed == VOTERS


def test_a_certified_voter_of_another_ensemble_has_no_say(case):
    vote = case.vote("voter-0").model_copy(update={"voter": "voter-7"})
    envelope = sign_vote(vote, load_signer(case.folder, "voter-7")).encode().decode()
    casts = [*case.casts().values(), case.said("voter-7", envelope=envelope)]
    assert case.decide(casts).agreed == VOTERS


def test_arrays_other_than_the_signed_ones_do_not_count(case):
    others = Answer(case.answers["voter-1"].mean, case.answers["voter-0"].log_var)
    decision = case.decide(case.casts().values(), {"voter-1": others})
    assert_outvoted(case, decision, "voter-1")
    assert decision.dissent["voter-1"] == "its log_var is not the array it signed"


def test_a_summary_that_is_not_its_arrays_does_not_count(case):
    lie = case.vote("voter-1").summary.model_copy(update={"sum": 1.0})
    decision = case.decide((case.casts() | {"voter-1": case.cast("voter-1", summary=lie)}).values())
    assert_outvoted(case, decision, "voter-1")
    assert "summary" in decision.dissent["voter-1"]


def test_a_silent_voter_delays_nothing(case):
    casts = case.casts()
    del casts["voter-1"]
    decision = case.decide(casts.values(), closed=False)
    assert_outvoted(case, decision, "voter-1")
    assert decision.missing == {"voter-1": "no vote"}


def test_a_voter_that_failed_is_missing_with_its_reason(case):
    casts = case.casts() | {"voter-1": case.said("voter-1", failed="out of memory")}
    assert case.decide(casts.values()).missing == {"voter-1": "out of memory"}


def test_junk_in_a_voters_name_does_not_displace_its_vote(case):
    junk = [case.said("voter-1", envelope="{}"),
            case.said("voter-1", failed="so says somebody"),
            case.cast("voter-1", signer="voter-2")]
    assert case.decide([*junk, *case.casts().values()]).agreed == VOTERS


def test_nothing_unsigned_makes_the_tally_give_up_early(case):
    said = [case.said(voter, failed="so says voter-2") for voter in VOTERS[:2]]
    assert case.decide([*said, case.cast("voter-2")], closed=False).outcome == "pending"


def test_with_two_broken_voters_of_three_there_is_no_answer(case):
    casts = case.casts()
    casts["voter-1"] = case.cast("voter-1", scaled(*case.answers["voter-1"]))
    casts["voter-2"] = case.cast("voter-2", shifted(*case.answers["voter-2"]))
    decision = case.decide(casts.values(), closed=False)
    assert decision.outcome == "abstained"
    assert decision.answer is None
    assert "spreads from" in decision.reason


def test_a_request_that_no_further_vote_can_save_is_given_up_at_once(new_case):
    case = new_case(4)
    casts = [case.cast("voter-0"), *[case.cast(voter, fault(*case.answers[voter]))
                                     for voter, fault in (("voter-1", scaled), ("voter-2", shifted))]]
    decision = case.decide(casts, closed=False)
    assert decision.outcome == "abstained"
    assert decision.missing == {"voter-3": "no vote"}


@pytest.mark.parametrize(("n", "broken"), [(4, 1), (7, 2)])
@pytest.mark.parametrize("fault", WRONG_ANSWERS, ids=lambda fault: fault.__name__)
def test_larger_ensembles_mask_as_many_as_their_quorum_leaves_out(new_case, fault, n, broken):
    case = new_case(n, seed=3)
    names = case.record.voters[:broken]
    casts = case.casts() | {name: case.cast(name, fault(*case.answers[name])) for name in names}
    decision = case.decide(casts.values())
    assert decision.outcome == "accepted"
    assert decision.agreed == case.record.voters[broken:]


def test_one_faulty_voter_never_moves_a_certified_value_further_than_the_limit(new_case):
    """The definition of a false certificate, over faults from harmless to absurd: subtle ones may be let in."""
    for strength in np.geomspace(1e-3, 3, 25):
        case = new_case(3, seed=7)
        mean, log_var = case.answers["voter-2"]
        wrong = Answer(mean + np.float32(strength) * np.roll(mean - mean.mean(), 5, 0), log_var)
        decision = case.decide([case.cast("voter-0"), case.cast("voter-1"), case.cast("voter-2", wrong)])
        rule = case.record.rule
        assert difference(decision.answer, combine(case.answers), rule.spread).distance <= rule.limit
