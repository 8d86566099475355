from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvp_agentkit.model.layers import depth_to_space, gradients, space_to_depth, warp

ROUND = ("periodic", "periodic")
OPEN = ("open", "open")


def field(h: int = 8, w: int = 12) -> np.ndarray:
    return np.random.default_rng(0).random((1, h, w, 2), np.float32)


def flow(y: float, x: float, h: int = 8, w: int = 12) -> jnp.ndarray:
    return jnp.broadcast_to(jnp.asarray([y, x], jnp.float32), (1, h, w, 2))


@settings(max_examples=20, deadline=None)
@given(y=st.integers(-30, 30), x=st.integers(-30, 30))
def test_a_whole_displacement_on_a_periodic_field_is_a_roll(y, x):
    np.testing.assert_array_equal(warp(jnp.asarray(field()), flow(y, x), ROUND), np.roll(field(), (-y, -x), (1, 2)))


def test_half_a_cell_is_the_mean_of_two():
    seen = warp(jnp.asarray(field()), flow(0, 0.5), ROUND)
    np.testing.assert_allclose(seen, (field() + np.roll(field(), -1, 2)) / 2, rtol=1e-6)


def test_beyond_an_open_edge_the_edge_is_seen():
    seen = np.asarray(warp(jnp.asarray(field()), flow(0, 100), OPEN))
    np.testing.assert_array_equal(seen, np.repeat(field()[:, :, -1:], 12, axis=2))


def test_each_axis_has_its_own_boundary():
    seen = np.asarray(warp(jnp.asarray(field()), flow(3, 100), ("periodic", "open")))
    np.testing.assert_array_equal(seen, np.repeat(np.roll(field(), -3, 1)[:, :, -1:], 12, axis=2))


@pytest.mark.parametrize("block", [1, 2, 4])
def test_blocks_to_channels_and_back_is_the_identity(block):
    x = jnp.asarray(np.random.default_rng(0).random((2, 8, 12, 3), np.float32))
    folded = space_to_depth(x, block)
    assert folded.shape == (2, 8 // block, 12 // block, 3 * block**2)
    np.testing.assert_array_equal(depth_to_space(folded, block), x)


def test_gradients_of_a_wave_are_its_derivative():
    k = 2 * np.pi / 64
    wave = np.sin(k * np.arange(64, dtype=np.float32))
    x, y = gradients(jnp.asarray(np.tile(wave, (64, 1)))[None, ..., None], ROUND)
    np.testing.assert_allclose(x[0, 0, :, 0], k * np.cos(k * np.arange(64)), atol=2e-4)
    np.testing.assert_array_equal(y, 0)
