"""The plasma simulator against theory, and its promises to those who pay for it."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from nvp_agentkit.domains import get_domain
from nvp_agentkit.domains.hasegawa_wakatani import Parameters, noise, solver
from nvp_agentkit.domains.spectral import modes, regrid
from nvp_agentkit.errors import InvalidInput, UnknownDomain
from nvp_agentkit.fields import SequenceSet
from nvp_agentkit.fields.metrics import vrmse

simulate = get_domain("plasma_physics").simulate
SMALL = Parameters.for_size(16)
QUICK = replace(SMALL, spin_up=4.0)


def growth(parameters: Parameters, kx: float, ky: float) -> complex:
    """The faster root of the linearised equations for a wave exp(i k x + lambda t)."""
    k2 = kx**2 + ky**2
    coupling = parameters.alpha if ky else 0.0
    matrix = np.array(
        [
            [-coupling / k2, coupling / k2],  # phi, from zeta = -k^2 phi
            [coupling - 1j * parameters.kappa * ky, -coupling],  # n
        ]
    )
    roots = np.linalg.eigvals(matrix) - parameters.nu * k2**2
    return complex(max(roots, key=lambda root: root.real))


@pytest.mark.parametrize(("x", "y"), [(0, 1), (0, 3), (2, 2), (1, 4), (3, 1)])
def test_a_small_wave_grows_and_turns_as_the_dispersion_relation_says(x: int, y: int) -> None:
    parameters = replace(Parameters.for_size(32), frame_steps=25)
    plasma = solver(32, parameters)
    states = jnp.asarray(1e-5 * noise(32, parameters, seed=0, trajectory=0)[None])
    amplitudes = []
    for _ in range(12):
        states = plasma.advance(states)
        amplitudes.append(complex(states[0, 1, y, x]))
    elapsed = parameters.dt * parameters.frame_steps
    measured = np.log(amplitudes[-1] / amplitudes[-2]) / elapsed
    truth = growth(parameters, parameters.k0 * x, parameters.k0 * y)
    assert measured.real == pytest.approx(truth.real, abs=2e-3)
    turned = (measured.imag - truth.imag) * elapsed  # the phase is known up to whole turns
    assert abs(np.angle(np.exp(1j * turned))) < 4e-3


def test_the_zonal_mean_neither_couples_nor_drifts() -> None:
    parameters = replace(Parameters.for_size(32), nu=1e-2)
    zonal = np.zeros((1, 2, 32, 17), np.complex64)
    zonal[0, 1, 0, 1:4] = 10.0
    states = solver(32, parameters).advance(jnp.asarray(zonal))
    k4 = (parameters.k0 * np.arange(1, 4)) ** 4
    decay = np.exp(-parameters.nu * k4 * parameters.dt * parameters.frame_steps)
    np.testing.assert_allclose(states[0, 1, 0, 1:4], 10.0 * decay, rtol=1e-5)
    assert float(jnp.abs(states[0, 0]).max()) == 0.0


def test_a_seed_gives_the_same_bits_and_another_seed_other_weather() -> None:
    first, again, other = (simulate(2, 3, 16, seed, parameters=QUICK).values for seed in (7, 7, 8))
    assert first.tobytes() == again.tobytes()
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0], first[1])


def test_the_demo_task_is_neither_trivial_nor_hopeless(turbulence: SequenceSet) -> None:
    values = turbulence.values
    assert values.shape == (4, 13, 64, 64)
    assert values.min() >= 0
    assert turbulence.meta.conservation == "open"
    assert 0.30 < vrmse(values[:, :-1], values[:, 1:]) < 0.45  # 0.36 over the demo's 12 trajectories


def test_progress_moves_and_may_end_the_run() -> None:
    told: list[tuple[int, int]] = []
    simulate(1, 4, 16, progress=lambda done, total: told.append((done, total)), parameters=QUICK)
    total = told[0][1]
    assert told == [(done, total) for done in range(1, total + 1)]

    class SpentError(Exception): ...

    def stop(done: int, total: int) -> None:
        raise SpentError

    with pytest.raises(SpentError):
        simulate(1, 4, 16, progress=stop, parameters=QUICK)


def test_batches_cover_all_trajectories(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = simulate(3, 2, 16, parameters=QUICK).values
    monkeypatch.setattr("nvp_agentkit.domains.runs.CELLS_AT_ONCE", 2 * 16**2)
    parts = simulate(3, 2, 16, parameters=QUICK).values
    assert parts.shape == whole.shape
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "limit"),
    [({"dt": 1.0}, "use dt <="), ({"nu": 1e-6}, "use nu >="), ({"kappa": 12.0, "dt": 0.15}, "Courant number")],
)
def test_unstable_parameters_are_refused_with_the_limit_they_broke(change: dict[str, float], limit: str) -> None:
    with pytest.raises(InvalidInput, match=limit):
        simulate(1, 200, 16, parameters=replace(SMALL, **change))


@pytest.mark.parametrize(("trajectories", "frames", "size"), [(0, 5, 16), (1, 0, 16), (1, 5, 8), (1, 5, 17)])
def test_counts_that_make_no_sequence_are_refused(trajectories: int, frames: int, size: int) -> None:
    with pytest.raises(InvalidInput, match="even size >= 16"):
        simulate(trajectories, frames, size)


@pytest.mark.parametrize("size", [16, 32, 64, 66, 80, 100, 128, 256, 512, 1024])
def test_the_default_parameters_are_accepted_at_every_size(size: int) -> None:
    Parameters.for_size(size).check(size)


def test_a_finer_grid_shows_the_same_field() -> None:
    parameters = Parameters.for_size(16)
    spectrum = noise(16, parameters, 0, 0)
    kept = np.asarray(modes(16, parameters.k0).keep)
    coarse = np.fft.irfft2(spectrum * kept, s=(16, 16))
    fine = np.fft.irfft2(regrid(spectrum * kept, 32), s=(32, 32))
    np.testing.assert_allclose(fine[:, ::2, ::2], coarse, atol=1e-5)


def test_an_unknown_domain_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownDomain, match="plasma_physics"):
        get_domain("weather")
