"""Gray-Scott against theory: its rest states, the decay of the feed's waves, the order of its step."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from nvp_agentkit.domains import DOMAINS
from nvp_agentkit.domains.reaction_diffusion import Reaction, advance, process, tendency
from nvp_agentkit.domains.stepping import heun
from nvp_agentkit.errors import InvalidInput
from tests.physics.integrate import order

SIZE = 32
REACTION = Reaction.for_size(SIZE)


def test_without_the_autocatalyst_a_wave_of_the_feed_decays_exactly() -> None:
    x = np.arange(SIZE)
    wave = np.cos(2 * np.pi * 3 * x / SIZE)
    state = np.zeros((1, 2, SIZE, SIZE), np.float32)
    state[0, 0] = 1 + 0.1 * wave
    after = advance(REACTION, jnp.asarray(state))
    rate = REACTION.d_u * (2 * np.sin(3 * np.pi / SIZE) / REACTION.cell) ** 2 + REACTION.feed
    step = 1 - rate * REACTION.dt + (rate * REACTION.dt) ** 2 / 2
    decayed = 1 + 0.1 * step**REACTION.frame_steps * wave
    np.testing.assert_allclose(after[0, 0], np.broadcast_to(decayed, (SIZE, SIZE)), atol=1e-6)
    assert np.abs(after[0, 1]).max() == 0


def test_the_rest_state_of_the_reaction_stays() -> None:
    reaction = replace(REACTION, feed=0.03, kill=0.05)
    lost = reaction.feed + reaction.kill
    u = (1 - np.sqrt(1 - 4 * lost**2 / reaction.feed)) / 2
    rest = np.ones((1, 2, SIZE, SIZE), np.float32) * np.float32([u, lost / u])[:, None, None]
    np.testing.assert_allclose(advance(reaction, jnp.asarray(rest)), rest, rtol=1e-4)


def test_the_step_is_of_second_order() -> None:
    slope = partial(tendency, REACTION)
    start = np.asarray(process(SIZE, 0).first(0))
    assert order(lambda state, dt: heun(slope, state, dt), start, 20.0, steps=20) == pytest.approx(2, abs=0.25)


@pytest.mark.parametrize(
    ("change", "limit"),
    [
        ({"dt": 7.0}, r"limit 6.25 = cell\^2"),
        ({"cell": 3.0}, "too wide .* limit 2"),
        ({"feed": -0.1}, "no rate may be negative"),
        ({"feed": 0.05, "kill": 0.2}, "died out"),
    ],
)
def test_parameters_that_do_not_react_are_refused_with_the_limit_they_broke(
    change: dict[str, float], limit: str
) -> None:
    with pytest.raises(InvalidInput, match=limit):
        DOMAINS["reaction_diffusion"].simulate(1, 2, 16, parameters=replace(Reaction.for_size(16), **change))
