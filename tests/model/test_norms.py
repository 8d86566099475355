"""Normalisation, plain blocks and the pyramid: by name, and never in the default."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.model import NVPConfig, NVPModel, create_train_state
from nvp_agentkit.model.layers import Norm
from nvp_agentkit.model.state import count_parameters, initial_variables, named_optimiser, shapes
from nvp_agentkit.model.width import initial_variables_within

from .conftest import SMALL, forward, scrambled

ONE_LEVEL = replace(SMALL, encoder_features=(8,), context_frames=1)


def test_the_default_has_no_normalisation_and_every_member_shares_its_program():
    assert not any("Norm" in path for path in shapes(NVPConfig()))
    with pytest.raises(InvalidInput, match="group"):
        initial_variables_within(replace(SMALL, norm="group"), (4, 8), seed=0)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_a_fresh_network_is_persistence_whatever_it_normalises_by(norm):
    config = replace(ONE_LEVEL, norm=norm)
    frames = np.random.default_rng(0).random((2, 16, 16, 1), np.float32)
    mean, _ = forward(config)(initial_variables(config, 0), frames)
    np.testing.assert_array_equal(mean, frames)


@pytest.mark.parametrize(("features", "groups"), [(16, 8), (12, 4), (7, 1)])
def test_a_group_norm_divides_any_number_of_channels(features, groups):
    x = np.random.default_rng(0).standard_normal((1, 4, 4, features)).astype(np.float32)
    out, _ = Norm("group").init_with_output(jax.random.key(0), 1000 * x)
    parts = np.asarray(out).reshape(16, groups, -1)
    np.testing.assert_allclose(parts.mean((0, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(parts.std((0, 2)), 1, atol=1e-3)


def test_batch_statistics_are_of_the_batch_in_training_and_of_the_past_otherwise():
    config = replace(ONE_LEVEL, norm="batch")
    state = create_train_state(jax.random.key(0), config)
    frames = 5 + np.random.default_rng(0).random((2, 16, 16, 1), np.float32)
    apply = partial(NVPModel(config).apply, training=True, mutable=["batch_stats"])
    _, updated = jax.jit(apply)(state.params, frames)
    assert updated.keys() == {"batch_stats"}
    before, after = (jax.tree.leaves(part["batch_stats"]) for part in (state.params, updated))
    assert any(not np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    assert count_parameters(state.params) == count_parameters({"params": state.params["params"]})


def test_weight_decay_leaves_running_averages_alone():
    params = {"params": {"w": np.ones(3, np.float32)}, "batch_stats": {"var": np.ones(3, np.float32)}}
    tx = named_optimiser("adamw", 0.1)
    still = jax.tree.map(np.zeros_like, params)
    updates, _ = tx.update(still, tx.init(params), params)
    assert np.all(np.asarray(updates["params"]["w"]) < 0)
    np.testing.assert_array_equal(updates["batch_stats"]["var"], 0)


def test_a_pyramid_shows_the_inputs_to_every_coarser_level():
    config = replace(SMALL, pyramid=True)
    extra = shapes(config).keys() - shapes(SMALL).keys()
    assert extra == {f"params/encoder/pyramid_1/{part}" for part in ("kernel", "bias")}
    variables = scrambled(config).variables
    frames = np.random.default_rng(0).random((1, 17, 24, 2), np.float32)
    seen, _ = forward(config)(variables, frames)
    variables["params"]["encoder"]["pyramid_1"] = jax.tree.map(
        np.zeros_like, variables["params"]["encoder"]["pyramid_1"]
    )
    unseen, _ = forward(config)(variables, frames)
    assert seen.shape == (1, 17, 24, 1)
    assert not np.allclose(seen, unseen)


def test_blocks_without_a_residual_start_from_random_kernels():
    plain = initial_variables(replace(SMALL, use_residual=False), 0)["params"]["encoder"]["ResidualBlock_0"]
    assert np.any(plain["Conv_1"]["Conv_0"]["kernel"])
    with_it = initial_variables(SMALL, 0)["params"]["encoder"]["ResidualBlock_0"]
    assert not np.any(with_it["Conv_1"]["Conv_0"]["kernel"])
