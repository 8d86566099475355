from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from nvp_agentkit.model.state import flatten, initial_variables, pack, unpack
from nvp_agentkit.training.optimiser import optimiser, orthogonal

from .conftest import SMALL


@pytest.mark.parametrize("shape", [(72, 8), (4, 9)])
def test_a_direction_is_as_long_one_way_as_another(shape):
    matrices = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    matrices[0] *= 1e-3  # how long the gradient is does not matter
    turned = np.asarray(orthogonal(jnp.asarray(matrices)))
    lengths = np.linalg.svd(turned, compute_uv=False)
    assert 0.6 < lengths.min() < lengths.max() < 1.3
    left, _, right = np.linalg.svd(matrices, full_matrices=False)
    towards = np.einsum("nij,nij->n", turned, left @ right) / min(shape)
    assert (towards > 0.7).all()


def test_channels_that_are_absent_stay_so():
    matrix = np.random.default_rng(0).standard_normal((1, 72, 8)).astype(np.float32)
    matrix[:, 60:], matrix[..., 6:] = 0, 0
    turned = np.asarray(orthogonal(jnp.asarray(matrix)))
    assert not turned[:, 60:].any()
    assert not turned[..., 6:].any()
    assert not np.asarray(orthogonal(jnp.zeros((1, 8, 8)))).any()


def test_kernels_of_convolutions_are_turned_and_all_else_is_adam_s():
    variables = initial_variables(SMALL.model_config, 0)
    weights, by = jnp.asarray(pack(variables)), optimiser(SMALL)
    gradient = jnp.asarray(np.random.default_rng(1).standard_normal(weights.shape).astype(np.float32))
    direction, _ = by.update(gradient, by.init(weights), weights)
    for path, one in flatten(unpack(SMALL.model_config, np.asarray(direction))).items():
        if one.ndim == 4:
            lengths = np.linalg.svd(one.reshape(-1, one.shape[-1]), compute_uv=False)
            assert 0.6 * 3 < lengths.min() < lengths.max() < 1.3 * 3, path  # 72 rows by 8
        elif one.size > 1:
            assert np.abs(one).mean() == pytest.approx(1, abs=0.01), path  # Adam's first step
