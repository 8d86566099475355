"""The founding document's tests of the trainer: its five classes, its 14 tests, batch normalisation throughout."""

from __future__ import annotations

import json
from dataclasses import asdict

import jax
import numpy as np
import pytest

from nvp_agentkit.training import Trainer, TrainingConfig, TrainingMetrics, prepare_training_data

from .conftest import SIDE, SMALL, waves

pytestmark = pytest.mark.xdist_group("trainer")  # one process: they share compiled programs


class TestTrainingConfig:
    def test_the_default_configuration_is_the_document_s(self):
        config = TrainingConfig()
        assert (config.lambda_conservation, config.lambda_entropy) == (0.1, 0.05)
        assert (config.optimiser, config.learning_rate, config.validation_split) == ("adam", 1e-4, 0.05)
        assert config.variance_weight == 0

    def test_a_custom_configuration_keeps_what_it_was_given(self):
        config = TrainingConfig(model_config=SMALL, batch_size=16, num_epochs=50, learning_rate=1e-3)
        assert (config.model_config, config.batch_size, config.num_epochs) == (SMALL, 16, 50)
        assert json.loads(json.dumps(config.to_dict()))["learning_rate"] == 1e-3


class TestTrainingMetrics:
    def test_metrics_are_created_and_told_as_json(self):
        metrics = TrainingMetrics(1, 0.12, 0.1, 0.1, 0.2, 0.9, 0.3, 0.95, training_time_s=1.5)
        assert (metrics.energy_fidelity, metrics.training_time_s) == (0.9, 1.5)
        assert json.loads(json.dumps(asdict(metrics)))["rmse"] == 0.3


class TestTrainer:
    def test_trainer_initialization(self, trainer):
        assert trainer.state.step == 0
        assert trainer.epoch == 0
        assert trainer.history == {"train": [], "val": []}

    def test_checkpoint_directories_are_created(self, trainer):
        assert trainer.folder.is_dir()

    def test_batch_preparation(self, trainer, data):
        batch = trainer.prepare_batch(*data, indices=[0, 3])  # of two windows a sequence: the second begins at frame 1
        assert {name: part.shape for name, part in batch.items()} == dict.fromkeys(batch, (2, SIDE, SIDE, 1))
        np.testing.assert_array_equal(batch["energy_t"][1, ..., 0], data.energy[1, 1])
        np.testing.assert_array_equal(batch["grad_y"][1, ..., 0], data.gradients[1, 1, ..., 1])
        np.testing.assert_array_equal(batch["energy_next"][1, ..., 0], data.energy[1, 2])

    def test_loss_computation(self, trainer, data):
        batch = trainer.prepare_batch(*data, range(4))
        loss, metrics = trainer.compute_loss(trainer.state.params, batch, training=True)
        assert np.isfinite(loss)
        assert metrics.keys() >= {"mse_loss", "conservation_loss", "entropy_loss", "energy_fidelity", "rmse"}

    def test_a_training_step_moves_weights_and_running_averages(self, trainer, data):
        before = trainer.state
        after, metrics = trainer.train_step(before, trainer.prepare_batch(*data, range(4)))
        assert after.step == 1
        for kind in ("params", "batch_stats"):
            pairs = zip(jax.tree.leaves(before.params[kind]), jax.tree.leaves(after.params[kind]), strict=True)
            assert any(not np.array_equal(old, new) for old, new in pairs), kind
        assert np.isfinite(metrics["total_loss"])

    def test_a_short_training_run(self, trainer, data, capsys):
        history = trainer.train(data, verbose=True)
        assert [one.epoch for one in history["train"]] == [1, 2]
        assert history["train"][0].training_time_s > 0
        assert "Epoch 2/2" in capsys.readouterr().out
        stored = json.loads((trainer.folder / "metrics.json").read_text())
        assert stored["train"] == [asdict(one) for one in history["train"]]

    def test_training_with_validation(self, trainer, data):
        history = trainer.train(data, val_data=prepare_training_data(waves(3, 3, seed=1)), verbose=False)
        assert len(history["val"]) == 2
        assert history["val"][1].total_loss < history["val"][0].total_loss

    def test_checkpointing(self, trainer, data):
        trainer.train(data, verbose=False)
        assert sorted(path.name for path in trainer.folder.glob("*.safetensors")) == [
            "epoch_0001.safetensors", "epoch_0002.safetensors", "final.safetensors",
        ]  # fmt: skip
        again = Trainer(trainer.config)
        again.load_checkpoint(trainer.folder / "final.safetensors")
        assert (again.epoch, again.history) == (2, trainer.history)
        assert jax.tree.all(jax.tree.map(np.array_equal, again.state.params, trainer.state.params))


class TestPrepareTrainingData:
    def test_data_are_prepared_from_sequences(self):
        energy, gradients = prepare_training_data(list(waves(2, 5)))
        assert energy.shape == (2, 5, SIDE, SIDE)
        assert gradients.shape == (2, 5, SIDE, SIDE, 2)
        steps = energy[..., :, 2:] - energy[..., :, :-2]
        np.testing.assert_allclose(gradients[..., :, 1:-1, 0], steps / 2, atol=1e-6)


class TestLossFunctions:
    def test_total_loss_composition(self, trainer, data):
        batch = trainer.prepare_batch(*data, range(4))
        batch["energy_next"] = np.full_like(batch["energy_next"], 2)  # flat: no forecast has as much entropy
        loss, parts = trainer.compute_loss(trainer.state.params, batch, training=False)
        whole = parts["mse_loss"] + 0.1 * parts["conservation_loss"] + 0.05 * parts["entropy_loss"]
        assert loss == pytest.approx(float(whole), rel=1e-6)
        assert all(parts[name] > 0.01 for name in ("mse_loss", "conservation_loss", "entropy_loss"))

    def test_energy_fidelity_lies_between_0_and_1(self, trainer, data):
        batch = trainer.prepare_batch(*data, range(4))
        wild = jax.tree.map(lambda leaf: leaf + np.float32(3), trainer.state.params)
        for params in (trainer.state.params, wild):
            fidelity = trainer.val_step(trainer.state.replace(params=params), batch)["energy_fidelity"]
            assert 0 <= fidelity <= 1
        assert fidelity == 0
