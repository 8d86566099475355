"""What a dataset looks like, where it is known."""

from dataclasses import replace

import numpy as np
import pytest

from nvp_agentkit.fields import FieldMeta, SequenceSet
from nvp_agentkit.fields.description import SIZE, describe

PERIODIC = FieldMeta("waves", "J", boundary=("periodic", "periodic"))


def waving(wave: int, side: int = 32, frames: int = 6, level: float = 3.0) -> SequenceSet:
    """One wave across, two trajectories, moving an eighth of its length a frame."""
    x = np.broadcast_to(np.arange(side) * (2 * np.pi / side), (side, side))
    maps = np.stack([level + np.sin(wave * x - t * np.pi / 4) for t in range(frames)])
    return SequenceSet(np.stack([maps, maps]).astype(np.float32), None, PERIODIC)


def test_totals_statistics_and_the_spectrum_of_a_wave_are_known() -> None:
    found = describe(waving(5))
    np.testing.assert_allclose(found.total, 3 * 32 * 32, rtol=1e-5)
    assert found.statistics == pytest.approx({"mean": 3, "sd": np.sqrt(0.5), "least": 2, "most": 4}, abs=1e-2)
    waves, variance = found.spectrum
    assert waves[np.argmax(variance)] == 5
    assert variance.sum() == pytest.approx(0.5, rel=1e-3)
    assert found.entropy == pytest.approx(np.full((2, 6), np.log(32 * 32)), rel=0.01)


def test_a_descriptor_depends_on_neither_unit_nor_grid() -> None:
    one = describe(waving(5)).descriptor
    assert one.shape == (SIZE,)
    assert np.isfinite(one).all()
    thousandfold = describe(replace(waving(5), values=1000 * waving(5).values)).descriptor
    np.testing.assert_allclose(thousandfold, one, atol=1e-3)
    finer = describe(waving(5, side=64)).descriptor
    other = describe(waving(9)).descriptor
    assert np.linalg.norm(finer - one) < 0.5 * np.linalg.norm(other - one)


def test_a_hole_counts_for_nothing_in_statistics_and_totals() -> None:
    data = waving(5)
    mask = np.ones(data.values.shape, np.bool_)
    mask[..., :8, :] = False
    spoilt = np.where(mask, data.values, np.float32(1e6))
    found = describe(SequenceSet(spoilt, mask, PERIODIC))
    assert found.statistics == pytest.approx(describe(data).statistics, abs=1e-3)
    np.testing.assert_allclose(found.total, 3 * 24 * 32, rtol=1e-5)
    assert found.descriptor[-1] == pytest.approx(0.75)


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_field_that_is_the_same_everywhere_has_a_descriptor_too(value: float) -> None:
    flat = SequenceSet(np.full((1, 2, 16, 20), value, np.float32), None, FieldMeta("flat"))
    assert np.isfinite(describe(flat).descriptor).all()


def test_who_is_told_may_end_it() -> None:
    def stop(done: int, of: int) -> None:
        raise InterruptedError(f"{done} of {of}")

    with pytest.raises(InterruptedError, match="0 of 2"):
        describe(waving(5), stop)
