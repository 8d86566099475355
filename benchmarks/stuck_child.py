"""A compute child whose forecasts and simulations get stuck first, as their request says: ``hold-10``, ``busy-60``...

``hold`` keeps the interpreter's lock, ``busy`` computes without a word (as XLA does while it compiles), ``hang`` does
nothing, for ever. What it did it writes down in the stack's folder, for whoever counts: `Line`. All else is the child.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

from nvp_agentkit.settings import TETHERED_TO
from nvp_agentkit.workers.compute import child
from nvp_agentkit.workers.compute.call import Call, Operation

PARAMETER = {"forecast_trivially": "name", "simulate": "variant"}  # which says how to get stuck
TICK_S = 0.01


class Line(NamedTuple):
    """``what`` was it asked to do, and how long no other thread got a word in; None: it only begins."""

    operation: str
    what: str
    pid: int
    silent_s: float | None

    @classmethod
    def all_of(cls, folder: Path) -> list[Self]:
        written = (folder / "stuck").read_text().splitlines() if (folder / "stuck").exists() else []
        rows = [line.split() for line in written]
        return [cls(row[0], row[1], int(row[2]), None if row[3] == "-" else float(row[3])) for row in rows]

    def write(self) -> None:
        silent = "-" if self.silent_s is None else f"{self.silent_s:.3f}"
        with (Path(os.environ[TETHERED_TO]) / "stuck").open("a") as book:
            book.write(f"{self.operation} {self.what} {self.pid} {silent}\n")


class Ticking:
    """A thread that wants to run every `TICK_S` while inside; `longest_s` is how long it could not."""

    def __enter__(self) -> Self:
        self.longest_s, self._over = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _tick(self) -> None:
        last = time.monotonic()
        while not self._over.wait(TICK_S):
            now = time.monotonic()
            self.longest_s, last = max(self.longest_s, now - last), now
        self.longest_s = max(self.longest_s, time.monotonic() - last)


def hold(seconds: int) -> None:
    ctypes.PyDLL(None).sleep(seconds)  # unlike CDLL, does not let go of the lock around the call


def busy(seconds: int) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(10_000))


def hang(_: int) -> None:
    threading.Event().wait()


WAYS = {"hold": hold, "busy": busy, "hang": hang}


def stuck_first(name: str, operation: Operation) -> Operation:
    """``operation``, but first what the request says."""

    def run(call: Call) -> tuple[dict[str, Any], Any]:
        what = str(call.params[PARAMETER[name]])
        way, _, seconds = what.partition("-")
        if way in WAYS:
            Line(name, what, os.getpid(), None).write()
            with Ticking() as ticking:
                WAYS[way](int(seconds))
            Line(name, what, os.getpid(), ticking.longest_s).write()
            call.params[PARAMETER[name]] = None
        return operation(call)

    return run


if __name__ == "__main__":
    from nvp_agentkit.workers.compute.operations import OPERATIONS

    operations = cast("dict[str, Operation]", OPERATIONS)
    for name in PARAMETER:
        operations[name] = stuck_first(name, operations[name])
    child.main(sys.argv[1:])
