"""Where the product's code gets time and chance from: while a history plays, from the history.

The product asks the modules `time`, `datetime`, `uuid` and `secrets`; in all its modules at once these names are
replaced, and nowhere else.
"""

from __future__ import annotations

import datetime as real_datetime
import logging
import random
import secrets
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import structlog

from benchmarks.simulator.loop import START_S, World


class Clock:
    """The module `time`, of the history that plays now."""

    def __init__(self) -> None:
        self.world = World()

    def time(self) -> float:
        return START_S + self.world.now

    def time_ns(self) -> int:
        return round((START_S + self.world.now) * 1e9)

    def monotonic(self) -> float:
        return self.world.now


class Doors:
    """What the modules stand for inside a history."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.chance = random.Random(0)

    def begin(self, world: World, seed: int) -> None:
        self.clock.world = world
        self.chance.seed(seed)

    def uuid4(self) -> uuid.UUID:
        return uuid.UUID(int=self.chance.getrandbits(128), version=4)

    def token_hex(self, nbytes: int) -> str:
        return f"{self.chance.getrandbits(8 * nbytes):0{2 * nbytes}x}"

    @contextmanager
    def open(self) -> Iterator[None]:
        """Inside, the product's code lives in histories, and logs nothing."""
        doors = self

        class Datetime(real_datetime.datetime):
            @classmethod
            def now(cls, tz: real_datetime.tzinfo | None = None) -> real_datetime.datetime:  # type: ignore[override]
                return real_datetime.datetime.fromtimestamp(doors.clock.time(), tz)

        stand_ins: dict[int, Any] = {
            id(time): self.clock,
            id(real_datetime.datetime): Datetime,
            id(uuid): SimpleNamespace(uuid4=self.uuid4, uuid5=uuid.uuid5, NAMESPACE_URL=uuid.NAMESPACE_URL),
            id(secrets): SimpleNamespace(token_hex=self.token_hex),
        }
        replaced = [
            (module, name, value)
            for module in list(sys.modules.values())
            if (module.__name__ or "").startswith("nvp_agentkit.")
            for name in ("time", "datetime", "uuid", "secrets")
            if id(value := getattr(module, name, None)) in stand_ins
        ]
        disabled, configured = logging.root.manager.disable, structlog.get_config()
        logging.disable(logging.CRITICAL)
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL), cache_logger_on_first_use=False
        )
        for module, name, value in replaced:
            setattr(module, name, stand_ins[id(value)])
        try:
            yield
        finally:
            for module, name, value in replaced:
                setattr(module, name, value)
            logging.disable(disabled)
            structlog.configure(**configured)
