"""The coarse solver that sees what forecasters see: energy, and no state."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from nvp_agentkit.domains import DOMAINS
from nvp_agentkit.domains.blind import BlindSolver
from nvp_agentkit.errors import InvalidField, InvalidInput
from nvp_agentkit.fields import SequenceSet
from nvp_agentkit.fields.forecasters import rollout
from nvp_agentkit.fields.metrics import vrmse

TAUGHT, FRAMES, SIZE = 3, 5, 32
PROCESS = DOMAINS["shear_flow"].process(SIZE, 0, None)


@pytest.fixture(scope="module")
def blind() -> BlindSolver:
    return BlindSolver.taught(PROCESS, 2, TAUGHT, FRAMES)


@pytest.fixture(scope="module")
def unseen() -> SequenceSet:
    return DOMAINS["shear_flow"].simulate(TAUGHT + 1, FRAMES, SIZE).select(slice(TAUGHT, None))


def pairs(maps: np.ndarray) -> np.ndarray:
    return np.stack([maps[:-2], maps[1:-1]], 1)


def test_from_energy_alone_it_forecasts_better_than_no_change(blind: BlindSolver, unseen: SequenceSet) -> None:
    maps = unseen.values[0]
    mean, log_var = blind.predict_next(pairs(maps))
    assert mean.shape == log_var.shape == (FRAMES - 2, SIZE, SIZE)
    assert vrmse(mean, maps[2:]) < 0.9 * vrmse(maps[1:-1], maps[2:])
    assert mean.min() >= 0
    assert 0.2 < np.exp(log_var[0, 0, 0] / 2) / np.sqrt(np.mean((mean - maps[2:]) ** 2)) < 5


def test_a_past_that_comes_back_elsewhere_is_recognised(blind: BlindSolver) -> None:
    moved = np.roll(pairs(blind.past.maps[1]), (5, 11), (2, 3))
    assert [blind._analogue(shown, without=None) for shown in moved] == [(1, at, (5, 11)) for at in range(FRAMES - 2)]
    assert all(blind._analogue(shown, without=1)[0] != 1 for shown in moved)


def test_maps_that_no_solver_can_carry_are_forecast_not_to_change(blind: BlindSolver) -> None:
    flat = np.ones((FRAMES - 2, 2, SIZE, SIZE), np.float32)
    np.testing.assert_array_equal(blind.predict_next(flat)[0], flat[:, 0])


def test_it_stands_where_any_forecaster_stands(blind: BlindSolver, unseen: SequenceSet) -> None:
    shown = pairs(unseen.values[0])
    told, _ = rollout(blind, shown, 2)
    np.testing.assert_array_equal(told[:, 0], blind.predict_next(shown)[0])
    holed = shown.copy()
    holed[:, 1, 3, 4] = np.nan
    assert np.isfinite(blind.predict_next(holed)[0]).all()
    assert blind.predict_next(shown[:, :1])[0].shape == (FRAMES - 2, SIZE, SIZE)
    with pytest.raises(InvalidField, match=r"of \(32, 32\) cells"):
        blind.predict_next(shown[..., :16])


@pytest.mark.parametrize("name", sorted(DOMAINS))
def test_what_energy_tells_outright_is_put_into_the_state(name: str) -> None:
    process = DOMAINS[name].process(SIZE, 0, None)
    one, other = (process.solver.receive(_batch(process.first(number))) for number in (0, 1))
    maps = np.asarray(process.solver.observe(other)[0])
    now = np.asarray(process.solver.observe(process.solver.shown(one, maps))[0])
    if name in ("heat_diffusion", "reaction_diffusion"):
        np.testing.assert_array_equal(now, maps)
    else:
        np.testing.assert_array_equal(now, np.asarray(process.solver.observe(one)[0]))


def _batch(state: object) -> object:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[None], state)


def test_too_little_to_learn_from_and_cells_too_wide_are_refused() -> None:
    with pytest.raises(InvalidInput, match="at least 3 frames"):
        BlindSolver.taught(PROCESS, 2, TAUGHT, 2)
    with pytest.raises(InvalidField, match="1 trajectories to learn from; give at least 2"):
        BlindSolver.taught(PROCESS, 2, 1, FRAMES)
    with pytest.raises(InvalidInput, match="64 or more"):
        BlindSolver.taught(PROCESS, 4, TAUGHT, FRAMES)
