from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest

from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.fields.sequence import FieldMeta, SequenceSet
from nvp_agentkit.fields.split import split
from nvp_agentkit.model import load_model, model_bytes
from nvp_agentkit.model.state import pack
from nvp_agentkit.training import (
    Checkpoint,
    MemberRecipe,
    StepPacer,
    WindowPacer,
    ensemble,
    error_correlation,
    train_members,
)
from nvp_agentkit.training.evaluate import Forecasts
from nvp_agentkit.training.step import _step

from .conftest import SMALL, drifting, masked


def test_members_differ_in_seed_and_width_and_share_the_whole():
    recipes = ensemble(drifting(1, 0), members=7)
    assert [recipe.voter for recipe in recipes] == [f"voter-{place}" for place in range(7)]
    assert len({recipe.config.seed for recipe in recipes}) == 7
    assert len({recipe.config.features for recipe in recipes}) == 7
    assert len({recipe.config.parameters for recipe in recipes}) == 7
    assert len({recipe.config.width for recipe in recipes[:3]}) == 3
    assert len({recipe.config.model_config for recipe in recipes}) == 1  # so that its programs are compiled once
    assert sum(recipe.share for recipe in recipes) == pytest.approx(1)
    assert recipes[0].share == max(recipe.share for recipe in recipes)


@pytest.mark.parametrize(("side", "windows"), [(16, 8), (32, 8), (48, 3), (64, 2), (127, 2), (128, 4), (256, 4)])
def test_a_step_takes_more_windows_of_small_fields(side: int, windows: int):
    data = SequenceSet(np.zeros((1, 3, side, side), np.float32), None, FieldMeta("still"))
    assert {recipe.config.batch_size for recipe in ensemble(data)} == {windows}


@pytest.mark.parametrize(
    ("frames", "grid", "stem", "context"),
    [
        (24, (64, 64), 2, 8),
        (24, (127, 512), 2, 8),
        (23, (64, 64), 2, 2),  # too few windows would be left
        (1100, (64, 64), 2, 8),
        (255, (128, 128), 2, 8),
        (256, (128, 128), 4, 2),
    ],
)
def test_small_fields_and_few_are_folded_less_and_looked_at_for_longer(
    frames: int, grid: tuple[int, int], stem: int, context: int
):
    data = SequenceSet(np.zeros((1, frames, *grid), np.float32), None, FieldMeta("still"))
    networks = {recipe.config.model_config for recipe in ensemble(data)}
    assert {(network.stem, network.context_frames) for network in networks} == {(stem, context)}


@pytest.mark.parametrize(
    ("frames", "grid", "crop", "windows", "blocks"),
    [(24, (127, 512), 128, 2, 63 * 64), (24, (128, 344), 64, 4, 32 * 32), (256, (128, 344), 128, 2, 32 * 32)],
)
def test_a_crop_of_large_fields_has_as_many_blocks_whatever_their_size(frames, grid, crop, windows, blocks):
    data = SequenceSet(np.zeros((1, frames, *grid), np.float32), None, FieldMeta("still"))
    config = ensemble(data, members=1)[0].config
    sides = [min(config.crop, side) // config.model_config.stem for side in grid]
    assert (config.crop, config.batch_size, sides[0] * sides[1]) == (crop, windows, blocks)


@pytest.mark.parametrize(("trajectories", "frames", "context"), [(3, 24, 8), (5, 23, 2), (1, 150, 2), (1, 160, 8)])
def test_no_part_of_the_data_is_too_short_for_what_is_looked_at(trajectories: int, frames: int, context: int):
    values = np.random.default_rng(0).random((trajectories, frames, 16, 16), np.float32)
    parts = split(SequenceSet(values, None, FieldMeta("noise")))
    networks = {recipe.config.model_config for recipe in ensemble(parts.train, shortest=parts.shortest)}
    assert {network.context_frames for network in networks} == {context}


def test_ensembles_of_two_seeds_share_no_member():
    first, other = ({recipe.config.seed for recipe in ensemble(drifting(1, 0), seed=seed)} for seed in (0, 1))
    assert not first & other


def test_the_network_is_the_domain_s():
    meta = FieldMeta("rain", boundary=("open", "reflecting"), conservation="dissipative", positive=True)
    network = ensemble(masked(replace(drifting(1, 0), meta=meta), 0.0))[0].config.model_config
    assert (network.boundary, network.conservation) == (("open", "reflecting"), "dissipative")
    assert (network.positive, network.masked) == (True, True)


@pytest.mark.parametrize("members", [0, 8])
def test_a_number_of_members_that_cannot_be_is_refused(members):
    with pytest.raises(InvalidInput, match=str(members)):
        ensemble(drifting(1, 0), members=members)


def small_ensemble() -> list[MemberRecipe]:
    return [
        MemberRecipe(f"voter-{place}", replace(SMALL, seed=place), share) for place, share in enumerate((0.5, 0.3, 0.2))
    ]


def test_members_divide_one_allowance(train, validation):
    told = []
    trained = train_members(small_ensemble(), train, validation, StepPacer(10), told.append)
    assert [one.steps for one in trained] == [5, 3, 2]
    assert {progress.member for progress in told} == {0, 1, 2}
    last = [max(progress.fraction for progress in told if progress.member == member) for member in range(3)]
    assert last == pytest.approx([1, 1, 1])
    assert not np.array_equal(trained[0].state.weights, trained[1].state.weights)


def test_members_of_unlike_width_share_one_program_and_stay_as_narrow_as_they_began(train, validation):
    narrow = replace(SMALL, features=(6, 5), seed=1)
    recipes = [MemberRecipe("voter-0", SMALL, 0.5), MemberRecipe("voter-1", narrow, 0.5)]
    before = _step._cache_size()
    trained = train_members(recipes, train, validation, StepPacer(8))
    assert _step._cache_size() <= before + 1  # none, where another test has compiled it
    absent = pack(recipes[1].config.first_variables()) == 0
    learnt = np.asarray(trained[1].state.weights)
    assert np.count_nonzero(learnt) <= recipes[1].config.parameters < np.count_nonzero(trained[0].state.weights)
    assert np.any(learnt[absent])  # zero kernels learn; it is channels that are absent
    assert trained[1].steps == 4


def test_members_that_are_done_and_a_checkpoint_of_the_next_give_the_same_members_to_the_bit(train, validation):
    class Second(list):
        """Keeps the second member after its second step."""

        def due(self, step: int) -> bool:
            return step == 2 and len(done) == 1

        def save(self, run, config) -> None:
            self.append(as_it_was(run))

    done, kept = [], Second()
    whole = train_members(
        small_ensemble(), train, validation, StepPacer(10), saving=kept, on_member=lambda _, one: done.append(one)
    )
    rest = train_members(
        small_ensemble(), train, validation, StepPacer(10), done=[whole[0].steps], resume=kept[0],
        on_member=lambda place, _: done.append(place),
    )  # fmt: skip
    assert done == [*whole, 1, 2]
    assert [model_bytes(one.bundle) for one in rest] == [model_bytes(one.bundle) for one in whole[1:]]
    again = Forecasts.again(load_model(model_bytes(whole[0].bundle)), validation)
    np.testing.assert_array_equal(again.log_var, whole[0].forecasts.log_var)
    np.testing.assert_array_equal(again.mean, whole[0].forecasts.mean)


def as_it_was(run: Checkpoint) -> Checkpoint:
    """In buffers that the next step does not use up."""
    return jax.tree.map(np.array, run)


def test_a_no_reaches_every_member(train, validation):
    class Stopped(StepPacer):
        def may_continue(self, step: int) -> bool:
            return step < 4

    trained = train_members(small_ensemble(), train, validation, Stopped(10))
    assert [one.steps for one in trained] == [4, 0, 0]


def test_a_window_counts_its_part_of_the_allowance():
    window = WindowPacer(StepPacer(100), 0.4, 0.8, steps_before=40)
    assert [window.fraction_used(step) for step in (0, 20, 40, 60)] == pytest.approx([0, 0.5, 1, 1])
    assert window.may_continue(39)
    assert not window.may_continue(40)


def test_how_alike_members_err_is_told_by_pair_and_a_hole_says_nothing():
    rng = np.random.default_rng(0)
    came, one, other = rng.standard_normal((3, 4, 16, 16)).astype(np.float32)
    there = np.ones(came.shape, bool)
    there[:, :5] = False
    errors = [one, -2 * one, 0.6 * one + 0.8 * other, np.zeros_like(one)]
    members = [Forecasts(np.where(there, came + error, 1e6), came, came, there) for error in errors]
    found = error_correlation(members)
    assert found == pytest.approx({(0, 1): -1, (0, 2): 0.6, (1, 2): -0.6}, abs=0.05)  # whoever never errs has none
    assert error_correlation(members[:1]) == {}
