"""Training epoch by epoch beyond the founding document's own tests: resumed, stopped, refused, and what it is for."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nvp_agentkit.errors import InvalidField, InvalidFile, InvalidInput
from nvp_agentkit.fields.baselines import score_baselines
from nvp_agentkit.model import NVPConfig, model_bytes
from nvp_agentkit.training import (
    MemberConfig,
    StepPacer,
    Trainer,
    TrainingConfig,
    TrainingData,
    evaluate,
    prepare_training_data,
)
from nvp_agentkit.training.epoch_step import update
from nvp_agentkit.training.evaluate import Forecasts

from .conftest import drifting, masked

pytestmark = pytest.mark.xdist_group("trainer")  # one process: they share compiled programs

NETWORK = NVPConfig(latent_dim=8, encoder_features=(8,), dropout_rate=0.1, context_frames=1, norm="batch")
DATA = prepare_training_data(drifting(6, seed=0, frames=3))
VALIDATION = prepare_training_data(drifting(2, seed=1, frames=3))


@pytest.fixture
def config(tmp_path) -> TrainingConfig:
    return TrainingConfig(NETWORK, batch_size=4, num_epochs=4, checkpoint_every=2, checkpoint_dir=tmp_path / "run")


def weights(trainer: Trainer) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(trainer.state)]


def test_two_epochs_and_two_more_are_four_bit_for_bit(config):
    whole = Trainer(config)
    whole.train(DATA, VALIDATION, verbose=False)
    resumed = Trainer(config)
    resumed.load_checkpoint(whole.folder / "epoch_0002.safetensors")
    assert resumed.epoch == 2
    resumed.train(DATA, VALIDATION, verbose=False)
    assert all(np.array_equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))
    losses = [[one.total_loss for one in run.history["val"]] for run in (whole, resumed)]
    assert losses[0] == losses[1]


def test_a_run_that_is_patient_is_resumed_with_its_best_weights(config):
    patient = replace(config, num_epochs=8, patience=8, learning_rate=3.0, checkpoint_every=4)
    whole, resumed = Trainer(patient), Trainer(patient)
    losses = [one.total_loss for one in whole.train(DATA, VALIDATION, verbose=False)["val"]]
    best = losses.index(min(losses))
    assert best < 4  # before it was interrupted
    resumed.load_checkpoint(whole.folder / "epoch_0004.safetensors")
    resumed.train(DATA, VALIDATION, verbose=False)
    assert all(np.array_equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))
    for run in (whole, resumed):
        assert run.bundle().metrics["val_total_loss"] == losses[best]
    reread = Trainer(replace(patient, patience=None))
    reread.load_checkpoint(whole.folder / "final.safetensors")
    assert reread.bundle().metrics == whole.bundle().metrics
    assert not whole.bundle().metrics.keys() & {"val_epoch", "val_training_time_s"}


def test_a_step_is_compiled_once(config):
    before = update._cache_size()
    trainer = Trainer(replace(config, batch_size=3))
    trainer.train(DATA, VALIDATION, verbose=False)
    again = Trainer(replace(config, batch_size=3, seed=5))
    again.train(TrainingData(2 * DATA.energy, 2 * DATA.gradients), VALIDATION, verbose=False)
    assert update._cache_size() == before + 1


def test_training_that_gets_no_better_stops(config):
    trainer = Trainer(replace(config, num_epochs=50, patience=2, learning_rate=1e-30))
    history = trainer.train(DATA, VALIDATION, verbose=False)
    assert len(history["val"]) <= 12  # running averages settle first


def test_after_training_that_was_stopped_the_best_weights_are_kept(config):
    trainer = Trainer(replace(config, num_epochs=8, patience=8, learning_rate=3.0))
    history = trainer.train(DATA, VALIDATION, verbose=False)
    best = min(one.total_loss for one in history["val"])
    assert best < history["val"][-1].total_loss
    batch = trainer.prepare_batch(*VALIDATION, range(4))
    assert trainer.val_step(trainer.state, batch)["total_loss"] == pytest.approx(best, rel=1e-5)


def test_training_that_may_not_continue_ends_between_two_steps(config):
    trainer = Trainer(config, may_continue=StepPacer(4).may_continue)
    history = trainer.train(DATA, VALIDATION, verbose=False)
    assert trainer.state.step == 4  # of three an epoch
    assert len(history["val"]) == 2
    assert (trainer.folder / "final.safetensors").exists()


def test_a_loss_that_stays_no_number_ends_the_run_and_leaves_the_checkpoints(config):
    trainer = Trainer(config)
    trainer.train(DATA, VALIDATION, verbose=False)
    kept = {path: path.read_bytes() for path in trainer.folder.iterdir()}
    again = Trainer(replace(config, learning_rate=1e30))
    with pytest.raises(InvalidInput, match="lower learning_rate"):
        again.train(DATA, VALIDATION, verbose=False)
    assert {path: path.read_bytes() for path in trainer.folder.iterdir()} == kept
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(again.state.params))
    with pytest.raises(InvalidInput, match="lower learning_rate"):  # asked again it ends again
        again.train(DATA, VALIDATION, verbose=False)
    slower = Trainer(replace(config, num_epochs=5, learning_rate=1e-5))  # what is advised can be done
    slower.load_checkpoint(trainer.folder / "epoch_0002.safetensors")
    assert len(slower.train(DATA, VALIDATION, verbose=False)["val"]) == 5


def test_a_loss_that_is_no_number_takes_the_run_back_an_epoch_at_half_the_rate(config, capsys):
    config = replace(config, model_config=replace(NETWORK, dropout_rate=0.0), num_epochs=3, checkpoint_every=1)

    def broken_once(step: int) -> bool:
        if step == 4:  # in the middle of the second epoch
            nowhere = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), broken.state.params)
            broken.state = broken.state.replace(params=nowhere)
        return True

    broken = Trainer(config, may_continue=broken_once)
    broken.train(DATA, VALIDATION)
    assert (
        "Step 2: the loss is no number; back to the weights of epoch 1, learning rate 5e-05" in capsys.readouterr().out
    )
    slower = Trainer(replace(config, learning_rate=config.learning_rate / 2))
    slower.load_checkpoint(broken.folder / "epoch_0001.safetensors")
    slower.train(DATA, VALIDATION, verbose=False)
    for ours, theirs in zip(*(jax.tree.leaves(run.state.params) for run in (broken, slower)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_gradient_that_is_no_number_leaves_the_weights_as_they_were(config):
    trainer = Trainer(config)
    batch = trainer.prepare_batch(*DATA, range(4))
    batch["energy_next"] = np.full_like(batch["energy_next"], np.inf)
    after, means = trainer.train_step(trainer.state, batch)
    assert np.isnan(means["total_loss"])
    for before, now in zip(*(jax.tree.leaves(state.params) for state in (trainer.state, after)), strict=True):
        np.testing.assert_array_equal(before, now)


def test_the_documents_own_network_trains(config):
    network = NVPConfig.documented((16, 16), latent_dim=8, encoder_features=(4,), decoder_features=(4,))
    trainer = Trainer(replace(config, model_config=network, num_epochs=12, learning_rate=1e-2))
    fresh = trainer.variables["params"]["documented"]
    history = trainer.train(DATA, verbose=False)
    assert history["train"][-1].mse_loss < 0.8 * history["train"][0].mse_loss
    assert len(history["val"]) == 12  # one sequence of six was held back
    moved = jax.tree.map(
        lambda old, new: not np.array_equal(old, new), fresh, trainer.variables["params"]["documented"]
    )
    assert any(jax.tree.leaves(moved["mean_decoder"]))
    assert not any(jax.tree.leaves(moved["log_var_decoder"]))  # the document's loss does not contain it


def test_the_default_topology_starts_from_the_best_trivial_forecaster(tmp_path):
    data, test = drifting(4, seed=0, frames=4), drifting(2, seed=1, frames=4)
    network = NVPConfig(latent_dim=8, encoder_features=(8,))
    config = TrainingConfig(network, batch_size=4, num_epochs=1, variance_weight=0.1, checkpoint_dir=tmp_path)
    trainer = Trainer(config)
    trainer.train(prepare_training_data(data), prepare_training_data(test), verbose=False)
    bundle = trainer.bundle("drift")
    assert evaluate(bundle, test).vrmse < 0.5 * score_baselines(data, test)["persistence"]
    assert bundle.metrics["val_rmse"] == pytest.approx(trainer.history["val"][-1].rmse)
    assert np.std(Forecasts.of(bundle, test).log_var) > 0  # the likelihood trained it
    assert model_bytes(bundle)


@pytest.mark.parametrize(
    ("change", "data", "said"),
    [
        ({"batch_size": 99}, DATA, "batch_size is 99"),
        ({}, TrainingData(DATA.energy[:1], DATA.gradients[:1]), "none is left to train on"),
        ({}, TrainingData(DATA.energy[:, :1], DATA.gradients[:, :1]), "at least 2 frames"),
        ({}, TrainingData(DATA.energy, DATA.gradients[..., :1]), "gradients are"),
    ],
)
def test_data_that_hold_too_little_are_refused(config, change, data, said):
    with pytest.raises(InvalidField, match=said):
        Trainer(replace(config, **change)).train(data, verbose=False)


@pytest.mark.parametrize(
    ("validation", "said"),
    [
        (TrainingData(DATA.energy[:0], DATA.gradients[:0]), "validation data hold no sequence"),
        (TrainingData(DATA.energy[:, :1], DATA.gradients[:, :1]), "at least 2 frames"),
        (TrainingData(np.full_like(DATA.energy, np.nan), DATA.gradients), "validation data hold values that are not"),
        (TrainingData(DATA.energy[..., :8], DATA.gradients[..., :8, :]), r"validation fields are \(16, 8\) cells"),
    ],
)
def test_validation_data_that_cannot_be_used_are_refused_before_the_first_step(config, validation, said):
    trainer = Trainer(config)
    with pytest.raises(InvalidField, match=said):
        trainer.train(DATA, validation, verbose=False)
    assert trainer.state.step == 0


@pytest.mark.parametrize("indices", [[-1], [12], [], [[0]]])
def test_a_window_that_is_not_there_is_named(config, indices):
    with pytest.raises(InvalidField, match="from 0 to 11"):
        Trainer(config).prepare_batch(*DATA, indices)


@pytest.mark.parametrize(
    ("sequences", "said"),
    [
        (masked(drifting(2, 0), 0.0), "MemberTrainer"),
        (np.full((1, 3, 16, 16), np.nan), "finite"),
        (np.zeros((3, 16, 16)), "give"),
        ([np.zeros((3, 16, 16)), np.zeros((2, 16, 16))], "one shape"),
    ],
)
def test_sequences_that_nothing_can_be_learnt_from_are_refused(sequences, said):
    with pytest.raises(InvalidField, match=said):
        prepare_training_data(sequences)


def test_a_checkpoint_of_another_run_is_refused_and_changes_nothing(config):
    path = Trainer(config).save_checkpoint(0)
    other = Trainer(replace(config, seed=1))
    before = weights(other)
    with pytest.raises(InvalidFile, match="seed = 0, not 1"):
        other.load_checkpoint(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InvalidFile):
        Trainer(config).load_checkpoint(path)
    with pytest.raises(InvalidFile, match=r"missing\.safetensors"):
        other.load_checkpoint(path.with_name("missing.safetensors"))
    assert all(np.array_equal(a, b) for a, b in zip(before, weights(other), strict=True))


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0}, {"num_epochs": 0}, {"patience": 0}, {"learning_rate": -1.0}, {"lambda_entropy": -0.1},
        {"validation_split": 1.0}, {"optimiser": "sgd"}, {"batch_size": 2.5}, {"seed": -1}, {"seed": 2**32},
    ],
)  # fmt: skip
def test_a_configuration_out_of_range_is_named(wrong):
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        TrainingConfig(**wrong)


def test_members_are_refused_what_their_one_vector_cannot_hold():
    for network in (replace(NETWORK, norm="batch"), NVPConfig.documented((16, 16), norm="none")):
        with pytest.raises(InvalidInput, match=r"training\.Trainer"):
            MemberConfig(network)
