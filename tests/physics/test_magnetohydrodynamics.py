"""The conducting fluid against theory: aligned fields, ideal invariants, the fluid without a field."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from nvp_agentkit.domains import DOMAINS, navier_stokes, spectral
from nvp_agentkit.domains.magnetohydrodynamics import STARTS, Plasma, solver, tendency
from nvp_agentkit.errors import InvalidInput
from tests.physics.integrate import by_rk4, follow, order

AT = spectral.modes(32)
K2 = -np.asarray(AT.minus_k2)
PLASMA = Plasma.for_size(32)
IDEAL = by_rk4(partial(tendency, AT))
START = STARTS["random"](32, [0, 0])


def invariants(state: np.ndarray) -> dict[str, float]:
    """Energy, cross-helicity and mean square flux function, up to a common factor."""
    twice = np.where(np.arange(state.shape[-1]) > 0, 2, 1)
    omega, a = state.astype(np.complex128)
    psi = -np.divide(omega, K2, out=np.zeros_like(omega), where=K2 > 0)
    mean = {
        "energy": K2 * (np.abs(psi) ** 2 + np.abs(a) ** 2),
        "cross-helicity": K2 * (psi * a.conj()).real,
        "flux": np.abs(a) ** 2,
    }
    return {name: float((twice * values).sum()) for name, values in mean.items()}


def test_without_damping_energy_cross_helicity_and_flux_are_kept() -> None:
    (after,) = follow(IDEAL, START, 0.5, steps=[100])
    assert np.linalg.norm(after - START) > 0.5 * np.linalg.norm(START)
    before, now = invariants(START), invariants(after)
    for name in before:
        assert now[name] == pytest.approx(before[name], abs=2e-4 * before["energy"]), name


def test_a_flow_along_its_own_field_decays_mode_by_mode() -> None:
    aligned = np.stack([-K2 * START[1], START[1]]).astype(np.complex64)  # psi = a: Alfven waves of one direction
    (after,) = solver(32, PLASMA).advance(jnp.asarray(aligned[None]))
    decay = np.exp(-PLASMA.nu4 * K2**2 * PLASMA.dt * PLASMA.frame_steps)
    for now, then in zip(np.asarray(after), aligned * decay, strict=True):
        np.testing.assert_allclose(now, then, atol=2e-5 * np.abs(then).max())


def test_without_a_field_it_is_a_fluid() -> None:
    omega = jnp.asarray(START[0])
    fluid = navier_stokes.tendency(AT, jnp.zeros(1, jnp.complex64), omega)
    plasma = tendency(AT, jnp.stack([omega, jnp.zeros_like(omega)]))
    np.testing.assert_allclose(plasma[0], fluid, atol=1e-4 * np.abs(fluid).max())
    assert np.abs(plasma[1]).max() == 0


def test_the_step_is_of_fourth_order() -> None:
    assert order(IDEAL, START, 0.3, steps=8) == pytest.approx(4, abs=0.4)


def test_the_vortex_starts_with_as_much_field_as_flow() -> None:
    vortices = np.stack([STARTS["orszag_tang"](32, [0, number]) for number in range(8)])
    maps, _ = solver(32, PLASMA).observe(jnp.asarray(vortices))
    assert float(maps.mean()) == pytest.approx(1 + 0.3**2, rel=0.1)


@pytest.mark.parametrize(
    ("change", "limit"),
    [
        ({"nu4": 1e-9}, "use nu4 >="),
        ({"eta4": 1e-9}, "use eta4 >="),
        ({"start": "sunspot"}, "give one of orszag_tang, random"),
        ({"frame_steps": 0}, "must be above 0"),
        ({"dt": 0.5, "frame_steps": 2}, "Courant number .* halve dt"),
    ],
)
def test_unstable_parameters_are_refused_with_the_limit_they_broke(change: dict[str, float], limit: str) -> None:
    with pytest.raises(InvalidInput, match=limit):
        DOMAINS["magnetohydrodynamics"].simulate(1, 2, 16, parameters=replace(Plasma.for_size(16), **change))
