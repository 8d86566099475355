from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.model.config import NVPConfig
from nvp_agentkit.model.predict import forward, origins
from nvp_agentkit.model.state import count_parameters, flatten, initial_variables, pack, unflatten, unpack
from nvp_agentkit.model.width import _widened, count_within, initial_variables_within, narrowed

WIDE = NVPConfig(latent_dim=8, encoder_features=(6, 10))
NARROW = (4, 7)


def noisy(variables, seed=3):
    """Weights of which none is zero that may be another number: fresh ones hide what a zero kernel follows."""
    rng = np.random.default_rng(seed)
    return {path: leaf + 0.1 * rng.standard_normal(leaf.shape).astype(np.float32) for path, leaf in variables.items()}


def embedded(narrow):
    """``narrow`` weights in the wide shapes, as `initial_variables_within` places its own."""
    wide = flatten(initial_variables(WIDE, 0))
    return {path: _widened(path, leaf, wide[path].shape) for path, leaf in narrow.items()}


def test_a_narrow_network_in_wide_shapes_forecasts_what_it_forecasts_in_its_own():
    frames = np.random.default_rng(1).standard_normal((2, 16, 24, 2)).astype(np.float32)
    own = narrowed(WIDE, NARROW)
    weights = noisy(flatten(initial_variables(own, 5)))
    known = origins(WIDE, frames)
    small = np.asarray(forward(own, unflatten(weights), frames, None, known))
    large = np.asarray(forward(WIDE, unflatten(embedded(weights)), frames, None, known))
    np.testing.assert_allclose(large, small, rtol=1e-4, atol=1e-5)


def test_fresh_weights_are_the_narrow_network_s_and_nothing_else():
    within = flatten(initial_variables_within(WIDE, NARROW, 5))
    assert {path: leaf.shape for path, leaf in within.items()} == {
        path: leaf.shape for path, leaf in flatten(initial_variables(WIDE, 0)).items()
    }
    drawn = pack(initial_variables(narrowed(WIDE, NARROW), 5))
    np.testing.assert_array_equal(
        np.sort(np.concatenate([leaf[leaf != 0] for leaf in within.values()])), np.sort(drawn[drawn != 0])
    )


def test_parameters_are_those_that_train():
    assert count_within(WIDE, NARROW) == count_parameters(initial_variables(narrowed(WIDE, NARROW), 0))
    assert count_within(WIDE, WIDE.encoder_features) == count_parameters(initial_variables(WIDE, 0))


@pytest.mark.parametrize("features", [(4,), (4, 7, 7), (7, 10), (6, 11), (6, 8)])
def test_widths_that_make_no_narrower_network_are_refused(features):
    with pytest.raises(InvalidInput, match=str(features[-1])):
        initial_variables_within(replace(WIDE, latent_dim=8), features, 0)


def test_a_vector_of_narrow_weights_is_one_of_the_wide_network():
    within = initial_variables_within(WIDE, NARROW, 5)
    again = unpack(WIDE, pack(within))
    assert all(np.array_equal(a, b) for a, b in zip(flatten(within).values(), flatten(again).values(), strict=True))
