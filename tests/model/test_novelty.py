from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.model import ModelBundle
from nvp_agentkit.model.novelty import Novelty, descriptors, novelty_of

SIDE = 24


def spots(windows: int, seed: int, *, step: int = 1) -> np.ndarray:
    """Bright spots on a dark plane, drifting by ``step`` cells: (N, 2, H, W)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    maps = np.zeros((windows, SIDE, SIDE))
    for _ in range(6):
        cy, cx = rng.uniform(0, SIDE, (2, windows, 1, 1))
        away = [np.minimum(np.abs(one), SIDE - np.abs(one)) for one in (y - cy, x - cx)]
        maps += np.exp(-(away[0] ** 2 + away[1] ** 2) / 4)
    return np.stack([maps, np.roll(maps, step, 2)], 1).astype(np.float32)


def scrambled_phases(windows: np.ndarray) -> np.ndarray:
    """The same spectra, in space and from frame to frame; nothing is where it was."""
    noise = np.random.default_rng(0).standard_normal((len(windows), 1, SIDE, SIDE))
    turned = np.exp(1j * np.angle(np.fft.fft2(noise)))
    turned[..., 0, 0] = 1
    return np.fft.ifft2(np.fft.fft2(windows) * turned).real.astype(np.float32)


def described(windows: np.ndarray) -> np.ndarray:
    frames = windows.transpose(0, 2, 3, 1)
    return descriptors(frames, np.ones_like(frames))


@pytest.fixture(scope="module")
def novelty() -> Novelty:
    return Novelty.fit(described(spots(60, 0)), described(spots(40, 1)))


def test_fields_of_the_same_kind_rank_among_those_held_out_and_few_far_out(novelty):
    scores = novelty.score(described(spots(200, 2)))
    assert 0.1 < np.mean(scores) < 0.5  # below the middle by the margin
    assert np.mean(scores > 0.95) < 0.05


@pytest.mark.parametrize(
    "foreign",
    [
        scrambled_phases(spots(8, 3)),
        np.random.default_rng(4).random((8, 2, SIDE, SIDE), np.float32),
        1.5 * spots(8, 3),
        0.5 + spots(8, 3),
        spots(8, 3, step=5),
        spots(8, 3, step=0),
        spots(8, 3).repeat(2, axis=2).repeat(2, axis=3),
    ],
    ids=["phases scrambled", "noise", "another unit", "another offset", "too far a step", "no step", "finer cells"],
)
def test_what_is_foreign_is_further_out_than_all_that_was_held_out(novelty, foreign):
    assert (novelty.score(described(foreign)) == 40 / 41).all()


def test_where_things_are_and_how_wide_the_grid_is_do_not_matter():
    one = spots(10, 5)
    moved, wide = np.roll(one, (5, 7), (2, 3)), np.concatenate([one, one], axis=3)
    for same in (moved, wide):
        np.testing.assert_allclose(described(same), described(one), atol=0.2)


def test_what_lies_in_a_hole_is_not_looked_at(bundle, novelty):
    config = dataclasses.replace(bundle.config, masked=True)
    knowing = dataclasses.replace(bundle, config=config, novelty=novelty)
    shown = spots(3, 6)
    mask = np.ones(shown.shape, bool)
    mask[..., :4, :4] = False
    spoilt = np.where(mask, shown, np.float32(1e6))
    np.testing.assert_array_equal(novelty_of(knowing, shown, mask), novelty_of(knowing, spoilt, mask))


def test_a_model_that_was_told_nothing_says_nothing(bundle: ModelBundle, frames):
    assert novelty_of(bundle, frames) is None


def test_training_data_that_never_change_are_no_division_by_nothing():
    still = described(np.full((5, 2, SIDE, SIDE), 3.0, np.float32))
    same = Novelty.fit(still, still)
    assert same.score(still).max() == 0
    assert same.score(described(spots(1, 0))).min() == 5 / 6


def test_maps_without_an_axis_of_frames_are_refused():
    with pytest.raises(InvalidField, match="K"):
        descriptors(np.zeros((2, SIDE, SIDE), np.float32), np.ones((2, SIDE, SIDE), np.float32))
