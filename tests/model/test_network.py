from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nvp_agentkit.errors import InvalidField, InvalidInput
from nvp_agentkit.model import ModelBundle, NVPConfig, NVPModel, count_parameters, create_train_state
from nvp_agentkit.model.state import initial_variables, pack, shapes, unpack

from .conftest import SMALL, forward, scrambled


def test_an_update_moves_the_weights_and_counts():
    state = create_train_state(jax.random.key(0), SMALL, 1e-3)
    after = state.apply_gradients(grads=jax.tree.map(jnp.ones_like, state.params))
    assert after.step == 1
    assert not np.array_equal(pack(after.params), pack(state.params))


def test_an_untrained_network_is_persistence():
    frames = np.random.default_rng(0).random((2, 16, 16, 2), np.float32)
    mean, _ = forward(SMALL)(initial_variables(SMALL, 0), frames)
    np.testing.assert_array_equal(mean[..., 0], frames[..., -1])


@pytest.mark.parametrize(("layer", "makes"), [("heads", 0), ("doubt_heads", 1)])
def test_each_head_makes_its_own_output_in_every_cell(layer: str, makes: int):
    variables, frames = scrambled(SMALL).variables, np.random.default_rng(0).random((1, 16, 16, 2), np.float32)
    moved = jax.tree.map(lambda weights: weights + np.float32(0.3), variables["params"][layer])
    both = zip(
        forward(SMALL)(variables, frames),
        forward(SMALL)({"params": variables["params"] | {layer: moved}}, frames),
        strict=True,
    )
    changed = [np.asarray(before != after).mean() for before, after in both]
    assert changed[makes] == 1
    assert changed[1 - makes] == 0


def test_a_field_ten_times_as_high_is_forecast_ten_times_as_high():
    params = scrambled(SMALL).variables["params"]
    kernel = np.array(params["stem"]["kernel"])
    kernel[-1] = 0  # the spread itself is shown, too
    variables = {"params": params | {"stem": params["stem"] | {"kernel": kernel}}}
    low = 30 * np.random.default_rng(0).random((1, 16, 16, 2), np.float32)
    (mean, log_var), (higher, wider) = (forward(SMALL)(variables, frames) for frames in (low, 10 * low + 500))
    moved = np.abs(mean[..., 0] - low[..., -1]).mean()
    assert np.abs(10 * mean + 500 - higher).mean() < 0.01 * 10 * moved
    inside = (log_var > -13.9) & (wider < 5.9)  # of the range that a variance is kept to
    np.testing.assert_allclose((log_var + 2 * np.log(10))[inside], wider[inside], atol=0.05)


def test_each_cell_has_a_gain_of_its_own():
    variables, frames = initial_variables(SMALL, 0), np.random.default_rng(0).random((1, 16, 16, 2), np.float32)
    bias = variables["params"]["heads"]["bias"].reshape(6, SMALL.stem**2)  # the gain's is the last
    bias[-1] = np.linspace(0, 1, SMALL.stem**2)
    mean, _ = forward(SMALL)(variables, frames)
    gained = frames[..., 1] - frames[..., 0]
    gain = np.tile(bias[-1].reshape(SMALL.stem, SMALL.stem), (16 // SMALL.stem, 16 // SMALL.stem))
    np.testing.assert_allclose(mean[..., 0], frames[..., 1] + gain * gained, atol=1e-5)


def test_one_frame_given_is_that_frame_repeated():
    frame = np.random.default_rng(0).random((1, 16, 16, 1), np.float32)
    variables = scrambled(SMALL).variables
    once, twice = forward(SMALL)(variables, frame), forward(SMALL)(variables, np.repeat(frame, 2, -1))
    np.testing.assert_array_equal(once, twice)


@pytest.mark.parametrize("sides", [(16, 16), (17, 40), (50, 33)])
@pytest.mark.parametrize("boundary", [("periodic", "periodic"), ("open", "reflecting")])
def test_any_sides_from_sixteen_up_are_forecast(sides, boundary):
    bundle = scrambled(dataclasses.replace(SMALL, boundary=boundary))
    mean, _ = forward(bundle.config)(bundle.variables, np.random.default_rng(0).random((1, *sides, 2), np.float32))
    assert mean.shape == (1, *sides, 1)
    assert np.isfinite(mean).all()


def test_rolling_a_periodic_field_by_whole_blocks_rolls_the_forecast(bundle):
    frames = np.random.default_rng(0).random((1, 32, 32, 2), np.float32)
    block = SMALL.stem * 2 ** (len(SMALL.encoder_features) - 1)
    here, _ = forward(SMALL)(bundle.variables, frames)
    there, _ = forward(SMALL)(bundle.variables, np.roll(frames, (block, 2 * block), (1, 2)))
    np.testing.assert_allclose(np.roll(here, (block, 2 * block), (1, 2)), there, atol=2e-4)  # by less: 2.6


def test_what_is_masked_is_told_to_a_masked_network():
    bundle = scrambled(dataclasses.replace(SMALL, masked=True))
    frames, seen = np.ones((1, 16, 16, 2), np.float32), np.ones((1, 16, 16, 2), np.float32)
    whole, _ = forward(bundle.config)(bundle.variables, frames, valid=seen)
    seen = seen.copy()  # the first may still be read: a call returns before it has computed
    seen[:, 3:9, 3:9] = 0
    holed, _ = forward(bundle.config)(bundle.variables, frames, valid=seen)
    assert not np.allclose(whole, holed)


@pytest.mark.parametrize(
    ("shape", "said"),
    [((16, 16, 2), "give"), ((1, 16, 16, 3), "3 frames"), ((1, 8, 16, 2), "16"), ((1, 16, 16, 0), "0 frames")],
)
def test_a_shape_the_network_cannot_take_is_refused(shape, said):
    with pytest.raises(InvalidField, match=said):
        NVPModel(SMALL).apply(initial_variables(SMALL, 0), np.zeros(shape, np.float32))


@pytest.mark.parametrize("wrong", [{"learning_rate": -1e-3}, {"learning_rate": float("nan")}, {"input_shape": (8, 64)}])
def test_a_train_state_out_of_range_is_refused(wrong):
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        create_train_state(jax.random.key(0), SMALL, **wrong)


def test_weights_depend_on_the_seed_and_on_nothing_else():
    first, again, other = (pack(initial_variables(SMALL, seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_one_vector_holds_all_weights():
    variables = scrambled(SMALL).variables
    vector = pack(variables)
    assert vector.size == count_parameters(variables) == ModelBundle(SMALL, variables).parameters
    assert jax.tree.all(jax.tree.map(np.array_equal, variables, unpack(SMALL, vector)))


def test_the_default_network_is_small():
    assert sum(int(np.prod(shape)) for shape in shapes(NVPConfig()).values()) <= 1_000_000
