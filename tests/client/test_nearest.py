"""The nearest descriptors are those that measuring each one would find."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvp_agentkit.client.nearest import Descriptors
from nvp_agentkit.errors import InvalidInput


@given(
    seed=st.integers(0, 2**32 - 1),
    known=st.integers(1, 300),
    count=st.integers(1, 20),
    offset=st.sampled_from([0.0, 1e4]),
    spread=st.sampled_from([0.0, 1e-6, 1.0, 1e3]),
    steps=st.sampled_from([None, 3]),
)
def test_nothing_nearer_is_missed(seed: int, known: int, count: int, offset: float, spread: float, steps) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(known, 8)) if steps is None else rng.integers(steps, size=(known, 8))  # with many ties
    values = (offset + spread * values).astype(np.float32)
    asked = values[rng.integers(known)] if seed % 2 else (offset + spread * rng.normal(size=8)).astype(np.float32)
    distances = np.linalg.norm(values.astype(np.float64) - asked, axis=1)
    found = Descriptors(values).nearest(asked, count)
    assert list(found.places) == list(np.lexsort((np.arange(known), distances))[:count])
    np.testing.assert_array_equal(found.distances, np.sort(distances)[:count])


@pytest.mark.parametrize("values", [np.zeros(8), np.zeros((0, 8)), np.full((3, 8), np.nan)])
def test_what_are_no_descriptors_is_refused(values: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match=r"give \(N, D\), at least one, all finite"):
        Descriptors(values)


@pytest.mark.parametrize(("one", "count"), [(np.zeros(7), 1), (np.zeros(8), 0), (np.full(8, np.inf), 1)])
def test_what_cannot_be_asked_is_refused(one: np.ndarray, count: int) -> None:
    with pytest.raises(InvalidInput, match="give at least 1"):
        Descriptors(np.zeros((3, 8))).nearest(one, count)
