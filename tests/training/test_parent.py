"""Going on from a trained model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nvp_agentkit.errors import InvalidFile, InvalidInput
from nvp_agentkit.fields.sequence import SequenceSet
from nvp_agentkit.model import predict_next, save_model
from nvp_agentkit.model.state import pack
from nvp_agentkit.training import (
    MemberRecipe,
    MemberTrainer,
    Parent,
    StepPacer,
    Trainer,
    TrainingConfig,
    ensemble,
    prepare_training_data,
    train_members,
)

from .conftest import SMALL, drifting, masked

NARROW = replace(SMALL, features=(6, 5), seed=1)


@pytest.fixture(scope="module")
def parents(train, validation) -> list[Parent]:
    recipes = [MemberRecipe("voter-0", SMALL, 0.5), MemberRecipe("voter-1", NARROW, 0.5)]
    return [Parent.of(one.bundle) for one in train_members(recipes, train, validation, StepPacer(60))]


def test_a_child_begins_where_its_parent_was_and_names_it(train, validation, parents):
    parent = parents[0]
    child = MemberTrainer(replace(SMALL, seed=7)).fit(train, validation, StepPacer(0), parent=parent)
    frames = validation.values[:2, :2]
    np.testing.assert_array_equal(predict_next(child.bundle, frames)[0], predict_next(parent.bundle, frames)[0])
    assert child.bundle.recipe["parent"] == parent.model_id
    assert "parent" not in parent.bundle.recipe


def test_other_data_are_learnt_sooner_from_a_parent_in_whatever_unit_they_are(train, validation, parents):
    def hundredfold(data: SequenceSet) -> SequenceSet:
        return replace(data, values=100 * data.values)

    few = hundredfold(drifting(2, seed=5))
    held_out = hundredfold(drifting(3, seed=6))
    child, fresh = (
        MemberTrainer(SMALL).fit(few, held_out, StepPacer(4), parent=parent).bundle.metrics["validation_vrmse"]
        for parent in (parents[0], None)
    )
    assert child < 0.95 * fresh


def test_an_ensemble_goes_on_member_by_member_as_narrow_as_each_was(train, parents):
    recipes = ensemble(train, members=2, seed=3, parents=parents)
    assert [recipe.parent for recipe in recipes] == parents
    assert [recipe.config.features for recipe in recipes] == [None, (6, 5)]
    assert {recipe.config.model_config for recipe in recipes} == {SMALL.model_config}
    closed = replace(train, meta=replace(train.meta, conservation="closed", boundary=("open", "open")))
    assert ensemble(closed, members=1, parents=parents)[0].config.model_config.conservation == "closed"
    with pytest.raises(InvalidInput, match=r"3 members, and an ensemble of 2 to go on from; give 2"):
        ensemble(train, members=3, parents=parents)


def test_a_parent_that_is_another_network_is_refused_and_what_differs_named(train, validation, parents):
    wider = replace(SMALL, model_config=replace(SMALL.model_config, latent_dim=12))
    with pytest.raises(InvalidInput, match="latent_dim 9 and not 12; go on with its own"):
        MemberTrainer(wider).fit(train, validation, StepPacer(1), parent=parents[0])
    with pytest.raises(InvalidInput, match=r"channels \(6, 5\), this recipe of the whole network: give the champion"):
        MemberTrainer(SMALL).fit(train, validation, StepPacer(1), parent=parents[1])
    with pytest.raises(InvalidInput, match="masked False and not True"):
        ensemble(masked(train, 0.0), members=1, parents=parents)


def test_a_parent_whose_weights_only_look_alike_is_refused(parents):
    bare = replace(SMALL.model_config, use_residual=not SMALL.model_config.use_residual)
    with pytest.raises(InvalidInput, match="use_residual True and not False"):
        parents[0].require(bare)
    parents[0].require(replace(SMALL.model_config, dropout_rate=0.2, boundary=("open", "open")))


def test_the_documents_trainer_goes_on_as_well_and_a_resumed_run_remembers_from_what(parents, tmp_path):
    network = replace(SMALL.model_config, boundary=("open", "open"))  # no weight hangs on it
    config = TrainingConfig(network, batch_size=4, num_epochs=1, checkpoint_dir=tmp_path)
    data = prepare_training_data(drifting(2, seed=0, frames=4))
    trainer = Trainer(config, may_continue=lambda _: False)
    trainer.train(data, data, verbose=False, parent=parents[0])
    np.testing.assert_array_equal(pack(trainer.variables), pack(parents[0].bundle.variables))
    resumed = Trainer(config)
    resumed.load_checkpoint(tmp_path / "final.safetensors")
    assert resumed.bundle().recipe["parent"] == trainer.bundle().recipe["parent"] == parents[0].model_id


def test_a_parent_is_named_after_its_file(parents, tmp_path):
    path = tmp_path / "model.safetensors"
    assert save_model(parents[0].bundle, path) == Parent.read(path).model_id == parents[0].model_id
    with pytest.raises(InvalidFile, match=r"none\.safetensors"):
        Parent.read(tmp_path / "none.safetensors")


def test_the_model_of_the_package_is_a_parent_by_its_name(train):
    parent = Parent.read("starter")
    (recipe,) = ensemble(train, members=1, parents=[parent])
    assert recipe.parent is parent
    assert recipe.config.model_config.boundary == train.meta.boundary
    assert parent.weights_for(recipe.config.model_config, recipe.config.features)
    with pytest.raises(InvalidInput, match="masked False and not True"):
        ensemble(masked(train, 0.0), members=1, parents=[parent])
