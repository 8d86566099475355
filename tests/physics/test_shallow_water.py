"""The rotating layer against theory: its waves, its balance, its mass and energy."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from nvp_agentkit.domains import DOMAINS, spectral
from nvp_agentkit.domains.shallow_water import Layer, observe, process, solver, tendency
from nvp_agentkit.errors import InvalidInput
from tests.physics.integrate import by_rk4, follow, order

AT = spectral.modes(32)
LAYER = Layer.for_size(32)
IDEAL = by_rk4(partial(tendency, AT, LAYER))
START = np.asarray(process(32, 0).first(0))


def total_energy(state: np.ndarray) -> float:
    maps, _ = observe(LAYER, AT, jnp.asarray(state[None]))
    return float(np.asarray(maps, np.float64).sum())


@pytest.mark.parametrize("waves", [1, 4])
def test_a_small_wave_turns_at_the_frequency_of_the_dispersion_relation(waves: int) -> None:
    frequency = np.sqrt(LAYER.coriolis**2 + LAYER.gravity * LAYER.depth * waves**2)
    h = np.zeros((32, 17), np.complex128)
    h[0, waves] = 1e-3
    u = frequency / (waves * LAYER.depth) * h  # a wave exp(i (k x - omega t))
    v = -1j * LAYER.coriolis / frequency * u
    (after,) = follow(IDEAL, np.stack([u, v, h]).astype(np.complex64), 1.0, steps=[50])
    assert after[2, 0, waves] / h[0, waves] == pytest.approx(np.exp(-1j * frequency), abs=1e-4)


def test_weak_eddies_in_balance_stay() -> None:
    weak = (1e-4 * START).astype(np.complex64)
    (after,) = follow(IDEAL, weak, 1.0, steps=[50])
    np.testing.assert_allclose(after, weak, atol=2e-3 * np.abs(weak).max())


def test_mass_is_kept_to_the_bit_and_energy_to_the_order_of_the_step() -> None:
    quarter, eighth = follow(IDEAL, START, 1.0, steps=[32, 64])
    assert quarter[2, 0, 0] == START[2, 0, 0]
    before = total_energy(START)
    assert np.linalg.norm(quarter - START) > 0.3 * np.linalg.norm(START)
    assert total_energy(eighth) == pytest.approx(before, rel=1e-4)
    assert total_energy(quarter) == pytest.approx(before, rel=1e-3)


def test_the_step_is_of_fourth_order() -> None:
    assert order(IDEAL, START, 0.5, steps=8) == pytest.approx(4, abs=0.4)


def test_hyperviscosity_damps_a_wave_at_its_rate() -> None:
    still = np.zeros((1, 3, 32, 17), np.complex64)
    still[0, 0, 5, 0] = 1.0  # u(y), without rotation nothing moves it
    layer = replace(LAYER, coriolis=1e-6)
    (after,) = solver(32, layer).advance(jnp.asarray(still))
    decay = np.exp(-layer.nu4 * 5**4 * layer.dt * layer.frame_steps)
    assert complex(after[0, 5, 0]) == pytest.approx(decay, rel=1e-4)


def test_a_layer_that_runs_dry_is_refused() -> None:
    state = np.zeros((1, 3, 32, 17), np.complex64)
    state[0, 2, 0, 1] = 1.2 * 32**2 / 2
    layer = solver(32, LAYER)
    with pytest.raises(InvalidInput, match="Courant number nan"):
        layer.check(float(layer.observe(jnp.asarray(state))[1]))


@pytest.mark.parametrize(
    ("change", "limit"),
    [
        ({"nu4": 1e-9}, "use nu4 >="),
        ({"coriolis": 0.0}, "coriolis not 0"),
        ({"depth": -1.0}, "must be above 0"),
        ({"dt": 0.5, "frame_steps": 2}, "Courant number .* halve dt"),
    ],
)
def test_unstable_parameters_are_refused_with_the_limit_they_broke(change: dict[str, float], limit: str) -> None:
    with pytest.raises(InvalidInput, match=limit):
        DOMAINS["shallow_water"].simulate(1, 2, 16, parameters=replace(Layer.for_size(16), **change))
