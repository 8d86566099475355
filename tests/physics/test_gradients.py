"""Gradients against calculus."""

import jax.numpy as jnp
import numpy as np
import pytest

from nvp_agentkit.fields.gradients import gradients

HEIGHT, WIDTH, DX = 20, 32, 0.5
Y, X = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32) * DX


def test_a_wave_on_a_periodic_axis_has_its_exact_slope() -> None:
    k, m = 2 * np.pi * 3 / (WIDTH * DX), 2 * np.pi * 2 / (HEIGHT * DX)
    along_x, along_y = gradients(jnp.asarray(np.sin(k * X) * np.cos(m * Y)), ("periodic", "periodic"), DX)
    np.testing.assert_allclose(along_x, k * np.cos(k * X) * np.cos(m * Y), atol=1e-5)
    np.testing.assert_allclose(along_y, -m * np.sin(k * X) * np.sin(m * Y), atol=1e-5)


@pytest.mark.parametrize("boundary", ["open", "reflecting"])
def test_a_parabola_on_a_bounded_axis_has_its_exact_slope_even_at_the_edge(boundary: str) -> None:
    along_x, along_y = gradients(jnp.asarray(X**2 - 3 * Y**2 + X * Y), (boundary, boundary), DX)
    np.testing.assert_allclose(along_x, 2 * X + Y, atol=2e-4)
    np.testing.assert_allclose(along_y, X - 6 * Y, atol=2e-4)


def test_each_axis_has_its_own_boundary() -> None:
    k = 2 * np.pi / (WIDTH * DX)
    along_x, along_y = gradients(jnp.asarray(np.sin(k * X) + Y), ("open", "periodic"), DX)
    np.testing.assert_allclose(along_x, k * np.cos(k * X), atol=1e-5)
    np.testing.assert_allclose(along_y, 1.0, atol=1e-5)


def test_batches_of_maps_keep_their_shape() -> None:
    along_x, along_y = gradients(jnp.zeros((2, 3, HEIGHT, WIDTH)), ("periodic", "open"))
    assert along_x.shape == along_y.shape == (2, 3, HEIGHT, WIDTH)
