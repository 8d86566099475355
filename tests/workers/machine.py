"""A virtual machine for what counts CPU-seconds: idle or busy, and the same each time."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from nvp_agentkit.workers.compute import spending


@dataclass
class Machine:
    """A process on it holds 300 MB; a CPU-second takes ``slowness`` seconds."""

    slowness: float = 1.0
    cpu_s: float = 0.0

    def burn(self, cpu_s: float) -> None:
        self.cpu_s += cpu_s


@pytest.fixture(params=[1.0, 4.0], ids=["idle", "busy"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Whose clocks a `Spending` reads."""
    made = Machine(request.param)
    clocks = SimpleNamespace(monotonic=lambda: made.slowness * made.cpu_s)
    rusage = SimpleNamespace(
        RUSAGE_SELF=0, getrusage=lambda who: SimpleNamespace(ru_utime=made.cpu_s, ru_stime=0.0, ru_maxrss=300_000)
    )
    monkeypatch.setattr(spending, "time", clocks)
    monkeypatch.setattr(spending, "resource", rusage)
    return made
