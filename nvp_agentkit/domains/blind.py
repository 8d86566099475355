"""The coarse solver as a forecaster has it: it sees maps of E, and has to guess the state that they show.

1. The nearest analogue: of the states that training trajectories went through, the one before whose maps were most like
   those shown, moved along periodic axes as fits best.
2. What E tells outright is put in (`Solver.shown`): the heat of a plate, the autocatalyst of a reaction. In no domain
   is that the whole state: conductivity and flames, or the feed, stay hidden.
3. The guess is fitted to the shown maps through the coarse solver (4D-Var by `STEPS` of Adam, in standard deviations of
   the training states), values that are no waves kept within what training showed.
4. The forecast is the last map and a ``share`` of the change that the solver tells; the share is fitted on training.

Limits: no analogue is near where many waves are at work (the nearest of 112 pairs of maps missed turbulence by 1.15 of
its spread, more than its mean does), and |grad psi|^2 hides which way around an eddy turns, so that the fit ends in a
valley near its guess, not at the truth. Steps go on lowering the misfit: on turbulence 250 instead of 40 took 6 times
as long and lowered VRMSE by 5 %. Two maps are looked at, however many are shown. A guess that the solver cannot carry
forecasts no change. One number is all the doubt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from nvp_agentkit.domains.coarse import check_factor
from nvp_agentkit.domains.runs import Process, play
from nvp_agentkit.domains.stepping import State
from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields.masking import fill_invalid
from nvp_agentkit.fields.metrics import rmse
from nvp_agentkit.fields.sequence import Floats, Mask

STEPS, RATE = 40, 0.1
FITTED_ON = 2  # training trajectories


class Past(NamedTuple):
    """What training trajectories went through: maps (N, T, H, W), and the coarse states, leaves (N, T, ...)."""

    maps: Floats
    states: State


@dataclass(frozen=True)
class BlindSolver:
    """An equation on cells ``factor`` times as wide that is shown energy alone: a `fields.forecasters.Forecaster`."""

    process: Process
    factor: int
    past: Past
    share: float = 1.0
    sigma: float = 1.0
    context_frames: ClassVar[int] = 2

    @classmethod
    def taught(cls, process: Process, factor: int, trajectories: int, frames: int) -> Self:
        """Taught by the first ``trajectories`` of ``process``; a trajectory is no analogue of itself.

        Raises:
            InvalidInput: fewer than 2 trajectories or 3 frames, or cells that cannot carry the equation.
        """
        check_factor(process, factor, frames, least=cls.context_frames + 1)
        if trajectories < 2:
            raise InvalidField(f"{trajectories} trajectories to learn from; give at least 2")
        coarse, told = process.coarser(factor), play(process, range(trajectories), frames)
        kept = [(coarse.receive(states), maps) for states, maps in told if maps is not None]
        states, maps = zip(*kept, strict=True)
        past = Past(np.stack(maps, 1), jax.tree.map(lambda *each: np.stack(each, 1), *states))
        solver = cls(process, factor, past)
        windows = [(one, solver._windows(one)) for one in range(min(FITTED_ON, trajectories))]
        change = np.concatenate([solver._change(shown, without=one) for one, shown in windows])
        last, came = (np.concatenate([past.maps[one, at] for one, _ in windows]) for at in LAST_AND_NEXT)
        share = float(np.vdot(change, came - last) / max(np.vdot(change, change), np.finfo(np.float32).tiny))
        return replace(solver, share=share, sigma=rmse(last + np.float32(share) * change, came))

    @property
    def name(self) -> str:
        return f"blind_solver_{self.factor}x_wider"

    def predict_next(self, frames: npt.ArrayLike, mask: Mask | None = None) -> tuple[Floats, Floats]:
        """See `fields.forecasters.Forecaster`; a single frame is taken for a field that stood still.

        Raises:
            InvalidField: not (B, K, H, W) on the cells of its training.
        """
        given, grid = np.asarray(frames, np.float32), self.past.maps.shape[2:]
        if given.ndim != 4 or given.shape[1] < 1 or given.shape[2:] != grid:
            raise InvalidField(f"frames have shape {given.shape}; give (B, K, H, W) of {grid} cells")
        there = np.isfinite(given) if mask is None else mask & np.isfinite(given)
        filled = np.stack([fill_invalid(*pair) for pair in zip(np.where(there, given, 0), there, strict=True)])
        shown = np.asarray(filled[:, [max(-2, -filled.shape[1]), -1]], np.float32)
        told = shown[:, -1] + np.float32(self.share) * self._change(shown)
        mean = np.maximum(told, 0) if self.process.meta.positive else told
        return mean, np.full(mean.shape, 2 * np.log(self.sigma), np.float32)

    def _windows(self, trajectory: int) -> Floats:
        """Every pair of maps of a training trajectory that another came after, (T - 2, 2, H, W)."""
        maps = self.past.maps[trajectory]
        return np.stack([maps[:-2], maps[1:-1]], 1)

    def _change(self, shown: Floats, without: int | None = None) -> Floats:
        """What the solver says happens next to the last of ``shown`` (B, 2, H, W)."""
        found = [self._analogue(maps, without) for maps in shown]
        guess = jax.tree.map(lambda leaf: np.stack([leaf[one, at] for one, at, _ in found]), self.past.states)
        moved = np.stack([np.roll(maps, (-y, -x), (1, 2)) for maps, (_, _, (y, x)) in zip(shown, found, strict=True)])
        told = np.asarray(self._solved(guess, moved))
        back = np.stack([np.roll(one, shift, (0, 1)) for one, (_, _, shift) in zip(told, found, strict=True)])
        return np.where(np.isfinite(back).all((1, 2), keepdims=True), back, np.float32(0))

    def _analogue(self, shown: Floats, without: int | None) -> tuple[int, int, tuple[int, int]]:
        """(trajectory, frame, shift): ``shown`` (2, H, W) is most like that frame and the one after it, moved so."""
        spectra, squares = self._known
        pairs = squares.shape[1] - 1
        along = sum(
            np.fft.irfft2(np.fft.rfft2(maps) * spectra[:, at : at + pairs].conj(), s=maps.shape)
            for at, maps in enumerate(shown)
        )
        free = tuple(slice(None if edge == "periodic" else 1) for edge in self.process.meta.boundary)
        distance = (squares[:, :-1] + squares[:, 1:])[..., None, None] - 2 * np.asarray(along)[(..., *free)]
        if without is not None:
            distance[without] = np.inf
        one, at, y, x = (int(place) for place in np.unravel_index(distance.argmin(), distance.shape))
        return one, at, (y, x)

    @cached_property
    def _known(self) -> tuple[npt.NDArray[np.complex64], Floats]:
        """Spectra of all training maps, and their sums of squares."""
        return np.fft.rfft2(self.past.maps).astype(np.complex64), (self.past.maps**2).sum((2, 3))

    @cached_property
    def _solved(self) -> Callable[[State, Floats], jax.Array]:
        """(first guess of the states at the first map, maps (B, 2, H, W)) -> change of E after the last, (B, H, W)."""
        fine, coarse = self.process.solver, self.process.coarser(self.factor)
        spread = jax.tree.map(lambda leaf: np.std(leaf, (0, 1)), self.past.states)

        def within(leaf: jax.Array, past: npt.NDArray[np.float32]) -> jax.Array:
            return leaf if jnp.iscomplexobj(leaf) else jnp.clip(leaf, past.min(), past.max())

        def energy(states: State) -> jax.Array:
            return fine.observe(fine.receive(states))[0]

        def solved(guess: State, shown: jax.Array) -> jax.Array:
            power = jnp.var(shown, (1, 2, 3))

            def states_at(steps: State) -> State:
                moved = jax.tree.map(lambda at, sd, step: at + sd * step, guess, spread, steps)
                return coarse.shown(jax.tree.map(within, moved, self.past.states), shown[:, 0])

            def misfit(steps: State) -> jax.Array:
                states = states_at(steps)
                told = jnp.stack([energy(states), energy(coarse.advance(states))], 1)
                return (((told - shown) ** 2).mean((1, 2, 3)) / power).sum()

            fitted = states_at(_adam(misfit, jax.tree.map(jnp.zeros_like, guess)))
            now = coarse.shown(coarse.advance(fitted), shown[:, -1])
            return energy(coarse.advance(now)) - energy(now)

        return jax.jit(solved)


LAST_AND_NEXT = (slice(1, -1), slice(2, None))


def _adam(misfit: Callable[[State], jax.Array], start: State) -> State:
    """`STEPS` steps down, each leaf by itself; complex leaves by their modulus. Source: Kingma & Ba (2015)."""
    slope = jax.grad(misfit)

    def step(number: jax.Array, state: tuple[State, State, State]) -> tuple[State, State, State]:
        at, mean, square = state
        down = jax.tree.map(jnp.conj, slope(at))
        mean = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, mean, down)
        square = jax.tree.map(lambda old, new: 0.99 * old + 0.01 * jnp.abs(new) ** 2, square, down)
        rate = RATE * jnp.sqrt(1 - 0.99 ** (number + 1)) / (1 - 0.9 ** (number + 1))
        at = jax.tree.map(lambda one, m, s: one - rate * m / (jnp.sqrt(s) + 1e-12), at, mean, square)
        return at, mean, square

    square = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), start)
    fitted: State = jax.lax.fori_loop(0, STEPS, step, (start, start, square))[0]
    return fitted
