"""What is refused at every door, each with value, limit and remedy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvp_agentkit.errors import InvalidField, InvalidInput
from nvp_agentkit.messages import ArrayRef
from nvp_agentkit.messages.checks import check_field, check_shape, millijoules
from nvp_agentkit.settings import Settings

LIMIT = Settings().max_cells
DIGEST = "sha256:" + "0" * 64
GOOD = np.linspace(0.0, 1.0, 16 * 20, dtype=np.float64).reshape(16, 20)


def holed(value: float, dtype: type = np.float64) -> np.ndarray[Any, Any]:
    """A good field with one cell replaced."""
    field: np.ndarray[Any, Any] = GOOD.astype(dtype)
    field[3, 4] = value
    return field


def test_a_good_field_comes_back_as_float32() -> None:
    frames = check_field(np.stack([GOOD, GOOD]), max_cells=LIMIT)
    assert frames.dtype == np.float32
    np.testing.assert_allclose(frames[1], GOOD, rtol=1e-6)


@pytest.mark.parametrize("field", [GOOD.astype(np.int16), GOOD.astype(np.float16), GOOD.tolist()])
def test_any_real_numbers_will_do(field: object) -> None:
    assert check_field(field, max_cells=LIMIT).shape == GOOD.shape


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [
        (np.ones(32), r"shape \(32,\)", r"one frame \(H, W\)"),
        (np.ones((1, 1, 32, 32)), r"shape \(1, 1, 32, 32\)", r"several \(K, H, W\), oldest first"),
        (np.float32(1), r"shape \(\)", r"one frame \(H, W\)"),
        (np.ones((0, 0)), "0 x 0", "at least 16"),
        (np.ones((0, 32, 32)), "0 frames", "send 1 to 16"),
        (np.ones((17, 32, 32)), "17 frames", "send 1 to 16"),
        (np.ones((15, 64)), "15 x 64", "at least 16"),
        (GOOD.astype(complex), "complex128", "send real numbers"),
        (GOOD.astype(str), "<U32", "send real numbers"),
        (GOOD.astype(object), "object", "send real numbers"),
        (GOOD > 0.5, "bool", "send real numbers"),
        (None, "object", "send real numbers"),
        ("field.npy", "<U9", "send real numbers"),
        ([[1.0, 2.0], [3.0]], "no array", "rows of equal length"),
        (holed(math.nan), "1 values of 320", "fill or cut"),
        (holed(math.inf), "1 values of 320", "fill or cut"),
        (holed(-math.inf, np.float32), "1 values of 320", "fill or cut"),
        (holed(1e39), "beyond float32", "fill or cut"),
        (np.ma.masked_greater(GOOD, 0.9), "32 masked cells of 320", "fill or cut"),
    ],
    ids=range(19),
)
def test_a_field_that_cannot_be_forecast_is_refused(field: object, value: str, remedy: str) -> None:
    with pytest.raises(InvalidField, match=rf"(?s){value}.*{remedy}"):
        check_field(field, max_cells=LIMIT)


def test_a_masked_array_without_a_masked_cell_is_a_field() -> None:
    assert check_field(np.ma.masked_invalid(GOOD), max_cells=LIMIT).shape == GOOD.shape


HUGE = r"10,000,000,000 cells, limit 16,777,216; crop it, coarsen it or raise NVP_MAX_CELLS"


def test_a_header_that_promises_too_much_is_refused_before_a_byte_is_read() -> None:
    with pytest.raises(InvalidField, match=HUGE):
        check_shape((100_000, 100_000), max_cells=LIMIT)


def test_a_field_that_is_too_large_is_refused_before_it_is_copied() -> None:
    endless = np.broadcast_to(np.float64(1.0), (100_000, 100_000))
    with pytest.raises(InvalidField, match=HUGE):
        check_field(endless, max_cells=LIMIT)


def test_the_limit_itself_is_allowed() -> None:
    check_shape((4096, 4096), max_cells=LIMIT)
    with pytest.raises(InvalidField, match="limit 16,777,216"):
        check_shape((4096, 4097), max_cells=LIMIT)


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": (0, 0)},
        {"shape": (-1, 5)},
        {"shape": ()},
        {"shape": (2**32, 1)},
        {"dtype": "object"},
        {"dtype": ">f4"},
        {"digest": "md5:0"},
        {"uri": None},
        {"inline": "AAAA"},
    ],
)
def test_a_reference_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    good: dict[str, Any] = {"shape": (16, 16), "digest": DIGEST, "uri": "nvp://somewhere"}
    assert ArrayRef(**good).nbytes == 1024
    with pytest.raises(pydantic.ValidationError):
        ArrayRef(**good | changes)


@pytest.mark.parametrize("budget", [-1, -0.5, 0, 0.0, 0.0009, 1.1e12, math.nan, math.inf, -math.inf, 10**400])
def test_a_budget_that_is_none_is_refused_with_value_limit_and_remedy(budget: float) -> None:
    with pytest.raises(InvalidInput) as refusal:
        millijoules(budget)
    for part in (f"budget_j={budget!r}", "between 0.001 and 1e+12 joules", "pass budget_j=5.0"):
        assert part in str(refusal.value)


def test_a_missing_budget_is_asked_for() -> None:
    with pytest.raises(InvalidInput, match=r"no budget: .*pass budget_j=5.0"):
        millijoules(None)


@pytest.mark.parametrize("budget", ["5", True, [5.0], 5j])
def test_a_budget_that_is_no_number_is_refused(budget: Any) -> None:
    with pytest.raises(InvalidInput, match="is no number of joules; pass budget_j"):
        millijoules(budget)


@given(st.integers(min_value=1, max_value=10**15))
def test_joules_become_whole_millijoules(amount_mj: int) -> None:
    assert millijoules(amount_mj / 1000) == amount_mj
