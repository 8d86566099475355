"""The founding document's tests of the model: its ten classes, its 26 tests."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nvp_agentkit.model import (
    Decoder,
    Encoder,
    NVPConfig,
    NVPModel,
    ResidualBlock,
    compute_energy_conservation_loss,
    compute_entropy,
    compute_entropy_smoothness_loss,
    create_train_state,
)

from .conftest import SIDE, SMALL, ask, waves

KEY = jax.random.key(0)


def shapes_of(module, *inputs):
    """What the module gives for inputs of these shapes; nothing is computed."""
    like = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in inputs]
    return jax.eval_shape(lambda *x: module.init_with_output(KEY, *x)[0], *like)


class TestNVPConfig:
    def test_the_default_configuration_is_sound(self):
        config = NVPConfig()
        assert config.use_residual
        assert len(config.encoder_features) >= 2
        assert NVPModel(config).config == config

    def test_a_custom_configuration_keeps_what_it_was_given(self):
        config = NVPConfig(latent_dim=256, encoder_features=[32, 64], decoder_features=[64, 32], dropout_rate=0.2)
        assert (config.latent_dim, config.dropout_rate) == (256, 0.2)
        assert (config.encoder_features, config.decoder_features) == ((32, 64), (64, 32))


class TestResidualBlock:
    def test_forward_pass(self):
        assert shapes_of(ResidualBlock(8), (2, 8, 8, 8)).shape == (2, 8, 8, 8)

    def test_the_residual_connection_carries_the_input(self):
        x = jnp.asarray(np.random.default_rng(0).random((1, 8, 8, 4), np.float32))
        weights = jax.eval_shape(ResidualBlock(4).init, KEY, x)
        nothing = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), weights)
        np.testing.assert_array_equal(ResidualBlock(4).apply(nothing, x), x)
        np.testing.assert_array_equal(ResidualBlock(4, residual=False).apply(nothing, x), 0)

    def test_features_are_projected_where_they_differ(self):
        block = ResidualBlock(16)
        assert shapes_of(block, (1, 8, 8, 4)).shape == (1, 8, 8, 16)
        weights = jax.eval_shape(block.init, KEY, jax.ShapeDtypeStruct((1, 8, 8, 4), jnp.float32))
        assert weights["params"]["project"]["kernel"].shape == (4, 16)


class TestEncoder:
    def test_forward_pass_shape(self):
        levels = shapes_of(Encoder(NVPConfig(encoder_features=(8, 16, 32))), (2, 64, 32, 8))
        assert [level.shape[-1] for level in levels] == [8, 16, 32]

    def test_each_level_halves_the_grid(self):
        levels = shapes_of(Encoder(NVPConfig(encoder_features=(8, 16, 32))), (2, 64, 32, 8))
        assert [level.shape[1:3] for level in levels] == [(64, 32), (32, 16), (16, 8)]


class TestDecoder:
    def decoded(self):
        config = NVPConfig(encoder_features=(8, 16, 32))
        levels = [jax.ShapeDtypeStruct((2, 64 >> n, 32 >> n, 8 << n), jnp.float32) for n in range(3)]
        latent = jax.ShapeDtypeStruct((2, 16, 8, 12), jnp.float32)
        return jax.eval_shape(lambda *x: Decoder(config).init_with_output(KEY, *x), latent, levels)

    def test_forward_pass_shape(self):
        decoded, _ = self.decoded()
        assert decoded.shape == (2, 64, 32, 8)

    def test_each_level_doubles_the_grid(self):
        _, variables = self.decoded()
        made = {name: part["kernel"].shape for name, part in variables["params"].items() if name.startswith("up_")}
        assert made == {"up_1": (32, 4 * 16), "up_2": (16, 4 * 8)}  # the four cells of a block as channels


class TestNVPModel:
    def test_model_initialization(self, params):
        assert params.keys() == {"params", "batch_stats"}
        assert sum(leaf.size for leaf in jax.tree.leaves(params["params"])) > 1000

    def test_forward_pass_shapes(self, params, fields):
        answers = ask(params, fields, KEY)
        assert {part.shape for part in answers} == {(2, SIDE, SIDE, 1)}

    def test_deterministic_prediction_says_the_same_twice(self, params, fields):
        once, twice = (ask(params, fields, jax.random.key(seed)) for seed in (1, 2))
        np.testing.assert_array_equal(once.predicted, twice.predicted)
        np.testing.assert_array_equal(once.predicted, once.mean)

    def test_stochastic_prediction_draws_from_the_spread_it_claims(self, params, fields):
        once, twice = (ask(params, fields, jax.random.key(seed)) for seed in (1, 2))
        assert not np.array_equal(once.drawn, twice.drawn)
        apart = (np.asarray(once.drawn) - once.mean) / np.exp(np.asarray(once.log_var) / 2)
        assert (np.mean(apart), np.std(apart)) == pytest.approx((0, 1), abs=0.15)

    def test_output_values_are_finite(self, params, fields):
        assert all(np.isfinite(part).all() for part in ask(params, fields, KEY))


class TestTrainState:
    def test_train_state_creation(self):
        state = create_train_state(jax.random.PRNGKey(42), SMALL, learning_rate=1e-4, input_shape=(SIDE, SIDE))
        assert state.step == 0
        assert "batch_stats" in state.params

    def test_a_gradient_update_counts_as_a_step(self):
        state = create_train_state(KEY, SMALL)
        after = jax.jit(lambda state: state.apply_gradients(grads=jax.tree.map(jnp.ones_like, state.params)))(state)
        assert after.step == 1


class TestEnergyConservationLoss:
    def test_perfect_conservation_costs_nothing(self):
        assert compute_energy_conservation_loss(jnp.ones((2, 8, 8, 1)), jnp.ones((2, 8, 8, 1))) == 0

    def test_a_violation_is_detected(self):
        assert compute_energy_conservation_loss(2 * jnp.ones((2, 8, 8, 1)), jnp.ones((2, 8, 8, 1))) > 0.99

    def test_a_small_violation_is_measured(self):
        target = waves(2, 1)[:, 0, ..., None]
        assert compute_energy_conservation_loss(1.05 * target, target) == pytest.approx(0.05, abs=1e-5)


class TestEntropyComputation:
    def test_entropy_is_never_negative(self):
        maps = np.random.default_rng(0).standard_normal((16, 8, 8, 1)).astype(np.float32)
        assert np.min(compute_entropy(maps)) >= 0

    def test_a_uniform_map_has_the_highest_entropy(self):
        uniform = jnp.ones((1, 8, 8, 1))
        assert compute_entropy(uniform)[0] == pytest.approx(np.log(64), rel=1e-5)
        assert compute_entropy(uniform.at[0, 0].set(5))[0] < compute_entropy(uniform)[0]

    def test_one_number_a_map(self):
        assert compute_entropy(jnp.ones((3, 8, 8, 1))).shape == (3,)


class TestEntropySmoothnessLoss:
    uniform = jnp.ones((1, 8, 8, 1))
    peak = jnp.zeros((1, 8, 8, 1)).at[0, 4, 4].set(1)

    def test_more_entropy_is_no_violation(self):
        assert compute_entropy_smoothness_loss(self.uniform, self.peak) == 0

    def test_less_entropy_is_one(self):
        assert compute_entropy_smoothness_loss(self.peak, self.uniform) == pytest.approx(np.log(64), rel=1e-5)
        assert compute_entropy_smoothness_loss(self.peak, self.uniform, threshold=5.0) == 0


class TestThermodynamicConstraints:
    def test_energy_remains_bounded(self, params, fields):
        assert np.abs(ask(params, fields, KEY).mean).max() < 1000

    def test_gradients_flow_through_the_whole_model(self, params, fields):
        def loss(params):
            (mean, log_var), _ = NVPModel(SMALL).apply(
                params, *fields, training=True, mutable=["batch_stats"], rngs={"dropout": KEY}
            )
            return jnp.mean(mean**2) + jnp.mean(log_var)

        gradients = jax.jit(jax.grad(loss))(params)["params"]
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
        dead = {name for name, part in gradients.items() if not any(np.any(leaf) for leaf in jax.tree.leaves(part))}
        assert dead == {"drift", "share"}  # of a flow, which one frame does not show
