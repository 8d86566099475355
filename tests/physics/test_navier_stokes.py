"""The incompressible fluid against theory: exact decay, invariants, the growth of a shear layer."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from nvp_agentkit.domains import DOMAINS, shear_flow, spectral, turbulence_2d
from nvp_agentkit.domains.navier_stokes import Fluid, advance, hyperviscosity, solver, tendency
from nvp_agentkit.errors import InvalidInput
from tests.physics.integrate import by_rk4, follow, order

AT = spectral.modes(32)
K2 = -np.asarray(AT.minus_k2)
IDEAL = by_rk4(partial(tendency, AT, jnp.zeros(1, jnp.complex64)))
ONE_LENGTH = spectral.random_band(32, 5, 5, [1])  # waves (3, 4), (5, 0), ...: they do not stir each other


def mean_over(weight: np.ndarray, omega: np.ndarray) -> float:
    """Mean over the map of a quadratic quantity, by Parseval; modes with k_x > 0 stand for two."""
    twice = np.where(np.arange(omega.shape[-1]) > 0, 2, 1)
    return float((twice * weight * np.abs(omega) ** 2).sum())


def test_waves_of_one_length_decay_exactly_while_they_move_each_other() -> None:
    fluid = Fluid(nu4=hyperviscosity(32), dt=0.05, frame_steps=20, nu=0.01, mu=0.1)
    (after,) = solver(32, fluid).advance(jnp.asarray(ONE_LENGTH[None]))
    rate = 0.01 * 25 + fluid.nu4 * 625 + 0.1
    np.testing.assert_allclose(after, ONE_LENGTH * np.exp(-rate), atol=1e-5 * np.abs(ONE_LENGTH).max())


def test_a_stirrer_and_friction_find_their_balance() -> None:
    fluid = Fluid(nu4=0.0, dt=0.05, frame_steps=20, mu=0.3)
    still = jnp.zeros((1, 32, 17), jnp.complex64)
    (after,) = advance(fluid, AT, spectral.half_decay(0.3, fluid.dt), jnp.asarray(ONE_LENGTH), still)
    rate = 0.3
    balance = ONE_LENGTH * (1 - np.exp(-rate)) / rate
    np.testing.assert_allclose(after, balance, atol=1e-5 * np.abs(balance).max())


def test_without_viscosity_energy_and_enstrophy_are_kept() -> None:
    omega = spectral.random_vorticity(32, 2, 5, [0])
    (after,) = follow(IDEAL, omega, 1.0, steps=[100])
    assert np.linalg.norm(after - omega) > 0.5 * np.linalg.norm(omega)  # it has long become another flow
    inverse = np.divide(1, K2, out=np.zeros_like(K2), where=K2 > 0)
    for weight in (inverse, np.ones_like(K2)):
        assert mean_over(weight, after) == pytest.approx(mean_over(weight, omega), rel=1e-4)


def test_the_step_is_of_fourth_order() -> None:
    omega = spectral.random_vorticity(32, 2, 5, [0])
    assert order(IDEAL, omega, 0.5, steps=8) == pytest.approx(4, abs=0.4)


def test_the_energy_map_is_that_of_the_velocity() -> None:
    y, _ = np.mgrid[:32, :32] * (2 * np.pi / 32)
    omega = np.fft.rfft2(-3 * np.cos(3 * y)).astype(np.complex64)  # u_x = sin 3y
    maps, speed = solver(32, turbulence_2d.decaying(32)).observe(jnp.asarray(omega[None]))
    np.testing.assert_allclose(maps[0], np.sin(3 * y) ** 2 / 2, atol=1e-6)
    assert float(speed) == pytest.approx(1, abs=1e-2)


def test_a_shear_layer_grows_as_fast_as_theory_says() -> None:
    d = 0.4446 / 2  # so that two waves fit the box at the fastest growth
    base = shear_flow.layers(64, d)
    ripple = np.zeros_like(base)
    ripple[1:8, 2] = 1e-2
    at = spectral.modes(64)
    step = by_rk4(partial(tendency, at, jnp.zeros(1, jnp.complex64)))
    start, end = (
        np.linalg.norm(follow(step, base + ripple, time, steps=[round(time / 0.04)])[0][:, 2]) for time in (5.0, 7.0)
    )
    assert np.log(end / start) / 2 == pytest.approx(0.1897 / d, rel=0.02)


def test_forced_turbulence_is_open_and_every_seed_has_the_same_stirrer() -> None:
    forced = replace(turbulence_2d.forced(16), frame_steps=2)
    made = DOMAINS["turbulence_2d"].simulate(1, 2, 16, parameters=forced)
    assert made.meta.conservation == "open"
    still = jnp.zeros((1, 16, 9), jnp.complex64)
    first, other = (turbulence_2d.process(16, seed, forced).solver.advance(still) for seed in (0, 1))
    assert np.abs(first).max() > 0
    np.testing.assert_array_equal(first, other)


@pytest.mark.parametrize(
    ("change", "limit"),
    [
        ({"nu4": 1e-9}, "use nu4 >="),
        ({"nu4": 0.0, "nu": 1e-4}, "use nu >="),
        ({"mu": -1.0}, "no rate may be negative"),
        ({"dt": 2.0, "force": 50.0}, "Courant number .* halve dt"),
    ],
)
@pytest.mark.parametrize("name", ["turbulence_2d", "shear_flow"])
def test_unstable_parameters_are_refused_with_the_limit_they_broke(
    name: str, change: dict[str, float], limit: str
) -> None:
    with pytest.raises(InvalidInput, match=limit):
        DOMAINS[name].simulate(1, 3, 16, parameters=replace(turbulence_2d.decaying(16), **change))
