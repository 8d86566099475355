"""The reference task's equation built from the parts that exponax has for such, in an environment of its own.

Its ETDRK4 with the hyperviscosity as linear part, its Fourier transforms, derivatives and dealiasing; brackets and
coupling in the way of exponax's own vorticity equation. In its arrays x comes before y.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

from benchmarks.verdict import BrokenError
from nvp_agentkit.domains.hasegawa_wakatani import Parameters
from nvp_agentkit.fields.sequence import Floats

PACKAGES = ("exponax==0.2.0", "jax")
LIMIT_S = 300
PROGRAM = """
import sys, time
import equinox as eqx, jax, jax.numpy as jnp, numpy as np
from exponax import BaseStepper, fft, ifft
from exponax.nonlin_fun import BaseNonlinearFun

start, end, rounds, steps = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
alpha, kappa, k0, nu, dt = map(float, sys.argv[5:])

class Brackets(BaseNonlinearFun):
    grad: jax.Array
    inverse_laplacian: jax.Array

    def __init__(self, size, grad):
        super().__init__(2, size, dealiasing_fraction=(size / 3 + 1) / (size / 2))  # it keeps a wave fewer than said
        self.grad = grad
        laplacian = (grad**2).sum(0, keepdims=True)
        self.inverse_laplacian = jnp.where(laplacian == 0, 0, 1 / laplacian)

    def __call__(self, state):
        zeta, n = state[:1], state[1:]
        phi = self.inverse_laplacian * zeta
        stacked = jnp.concatenate([phi, zeta, n])
        by_x, by_y = self.ifft(self.grad[:1] * stacked), self.ifft(self.grad[1:] * stacked)
        brackets = self.fft(by_x[:1] * by_y[1:] - by_y[:1] * by_x[1:])
        coupling = jnp.where(self.grad[1:] != 0, alpha * (phi - n), 0)
        return jnp.concatenate([coupling, coupling - kappa * self.grad[1:] * phi]) - brackets

class HasegawaWakatani(BaseStepper):
    def __init__(self, size):
        super().__init__(2, 2 * np.pi / k0, size, dt, num_channels=2, order=4)

    def _build_linear_operator(self, grad):
        return -nu * (grad**2).sum(0, keepdims=True) ** 2

    def _build_nonlinear_fun(self, grad):
        return Brackets(self.num_points, grad)

given = jnp.asarray(np.load(start))
stepper = HasegawaWakatani(given.shape[-1])

@eqx.filter_jit
def advance(stepper, state):
    return jax.lax.fori_loop(0, steps, lambda _, now: stepper.step_fourier(now), state)

first = fft(given, num_spatial_dims=2)
after = advance(stepper, first).block_until_ready()
np.save(end, ifft(after, num_spatial_dims=2, num_points=given.shape[-1]))
for _ in range(rounds):
    began = time.process_time()
    advance(stepper, first).block_until_ready()
    print(1000 * (time.process_time() - began) / steps)
"""


def exponax(python: Path, folder: Path, fields: Floats, parameters: Parameters, rounds: int) -> tuple[Floats, float]:
    """Fields (zeta, n) (2, size, size) one frame later, and the median CPU-milliseconds of a step."""
    start, end = folder / "start.npy", folder / "end.npy"
    np.save(start, fields.swapaxes(1, 2))
    numbers = (parameters.alpha, parameters.kappa, parameters.k0, parameters.nu, parameters.dt)
    asked = [str(start), str(end), str(rounds), str(parameters.frame_steps), *map(str, numbers)]
    done = subprocess.run(
        [str(python), "-c", PROGRAM, *asked], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    if done.returncode:
        raise BrokenError(f"exponax: {done.stderr.strip().splitlines()[-1]}")
    return np.load(end).swapaxes(1, 2), float(np.median([float(line) for line in done.stdout.split()]))
