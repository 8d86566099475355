from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nvp_agentkit.fields.baselines import score_baselines
from nvp_agentkit.fields.sequence import SequenceSet
from nvp_agentkit.model import ModelBundle, Normalization
from nvp_agentkit.model.state import Variables, initial_variables
from nvp_agentkit.training import MemberConfig, evaluate
from nvp_agentkit.training.examples import Batch, Examples
from nvp_agentkit.training.start import fitted_start

from .conftest import META, SMALL, drifting, masked, with_mask


def first_batch(data: SequenceSet, units: Normalization, config: MemberConfig) -> Batch:
    return Examples(data, config.model_config, units, config.crop).batch(config.seed, 0, 16)


def start(data: SequenceSet, config=SMALL) -> tuple[Variables, float, float]:
    """The fitted start on ``data``, its VRMSE there and that of the network as it is made, persistence."""
    units = Normalization.fit(data.values, data.mask)
    made = initial_variables(config.model_config, config.seed)
    fitted = fitted_start(config.model_config, made, first_batch(data, units, config))
    bundle = ModelBundle(config.model_config, fitted, units)
    return fitted["params"], evaluate(bundle, data).vrmse, evaluate(replace(bundle, variables=made), data).vrmse


def noise(seed: int = 0) -> SequenceSet:
    return SequenceSet(np.random.default_rng(seed).random((3, 6, 16, 16), np.float32), None, META)


def still() -> SequenceSet:
    return replace(noise(), values=np.repeat(noise().values[:, :1], 6, axis=1))


def swelling() -> SequenceSet:
    """Nothing moves and each value grows by as much again as the last time."""
    growth = 1 + 0.1 * np.arange(6, dtype=np.float32)
    values = drifting(3, 0, frames=1).values * growth[:, None, None]
    return SequenceSet(values.astype(np.float32), None, META)


def test_a_still_field_is_left_where_it_is():
    params, error, _ = start(still())
    assert (float(params["drift"]), float(params["share"])) == (0, 0)
    assert error < 1e-6


def test_a_field_that_drifts_is_carried_along():
    data = drifting(6, seed=0, side=32)
    params, error, persistence = start(data)
    assert float(params["drift"]) == 1
    assert error < 0.2 * persistence
    assert persistence == pytest.approx(score_baselines(data, data)["persistence"], rel=0.05)


def test_a_field_that_swells_goes_on_swelling():
    params, error, persistence = start(swelling())
    assert float(params["share"]) > 0.9
    assert error < 0.2 * persistence


@pytest.mark.parametrize(
    "data", [noise(), still(), swelling(), drifting(3, 0)], ids=["noise", "still", "swell", "drift"]
)
def test_the_start_is_no_worse_than_persistence_where_it_was_fitted(data):
    _, error, persistence = start(data)
    assert error <= persistence * (1 + 1e-5)


def test_the_other_weights_are_left_as_they_were():
    made = initial_variables(SMALL.model_config, SMALL.seed)["params"]
    params, _, _ = start(drifting(2, 0))
    assert params.keys() == made.keys()
    np.testing.assert_array_equal(params["stem"]["kernel"], made["stem"]["kernel"])


def test_what_lies_in_a_hole_fits_nothing():
    config = with_mask(SMALL)
    (clean, *_), (dirty, *_) = (start(masked(drifting(3, 0), fill), config) for fill in (0.0, 1e6))
    assert (clean["drift"], clean["share"]) == (dirty["drift"], dirty["share"])


def test_one_frame_of_context_has_no_flow_and_starts_as_persistence():
    alone = replace(SMALL, model_config=replace(SMALL.model_config, context_frames=1))
    _, error, persistence = start(drifting(2, 0), alone)
    assert error == persistence


def test_a_start_that_cannot_be_judged_is_persistence():
    made, data = initial_variables(SMALL.model_config, 0), drifting(1, 0)
    units = Normalization.fit(data.values)
    data.values[:, 2:] = 1e30  # whose squares no float32 holds
    with np.errstate(over="ignore", invalid="ignore"):
        fitted = fitted_start(SMALL.model_config, made, first_batch(data, units, SMALL))
    assert fitted is made
