"""Sequences of the Gray-Scott reaction: an autocatalyst v eats a feed u and decays; its spots crawl, grow and divide.

    d u / dt = D_u lap u - u v^2 + F (1 - u)
    d v / dt = D_v lap v + u v^2 - (F + k) v

u and v are concentrations over that of the feed, D_u and D_v diffusivities, F the feed rate, k the kill rate; one
unit of length is a cell of a 64x64 grid, one of time makes the feed's rate constant 1. State: (u, v) on a periodic
grid, (N, 2, size, size) float32. Energy density: E = v, whose decay is the reaction's heat; it is fed and drained,
conservation "open". From 64 cells a side up a larger grid is a larger dish, not a finer one.

Good values: `Reaction`'s own make spots that never rest; F = 0.029, k = 0.057 a maze that freezes. Method: five-point
differences, Heun's rule, float32. Failure modes: dt above cell^2 / (4 D), cells so wide that spots stick to them
(both refused); spots that die out, as most do in a dish of 32 and with many other F and k (refused: a map of one
value).
Source: Gray & Scott, Chem. Eng. Sci. 39, 1087 (1984); Pearson, Science 261, 189 (1993).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from nvp_agentkit.domains import cells
from nvp_agentkit.domains.runs import Process, Solver
from nvp_agentkit.domains.stepping import heun, march
from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.fields.sequence import FieldMeta, Floats

WIDEST_CELL = 2.0  # measured: spots, 8 wide, crawl on cells of 2 and stand still on cells of 2.5
LEAST_DISH = 64  # measured: of 64 runs none died within 100 frames; in a dish of 32, nine in ten
LEAST_SPREAD = 1e-3  # of v over a map
SETTLE = 20  # frames
DROPS, DROP_CELLS = 12, 6  # squares of v in a first state of 64x64 cells, and how wide


@dataclass(frozen=True)
class Reaction:
    """Physics and numbers.

    Attributes:
        feed: F.
        kill: k.
        d_u: diffusivity of the feed.
        d_v: diffusivity of the autocatalyst.
        dt: time step.
        frame_steps: steps between delivered frames.
        cell: width of a cell.
    """

    feed: float = 0.014
    kill: float = 0.054
    d_u: float = 0.16
    d_v: float = 0.08
    dt: float = 1.0
    frame_steps: int = 40
    cell: float = 1.0

    @staticmethod
    def for_size(size: int) -> Reaction:
        """Wider cells below 64. Spaced for a persistence VRMSE near 0.35 at 64."""
        return Reaction(cell=min(WIDEST_CELL, max(1.0, LEAST_DISH / size)))

    def check(self) -> None:
        """Refuse what Heun's rule cannot carry, naming the limit."""
        if min(self.feed, self.kill, self.d_u, self.d_v) < 0 or min(self.dt, self.cell) <= 0 or self.frame_steps < 1:
            raise InvalidInput(f"{self}: no rate may be negative, and dt, cell and frame_steps must be above 0")
        if self.cell > WIDEST_CELL:
            raise InvalidInput(
                f"cell={self.cell:g} is too wide for a spot to move, limit {WIDEST_CELL:g}; refine the grid"
            )
        fastest = max(self.d_u, self.d_v)
        if 4 * fastest * self.dt > self.cell**2:
            raise InvalidInput(
                f"dt={self.dt:g} is unstable for a diffusivity of {fastest:g}: limit "
                f"{self.cell**2 / (4 * fastest):.3g} = cell^2 / (4 D); shorten dt"
            )


def process(size: int, seed: int, parameters: Reaction | None = None) -> Process:
    """Trajectories of ``seed`` differ in where the first drops fall; ``parameters`` default to `Reaction.for_size`."""
    reaction = parameters or Reaction.for_size(size)
    solved = solver(size, reaction)
    return Process(
        first=partial(_first, size, seed),
        spin_up=((solved, SETTLE),),
        solver=solved,
        coarser=lambda factor: solver(size // factor, replace(reaction, cell=reaction.cell * factor)),
        meta=_meta(reaction, seed),
    )


def solver(size: int, reaction: Reaction) -> Solver:
    """Frames ``frame_steps`` steps apart.

    Raises:
        InvalidInput: see `Reaction.check`.
    """
    reaction.check()
    return Solver(
        size,
        advance=partial(advance, reaction),
        observe=observe,
        check=partial(_check_alive, reaction),
        receive=partial(cells.regrid, size=size),
        shown=lambda states, maps: jnp.asarray(states).at[:, 1].set(cells.regrid(maps, size)),
    )


def laplacian(field: jax.Array, cell: float) -> jax.Array:
    """Five-point, periodic, over the last two axes."""
    around = sum(jnp.roll(field, shift, axis) for axis in (-2, -1) for shift in (1, -1))
    return (around - 4 * field) / cell**2


def tendency(reaction: Reaction, state: jax.Array, _later: float) -> jax.Array:
    """Right-hand side for one trajectory: (2, size, size) -> same."""
    u, v = state
    spread_u, spread_v = laplacian(state, reaction.cell)
    eaten = u * v**2
    u_t = reaction.d_u * spread_u - eaten + reaction.feed * (1 - u)
    v_t = reaction.d_v * spread_v + eaten - (reaction.feed + reaction.kill) * v
    return jnp.stack([u_t, v_t])


@partial(jax.jit, static_argnames="reaction")
def advance(reaction: Reaction, states: jax.Array) -> jax.Array:
    """``frame_steps`` steps of all trajectories, (N, 2, size, size) -> same."""
    slope = partial(tendency, reaction)
    return march(lambda state: heun(slope, state, reaction.dt), states, reaction.frame_steps)


@jax.jit
def observe(states: jax.Array) -> tuple[jax.Array, jax.Array]:
    """v, (N, size, size), and the least spread of it over a map."""
    v = states[:, 1]
    return v, jnp.min(jnp.max(v, (1, 2)) - jnp.min(v, (1, 2)))


def _check_alive(reaction: Reaction, spread: float) -> None:
    if not spread > LEAST_SPREAD:
        raise InvalidInput(
            f"feed={reaction.feed}, kill={reaction.kill}: v varies by {spread:.2g} over a map, limit {LEAST_SPREAD}: "
            f"it died out or filled the dish; take feed 0.014, kill 0.054 and a dish of {LEAST_DISH} or more"
        )


def _first(size: int, seed: int, trajectory: int) -> Floats:
    """Drops of v in a sea of u = 1, and a little noise."""
    rng = np.random.default_rng([seed, trajectory])
    state = np.stack([np.ones((size, size), np.float32), 0.01 * rng.random((size, size), np.float32)])
    for y, x in rng.integers(0, size, (max(1, DROPS * size**2 // 64**2), 2)):
        rows, columns = (np.arange(at, at + DROP_CELLS) % size for at in (y, x))
        state[:, rows[:, None], columns] = [[[0.5]], [[0.25]]]
    return state


def _meta(reaction: Reaction, seed: int) -> FieldMeta:
    return FieldMeta(
        domain="reaction_diffusion",
        units="1",
        dt_s=reaction.dt * reaction.frame_steps,
        dx_m=reaction.cell,
        boundary=("periodic", "periodic"),
        positive=True,
        provenance={
            "equation": "Gray-Scott",
            "time_unit": "as in Pearson 1993",
            "length_unit": "cell of a 64x64 grid",
            "seed": seed,
            "parameters": asdict(reaction),
        },
    )
