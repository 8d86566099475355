"""The founding document's tables, and the laws of physics that its losses only resemble."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.fields.metrics import spatial_entropy
from nvp_agentkit.model import (
    compute_budget_violation_loss,
    compute_energy_conservation_loss,
    compute_entropy,
    compute_entropy_decrease_loss,
    compute_entropy_smoothness_loss,
)

E = jnp.asarray(np.random.default_rng(0).random((3, 16, 16, 1), np.float32))
UNIFORM = jnp.ones((1, 16, 16, 1))
PEAK = jnp.zeros((1, 16, 16, 1)).at[0, 8, 8].set(1)


def blurred(maps: np.ndarray) -> np.ndarray:
    """One explicit step of heat flow on a periodic plate."""
    around = sum(np.roll(maps, shift, axis) for axis in (1, 2) for shift in (-1, 1))
    return maps + 0.2 * (around - 4 * maps)


@pytest.mark.parametrize(("scale", "loss"), [(1, 0), (1.05, 0.05), (0.95, 0.05), (2, 1), (0, 1)])
def test_the_table_of_energy_conservation(scale, loss):
    assert compute_energy_conservation_loss(scale * E, E) == pytest.approx(loss, abs=1e-6)


@pytest.mark.parametrize(
    ("before", "after", "violated"),
    [(UNIFORM, PEAK, True), (PEAK, UNIFORM, False), (E, blurred(E), False), (blurred(E), E, True)],
    ids=["concentrating", "spreading", "thermal blur", "blur undone"],
)
def test_the_table_of_entropy(before, after, violated):
    assert (compute_entropy_smoothness_loss(after, before) > 0) == violated


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_thermal_blur_never_lowers_entropy(seed):
    maps = np.random.default_rng(seed).random((1, 16, 16, 1), np.float32)
    assert compute_entropy_decrease_loss(blurred(maps), maps) == 0


def test_entropy_is_the_one_that_is_reported():
    assert float(jnp.mean(compute_entropy(E))) == pytest.approx(spatial_entropy(np.asarray(E[..., 0])).mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "of_gain", "of_loss"), [("closed", 0.1, 0.1), ("dissipative", 0.1, 0), ("open", 0, 0)]
)
def test_each_class_of_domain_forbids_its_own(kind, of_gain, of_loss):
    assert compute_budget_violation_loss(1.1 * E, E, kind) == pytest.approx(of_gain, abs=1e-5)
    assert compute_budget_violation_loss(0.9 * E, E, kind) == pytest.approx(of_loss, abs=1e-5)


def test_an_unknown_class_is_named():
    with pytest.raises(InvalidInput, match="leaky"):
        compute_budget_violation_loss(E, E, "leaky")


@pytest.mark.parametrize("loss", [compute_energy_conservation_loss, compute_entropy_smoothness_loss])
def test_a_field_of_zeros_has_a_loss_and_a_gradient(loss):
    zeros = jnp.zeros((2, 16, 16, 1))
    for target in (zeros, E[:2]):
        assert np.isfinite(loss(zeros, target))
        assert np.isfinite(jax.grad(loss)(zeros, target)).all()
