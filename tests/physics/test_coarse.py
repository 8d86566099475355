"""The coarse solver as a forecaster: exact on its own grid, better than doing nothing on half of it."""

from __future__ import annotations

import numpy as np
import pytest

from nvp_agentkit.domains import DOMAINS
from nvp_agentkit.domains.coarse import coarse_forecasts
from nvp_agentkit.domains.stepping import longer_steps
from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.fields.metrics import vrmse


@pytest.mark.parametrize("name", ["turbulence_2d", "heat_diffusion", "reaction_diffusion"])
def test_half_the_cells_forecast_better_than_persistence(name: str) -> None:
    told = coarse_forecasts(DOMAINS[name].process(64, 0, None), 2, trajectories=2, frames=4)
    assert told.truth.shape == told.forecast.shape == (2, 3, 64, 64)
    persistence = vrmse(told.truth[:, :-1], told.truth[:, 1:])
    assert vrmse(told.forecast[:, 1:], told.truth[:, 1:]) < 0.7 * persistence


@pytest.mark.parametrize("name", ["turbulence_2d", "heat_diffusion"])
def test_the_same_cells_forecast_exactly(name: str) -> None:
    told = coarse_forecasts(DOMAINS[name].process(32, 0, None), 1, trajectories=2, frames=3)
    np.testing.assert_allclose(told.truth, told.forecast, rtol=1e-5, atol=1e-5 * told.truth.max())


def test_cells_that_cannot_carry_the_equation_are_refused() -> None:
    with pytest.raises(InvalidInput, match="too wide for a spot"):
        coarse_forecasts(DOMAINS["reaction_diffusion"].process(64, 0, None), 4, 1, 2)
    with pytest.raises(InvalidInput, match="a size that 6 divides"):
        coarse_forecasts(DOMAINS["turbulence_2d"].process(64, 0, None), 3, 1, 2)
    with pytest.raises(InvalidInput, match="64 or more"):
        coarse_forecasts(DOMAINS["turbulence_2d"].process(32, 0, None), 4, 1, 2)


def test_longer_steps_span_the_same_time() -> None:
    assert longer_steps(0.1, 12, 4) == (0.4, 3)
    assert longer_steps(0.1, 13, 4) == (0.1, 13)
    assert longer_steps(0.1, 9, 4) == (pytest.approx(0.3), 3)
