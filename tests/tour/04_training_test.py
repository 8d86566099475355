"""Four: training. You say how many joules it may use; it uses no more, and tells what it has learnt for them."""

from __future__ import annotations


def test_progress_tells_joules_and_skill_while_it_learns(ensemble) -> None:
    # async for p in job: print(p.phase, p.step, p.loss, p.skill, p.used_mj, p.granted_mj, p.eta_s)
    phases = list(dict.fromkeys(line.phase for line in ensemble.story))
    assert phases[0] == "baselines"
    assert {"training", "validating", "judging"} <= set(phases)
    used = [line.used_mj for line in ensemble.story]
    assert used == sorted(used)
    assert any(line.skill is not None and line.baseline for line in ensemble.story)


def test_it_ends_within_what_was_granted(ensemble) -> None:
    energy = ensemble.job.energy
    assert energy.mj <= 1000 * ensemble.budget_j
    # No sensor here: the figure is modelled from CPU-seconds, says so, and has honest bounds.
    assert energy.method in ("modelled", "apportioned", "measured")
    assert energy.lo_mj <= energy.mj <= energy.hi_mj


def test_it_yields_an_ensemble_of_three_that_differ(ensemble) -> None:
    members = ensemble.job.members
    assert [member.voter for member in members] == ["voter-0", "voter-1", "voter-2"]
    assert len({member.seed for member in members}) == 3
    assert len({member.model_id for member in members}) == 3
    assert len({member.parameters for member in members}) == 3
    pairs = {pair: ensemble.job.summary[f"error_correlation_{pair}"] for pair in ("0_1", "0_2", "1_2")}
    # Voters that share every mistake outvote none: how alike they err is on record. Near 1 are those that so little
    # data and so few joules have taught nothing beyond the trivial forecast.
    assert all(0 < alike <= 1 for alike in pairs.values()), pairs


def test_each_is_judged_on_trajectories_it_has_never_seen_against_the_best_trivial_forecast(ensemble) -> None:
    best = min(ensemble.job.baselines.values())
    for member in ensemble.job.members:
        # Skill 0 is as good as the best of persistence, extrapolation and advection; 1 is perfect.
        assert abs(member.skill - (1 - member.vrmse / best)) < 1e-6
    assert ensemble.job.summary["held_out_by"] == "by trajectory"
    assert 0 < ensemble.job.summary["budget_error_true"] < 0.1  # of the sum of E, by the champion
    assert "budget_error_own" not in ensemble.job.summary  # a plasma's total is open: nothing binds it
