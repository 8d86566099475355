"""The plate against theory: a cosine's decay, the total, the maximum principle."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nvp_agentkit.domains import DOMAINS
from nvp_agentkit.domains.heat_diffusion import WIDTH_M, Furnace, Plate, advance, flames, flux_divergence, process
from nvp_agentkit.errors import InvalidInput

SIZE = 32
COLD = replace(Furnace.for_size(SIZE), power=0.0)
CELL_M2 = (WIDTH_M / SIZE) ** 2


def first_plates(furnace: Furnace) -> Plate:
    return jax.tree.map(lambda *each: np.stack(each), *map(process(SIZE, 0, furnace).first, range(2)))


def totals_j(plates: Plate) -> np.ndarray:
    return np.asarray(plates.heat, np.float64).sum((1, 2)) * CELL_M2


@pytest.mark.parametrize("waves", [(1, 0), (2, 3)])
def test_a_cosine_under_even_conductivity_decays_exactly(waves: tuple[int, int]) -> None:
    furnace = replace(COLD, kappa_low=1e-4, cooling=0.004, sink=0.0)
    plates = first_plates(furnace)
    places = (np.arange(SIZE) + 0.5) / SIZE
    shape = np.cos(np.pi * waves[0] * places)[:, None] * np.cos(np.pi * waves[1] * places)
    after = advance(furnace, plates._replace(heat=np.repeat(shape[None].astype(np.float32), 2, 0)))
    time = furnace.dt * furnace.frame_steps
    rate = 1e-4 * (np.pi / WIDTH_M) ** 2 * (waves[0] ** 2 + waves[1] ** 2) + 0.004
    np.testing.assert_allclose(after.heat[0], shape * np.exp(-rate * time), atol=5e-3 * np.exp(-rate * time))
    assert float(after.time[0]) == pytest.approx(time, rel=1e-5)


def test_heat_crosses_two_layers_as_it_crosses_resistances_in_series() -> None:
    kappa = np.where(np.arange(SIZE) < 12, 1e-5, 1e-4)
    dx, flux = WIDTH_M / SIZE, 0.5  # a flux of 0.5 W/m drops E by dx / kappa a cell, half of it on each side of a face
    drop = flux * dx * (1 / kappa[:-1] + 1 / kappa[1:]) / 2
    heat = np.concatenate([[0.0], np.cumsum(drop)]).astype(np.float32)
    gained = flux_divergence(*(jnp.asarray(np.tile(row, (SIZE, 1)), jnp.float32) for row in (heat, kappa)), dx)
    np.testing.assert_allclose(gained[:, 1:-1], 0, atol=1e-3 * flux / dx)
    np.testing.assert_allclose(gained[:, [0, -1]], np.tile([flux / dx, -flux / dx], (SIZE, 1)), rtol=1e-3)


def test_without_flames_and_cooling_the_total_is_kept_and_no_new_extreme_appears() -> None:
    furnace = replace(COLD, cooling=0.0, sink=0.0)
    assert furnace.conservation == "closed"
    before = first_plates(furnace)
    after = advance(furnace, before)
    np.testing.assert_allclose(totals_j(after), totals_j(before), rtol=1e-6)
    assert np.abs(after.heat - before.heat).max() > 0.01 * before.heat.max()
    assert after.heat.max() <= before.heat.max() * (1 + 1e-6)
    assert after.heat.min() >= before.heat.min() * (1 - 1e-6)


def test_every_joule_of_the_flames_is_in_the_plate_or_was_cooled_away() -> None:
    furnace = replace(Furnace.for_size(SIZE), sink=0.0)
    assert furnace.conservation == "open"
    plates = first_plates(furnace)
    expected = totals_j(plates)
    glow = jax.jit(jax.vmap(lambda orbits, time: flames(orbits, time, SIZE).sum(), (0, None)))
    for step in range(furnace.frame_steps):  # Heun's rule on the total alone
        now, then = (
            furnace.power * CELL_M2 * np.asarray(glow(plates.orbits, (step + later) * furnace.dt)) for later in (0, 1)
        )
        slope = now - furnace.cooling * expected
        expected = expected + furnace.dt / 2 * (slope + then - furnace.cooling * (expected + furnace.dt * slope))
    np.testing.assert_allclose(totals_j(advance(furnace, plates)), expected, rtol=1e-5)


def test_cooling_alone_only_loses_heat_and_most_at_the_sinks() -> None:
    assert COLD.conservation == "dissipative"
    before = first_plates(replace(COLD, kappa_low=0.0, kappa_high=0.0))
    after = advance(replace(COLD, kappa_low=0.0, kappa_high=0.0), before._replace(kappa=np.zeros_like(before.kappa)))
    lost = np.log(before.heat / np.asarray(after.heat)) / (COLD.dt * COLD.frame_steps)
    np.testing.assert_allclose(lost, before.cooling, rtol=2e-3)


@pytest.mark.parametrize(
    ("change", "limit"),
    [
        ({"dt": 3.0}, "limit .* shorten dt"),
        ({"kappa_low": 1.0}, "0 <= kappa_low <= kappa_high"),
        ({"power": -1.0}, "no negative rate"),
        ({"power": 1e38}, "greatest value became"),
    ],
)
def test_unstable_parameters_are_refused_with_the_limit_they_broke(change: dict[str, float], limit: str) -> None:
    with pytest.raises(InvalidInput, match=limit):
        DOMAINS["heat_diffusion"].simulate(1, 2, 16, parameters=replace(Furnace.for_size(16), **change))
