from __future__ import annotations

import numpy as np
import pytest

from nvp_agentkit.model.flow import WORKING_SIDE, backward_flow, departure
from nvp_agentkit.model.layers import warp

ROUND = ("periodic", "periodic")
WAVES = ((1, 0), (0, 1), (1, 1), (2, -1), (1, 2), (2, 2), (3, 1), (-1, 3))


def waves(shift: tuple[float, float], side: int = 32) -> np.ndarray:
    """Smooth and periodic, moved by ``shift`` cells (y, x) exactly, fractions too."""
    y, x = ((np.arange(side) - cells) * 2 * np.pi / side for cells in shift)
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, len(WAVES))
    return sum(np.sin(a * x + b * y[:, None] + p) for (a, b), p in zip(WAVES, phases, strict=True)).astype(np.float32)


def found(*frames: np.ndarray, boundary: tuple[str, str] = ROUND) -> np.ndarray:
    return np.asarray(departure(np.stack(frames, -1)[None], boundary))[0]


@pytest.mark.parametrize("shift", [(1, 0), (0, -2), (2, 1), (0.5, 0), (-0.3, 1.7)])
def test_a_field_that_moves_on_a_periodic_box_is_found_to_come_from_where_it_was(shift):
    d = found(waves((0, 0)), waves(shift))
    back = -np.asarray(shift, np.float32)
    np.testing.assert_allclose(d.reshape(-1, 4).mean(0), [*back, *(2 * back)], atol=0.05)
    np.testing.assert_allclose(d, np.broadcast_to([*back, *(2 * back)], d.shape), atol=0.4)


def test_a_rolled_field_is_seen_again_at_its_departure_point():
    before, now = waves((0, 0)), np.roll(waves((0, 0)), (2, -1), (0, 1))
    d = found(before, now)
    seen = np.asarray(warp(before[None, ..., None], d[None, ..., :2], ROUND))[0, ..., 0]
    assert np.sqrt(np.mean((seen - now) ** 2)) < 0.05 * np.sqrt(np.mean((before - now) ** 2))


def test_a_finer_field_than_the_working_grid_keeps_its_flow_in_its_own_cells():
    side = 2 * WORKING_SIDE + 6  # not a whole number of blocks
    d = found(waves((0, 0), side), waves((3, -2), side))
    assert d.shape == (side, side, 4)
    np.testing.assert_allclose(d[..., :2].reshape(-1, 2).mean(0), [-3, 2], atol=0.15)


def test_where_the_flow_turns_each_step_is_taken_where_the_parcel_is():
    y, x = np.mgrid[:48, :48] - 23.5

    def turned(angle: float) -> np.ndarray:
        v, u = y * np.cos(angle) - x * np.sin(angle), x * np.cos(angle) + y * np.sin(angle)
        return (np.sin(u / 3) + np.sin(v / 3.5) + np.sin((u + v) / 4)).astype(np.float32)[None]

    pair, sides = (turned(0), turned(0.25)), ("open", "open")
    flow = backward_flow(*pair, sides)
    first, second = np.split(np.asarray(departure(np.stack(pair, -1), sides)), 2, -1)
    near = np.hypot(y, x) < 10
    assert np.abs(first - np.asarray(flow))[0, near].max() > 0.2  # or this test would say nothing
    np.testing.assert_allclose(first[0, near], np.asarray(warp(flow, first / 2, sides))[0, near], atol=0.1)
    np.testing.assert_allclose(second - first, warp(flow, first, sides), atol=1e-5)


@pytest.mark.parametrize("level", [0.0, 5.0])
def test_where_nothing_can_be_seen_nothing_moves(level):
    even = np.full((16, 20), level, np.float32)
    np.testing.assert_allclose(found(even, even), 0, atol=1e-6)
    np.testing.assert_allclose(found(waves((0, 0)), waves((0, 0))), 0, atol=1e-6)


def test_beyond_an_open_edge_nothing_is_seen_of_the_other_side():
    d = found(waves((0, 0)), waves((0, 1)), boundary=("open", "open"))
    np.testing.assert_allclose(d[8:-8, 8:-8, :2].reshape(-1, 2).mean(0), [0, -1], atol=0.1)
    assert np.abs(d[..., :2]).max() < 3
