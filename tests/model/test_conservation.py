from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvp_agentkit.ensemble.agreement import Answer, combine
from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.model import ModelBundle, Normalization, NVPConfig, NVPModel, predict_next
from nvp_agentkit.model.conservation import bounded, conserve, project
from nvp_agentkit.model.rollout import rollout_by_steps

from .conftest import SMALL, scrambled

CLOSED = dataclasses.replace(SMALL, conservation="closed", masked=True)
ROUNDING = 1e-6  # of sum |E|; single figures lie near 4e-8

projected = jax.jit(project)
conserved = jax.jit(conserve, static_argnums=0)
held = jax.jit(bounded, static_argnums=0)

shapes = st.sampled_from([(2, 16, 16), (1, 33, 65)])
offsets = st.sampled_from([0.0, 1.0, -40.0])
seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int, shape: tuple[int, ...], offset: float) -> list[np.ndarray]:
    """A forecast, its log-variance, the frame before, and which cells count."""
    rng = np.random.default_rng(seed)
    mean, newest = (rng.standard_normal((2, *shape)) + offset).astype(np.float32)
    log_var = rng.uniform(-8, 2, shape).astype(np.float32)
    return [mean, log_var, newest, (rng.random(shape) < 0.7).astype(np.float32)]


def missed(one: np.ndarray, other: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """|sum one - sum other| / sum |other| of the cells that count."""
    one, other = (np.asarray(maps, np.float64) * weight for maps in (one, other))
    return np.abs((one - other).sum((1, 2))) / np.abs(other).sum((1, 2))


@settings(max_examples=30)
@given(seeds, shapes, offsets)
def test_a_closed_domain_keeps_its_total_and_cells_that_do_not_count_keep_their_value(seed, shape, offset):
    mean, log_var, newest, weight = drawn(seed, shape, offset)
    told, narrowed = (np.asarray(part) for part in conserved("closed", mean, log_var, newest, weight))
    assert missed(told, newest, weight).max() < ROUNDING
    np.testing.assert_array_equal(told[weight == 0], mean[weight == 0])
    assert (narrowed <= log_var).all()
    np.testing.assert_array_equal(narrowed[weight == 0], log_var[weight == 0])


@settings(max_examples=30)
@given(seeds, shapes, offsets)
def test_a_dissipative_domain_never_gains_and_may_lose_what_it_likes(seed, shape, offset):
    mean, log_var, newest, weight = drawn(seed, shape, offset)
    told = np.asarray(conserved("dissipative", mean, log_var, newest, weight)[0])
    loses = (weight * mean).sum((1, 2), np.float64) < (weight * newest).sum((1, 2), np.float64) * (1 - 1e-5) - 1e-2
    np.testing.assert_allclose(told[loses], mean[loses], rtol=1e-5, atol=1e-5)
    change = ((told.astype(np.float64) - newest) * weight).sum((1, 2))
    assert (change / np.abs(newest * weight).sum((1, 2)) < ROUNDING).all()


@settings(max_examples=30)
@given(seeds, shapes, st.sampled_from(["closed", "dissipative"]))
def test_no_forecast_gets_further_from_what_came(seed, shape, kind):
    mean, log_var, newest, weight = drawn(seed, shape, 1.0)
    came = newest + drawn(seed + 1, shape, 0.0)[0]
    lost = 0.0 if kind == "closed" else 0.1  # of each cell, beyond what it takes to keep the total
    came = came - weight * ((weight * (came - newest)).sum((1, 2)) / weight.sum((1, 2)))[:, None, None] - weight * lost
    told = np.asarray(conserved(kind, mean, log_var, newest, weight)[0])
    before, after = ((weight * (maps - came) ** 2 / np.exp(log_var)).sum((1, 2)) for maps in (mean, told))
    assert (after <= before * (1 + 1e-5)).all()


def test_nothing_is_known_of_an_open_domain():
    mean, log_var, newest, weight = drawn(0, (2, 16, 16), 1.0)
    for told, was in zip(conserve("open", mean, log_var, newest, weight), (mean, log_var), strict=True):
        np.testing.assert_array_equal(told, was)


def test_a_draw_has_the_variance_that_is_left_once_the_total_is_known():
    rng = np.random.default_rng(3)
    variance = np.array([[0.1, 0.4], [1.0, 2.5]])
    draws = (1 + np.sqrt(variance) * rng.standard_normal((20_000, 2, 2))).astype(np.float32)
    log_var = np.broadcast_to(np.log(variance), draws.shape).astype(np.float32)
    told, narrowed = projected(draws, log_var, np.full(len(draws), 5.0, np.float32))
    np.testing.assert_allclose(np.sum(told, (1, 2)), 5, rtol=1e-5)
    np.testing.assert_allclose(np.exp(narrowed[0]), variance - variance**2 / variance.sum(), rtol=1e-4)
    np.testing.assert_allclose(np.var(told, 0), variance - variance**2 / variance.sum(), rtol=0.05)


@settings(max_examples=30)
@given(seeds, shapes)
def test_no_cell_falls_below_the_bound_and_the_total_stays(seed, shape):
    mean, log_var, _, weight = drawn(seed, shape, 1.0)
    told = np.asarray(held("closed", mean, log_var, np.float32(0), jnp.inf, weight))
    assert told.min() >= 0
    assert missed(told, mean, weight).max() < ROUNDING
    np.testing.assert_array_equal(told[weight == 0], np.maximum(mean, 0)[weight == 0])
    lifted = (mean < 0) & (weight > 0)
    assert (told[lifted] == 0).all()  # what is lifted to the bound is lifted no further


def test_a_total_that_no_field_above_the_bound_has_becomes_the_lowest_there_is():
    mean, log_var, *_ = drawn(0, (2, 16, 16), -40.0)
    np.testing.assert_array_equal(held("closed", mean, log_var, np.float32(0), jnp.inf), np.zeros_like(mean))


def test_an_open_domain_is_cut_off_at_the_bounds():
    mean, log_var, *_ = drawn(0, (2, 16, 16), 1.0)
    np.testing.assert_array_equal(held("open", mean, log_var, np.float32(0), 2.0), np.clip(mean, 0, 2))


def test_the_loss_s_gradient_passes_through():
    mean, log_var, newest, weight = drawn(0, (2, 16, 16), 1.0)
    came = drawn(1, (2, 16, 16), 1.0)[0]

    @jax.jit
    def loss(mean, log_var):
        return jnp.sum((conserve("closed", mean, log_var, newest, weight)[0] - came) ** 2)

    by_mean, by_log_var = jax.jit(jax.grad(loss, (0, 1)))(mean, log_var)
    step = np.float32(0.1)
    for place in ((0, 3, 4), (1, 15, 0)):
        nudge = np.zeros_like(mean)
        nudge[place] = step
        along = (loss(mean + nudge, log_var) - loss(mean - nudge, log_var)) / (2 * step)
        assert by_mean[place] == pytest.approx(float(along), rel=0.03, abs=0.01)
        along = (loss(mean, log_var + nudge) - loss(mean, log_var - nudge)) / (2 * step)
        assert by_log_var[place] == pytest.approx(float(along), rel=0.03, abs=0.01)
    assert float(np.abs(by_log_var).max()) > 0.1  # who moves how far is learned, too


@pytest.fixture(scope="module")
def asked() -> tuple[np.ndarray, np.ndarray]:
    """Frames near zero, in which forecasts would fall below it, and where they are known."""
    rng = np.random.default_rng(1)
    return rng.random((3, 2, 16, 24), np.float32), rng.random((3, 2, 16, 24)) < 0.8


def of_seed(seed: int) -> ModelBundle:
    return dataclasses.replace(scrambled(CLOSED, seed), normalization=Normalization(0.5, 0.3))


def test_a_forecast_of_a_closed_positive_domain_has_both_its_total_and_its_sign(asked):
    frames, mask = asked
    mean, _ = predict_next(of_seed(0), frames, mask)
    assert mean.min() == 0  # some cells lie on the bound
    assert missed(mean, frames[:, -1], mask[:, -1]).max() < ROUNDING


def test_a_rollout_keeps_the_total_at_every_step(asked):
    frames, mask = asked
    mask = np.broadcast_to(mask[:, -1:], mask.shape)
    means, _ = rollout_by_steps(of_seed(0), frames, 20, mask)
    assert means.min() == 0
    for step in range(20):
        assert missed(means[:, step], frames[:, -1], mask[:, -1]).max() < 20 * ROUNDING


def test_what_members_say_together_has_the_total_that_each_of_them_has(asked):
    frames, mask = asked
    told = [predict_next(of_seed(seed), frames, mask) for seed in range(3)]
    assert np.abs(told[0][0] - told[1][0]).max() > 0.1
    together = combine({f"voter-{n}": Answer(mean[0], log_var[0]) for n, (mean, log_var) in enumerate(told)})
    assert missed(together.mean[None], frames[:1, -1], mask[:1, -1]).max() < ROUNDING
    assert together.mean.min() >= 0


def test_a_draw_has_the_mean_s_total():
    config = dataclasses.replace(SMALL, conservation="closed", context_frames=1)
    bundle, model = scrambled(config), NVPModel(config)
    frames = np.random.default_rng(0).random((2, 16, 16, 1), np.float32)

    @jax.jit
    def drawn_by(key):
        return model.apply(bundle.variables, frames, deterministic=False, method="predict", rngs={"sample": key})

    one, other = (np.asarray(drawn_by(jax.random.key(seed)))[..., 0] for seed in range(2))
    assert np.abs(one - other).max() > 0.1
    for draw in (one, other):
        assert missed(draw, frames[..., -1], np.ones_like(draw)).max() < ROUNDING


@pytest.mark.parametrize("change", [{"conservation": "mostly"}, {"conservation": "closed", "document_grid": (16, 16)}])
def test_a_class_that_cannot_be_is_refused(change):
    with pytest.raises(InvalidInput, match="conservation"):
        NVPConfig.documented(**change) if "document_grid" in change else NVPConfig(**change)
