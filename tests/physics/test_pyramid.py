"""Coarser levels of one sequence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields.pyramid import coarsened, pyramid
from nvp_agentkit.fields.sequence import EnergySequence, FieldMeta

META = FieldMeta("rain", "mm/h", dx_m=1000.0, provenance={"file": "radar"})


def sequence(height: int, width: int, frames: int = 2) -> EnergySequence:
    values = np.random.default_rng(height * width).gamma(1.0, size=(frames, height, width)).astype(np.float32)
    return EnergySequence(values, None, META)


@given(height=st.integers(16, 90), width=st.integers(16, 90), data=st.data())
def test_every_level_keeps_the_mean_of_every_map(height: int, width: int, data: st.DataObject) -> None:
    side = data.draw(st.integers(16, min(height, width)))
    coarse = coarsened(sequence(height, width), side)
    assert min(coarse.values.shape[1:]) == side
    np.testing.assert_allclose(
        coarse.values.mean((1, 2), dtype=np.float64), sequence(height, width).values.mean((1, 2), dtype=np.float64),
        rtol=1e-5,
    )


def test_levels_are_those_the_grid_has_and_say_what_they_keep() -> None:
    levels = pyramid(sequence(130, 200))
    assert {level: one.values.shape[1:] for level, one in levels.items()} == {64: (64, 98), 128: (128, 197)}
    assert levels[64].meta.provenance["pyramid"] == {"keeps": "mean", "level": 64, "from": [130, 200]}
    assert levels[64].meta.provenance["file"] == "radar"
    assert levels[64].meta.dx_m == pytest.approx(1000 * 130 / 64)


def test_a_block_of_cells_becomes_its_mean_and_a_level_of_the_same_size_is_the_same() -> None:
    fine = sequence(64, 64)
    blocks = fine.values.reshape(2, 32, 2, 32, 2).mean((2, 4))
    np.testing.assert_allclose(coarsened(fine, 32).values, blocks, rtol=1e-6)
    np.testing.assert_allclose(coarsened(fine, 64).values, fine.values, rtol=1e-6)


def test_a_hole_takes_no_part_and_a_cell_of_holes_is_one() -> None:
    values = np.full((1, 32, 32), 5, np.float32)
    mask = np.ones(values.shape, np.bool_)
    mask[0, :2, :3] = False
    values[~mask] = 1000
    coarse = coarsened(EnergySequence(values, mask, META), 16)
    assert coarse.mask is not None
    assert (~coarse.mask).sum() == 1
    np.testing.assert_allclose(coarse.values[coarse.mask], 5)


def test_a_finer_level_is_refused() -> None:
    with pytest.raises(InvalidField, match="128 cells a side of 64 x 70; a pyramid only coarsens: give at most 64"):
        coarsened(sequence(64, 70), 128)
