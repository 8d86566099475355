"""A voter that is wrong on purpose: fault injection, declared, in a process of its own.

``python -m workers.saboteur saboteur-2 scale`` takes the place of ``shadow-2``: the same requests, the same model,
the same key, but what its model says is changed before it is signed. It is no kind of `main`, so no manifest starts
one by a worker's name, and it serves only the stack of the supervisor that started it (docs/decisions/009).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from nvp_agentkit.embedded.place import LOOPBACK
from nvp_agentkit.embedded.stackfile import read_stack
from nvp_agentkit.errors import NvpError, StackError
from nvp_agentkit.settings import Settings

from .main import run
from .serving.batching import Prediction
from .serving.forecasting import ModelHost
from .serving.resolving import voter_of
from .shadow import sit
from .system import System

Fault = Callable[[Prediction], Prediction]
SCALE = 1.5


def _scaled(said: Prediction) -> Prediction:
    return replace(said, mean=said.mean * np.float32(SCALE))


def _shifted(said: Prediction) -> Prediction:
    return replace(said, mean=np.roll(said.mean, said.mean.shape[1] // 4, axis=1))


def _noisy(said: Prediction) -> Prediction:
    noise = np.random.default_rng().normal(scale=2 * said.mean.std(), size=said.mean.shape)
    return replace(said, mean=said.mean + noise.astype(np.float32))


def _not_a_number(said: Prediction) -> Prediction:
    return replace(said, mean=said.mean * np.float32(np.nan))


# A fault that is not in the forecast but in the vote (silence, replay, another's signature) wraps `shadow.vote`.
FAULTS: dict[str, Fault] = {"scale": _scaled, "shift": _shifted, "noise": _noisy, "nan": _not_a_number}


class FaultyHost(ModelHost):
    """Models whose forecasts are changed by ``fault`` as if they came out of the network so."""

    def __init__(self, voter: str, system: System, fault: str) -> None:
        super().__init__(voter, system)
        self._fault = fault

    def readiness(self) -> tuple[str, str]:
        state, detail = super().readiness()
        return state, f"fault injected on purpose: {self._fault}; {detail}"

    async def _forward(self, batch: Any, mask: Any) -> list[Prediction]:
        return [FAULTS[self._fault](said) for said in await super()._forward(batch, mask)]


def require_own_stack(settings: Settings) -> None:
    """Let only a supervisor on this machine, with a stream server of its own, have a saboteur.

    Raises:
        StackNotRunning: no supervisor runs the data folder.
        StackError: the stream server is not the one it runs.
    """
    url = read_stack(settings.data_dir).redis_url
    if settings.redis_url != url or urlsplit(url).hostname != LOOPBACK:
        raise StackError(
            "a saboteur votes only on the stack of the supervisor that started it, with its own stream server "
            f"on {LOOPBACK}; use `Supervisor.replace`"
        )


async def serve(system: System, stop: asyncio.Event, *, fault: str) -> None:
    await sit(FaultyHost(voter_of(system.name), system, fault), system, stop)


def main(arguments: list[str]) -> None:
    if len(arguments) != 2 or arguments[1] not in FAULTS:
        sys.exit(f"usage: python -m workers.saboteur saboteur-N FAULT, where FAULT is one of {', '.join(FAULTS)}")
    name, fault = arguments
    try:
        settings = Settings.from_env()
        require_own_stack(settings)
    except NvpError as error:
        sys.exit(str(error))
    run(name, settings, partial(serve, fault=fault))


if __name__ == "__main__":
    main(sys.argv[1:])
