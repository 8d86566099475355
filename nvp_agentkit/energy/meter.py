"""Windows of work and what they used, in the vocabulary of Zeus: `begin_window`, `reading`."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from nvp_agentkit.energy.sensors import WATTS_PER_CORE, Modelled, Sensor, Work
from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.messages.values import Reading


class Window:
    """Work that is being measured; ask `reading` as often as you like."""

    def __init__(self, sensor: Sensor, cpu_s: Callable[[], float]) -> None:
        self._cpu_s = cpu_s
        self._from_cpu_s = cpu_s()
        self._from_s = time.monotonic()
        self._read = sensor.begin_window()
        self._closed: Reading | None = None

    def reading(self, memory_gb: float = 0.0) -> Reading:
        """Energy since the window began; once it has ended, what it used until then."""
        if self._closed is not None:
            return self._closed
        return self._read(Work(self._cpu_s() - self._from_cpu_s, time.monotonic() - self._from_s, memory_gb))

    def end(self) -> Reading:
        """Close the window."""
        self._closed = self.reading()
        return self._closed


class Meter:
    """Measures windows with one sensor.

    ``cpu_s`` is the clock of the work's own CPU-seconds: this process's by default (0.9 us a call), or a child's.
    One computation at a time inside a window, or joules are charged twice.
    """

    def __init__(self, sensor: Sensor, cpu_s: Callable[[], float] = time.process_time) -> None:
        self.sensor = sensor
        self._cpu_s = cpu_s

    def begin_window(self) -> Window:
        """Start measuring."""
        return Window(self.sensor, self._cpu_s)

    @contextmanager
    def window(self) -> Iterator[Window]:
        """``with meter.window() as window: ...``; `window.reading()` afterwards is what the block used."""
        window = self.begin_window()
        try:
            yield window
        finally:
            window.end()


def modelled(
    cpu_s: float, seconds: float = 0.0, memory_gb: float = 0.0, *, watts_per_core: float = WATTS_PER_CORE
) -> Reading:
    """The reading of work whose CPU-seconds are known (a child's rusage): an estimate, with its band."""
    return Modelled(watts_per_core).reading(Work(cpu_s, seconds, memory_gb))


def by_method(readings: Iterable[Reading]) -> dict[str, int]:
    """Millijoules split by how they are known: the only honest total of unlike readings."""
    totals: dict[str, int] = defaultdict(int)
    for reading in readings:
        totals[reading.method] += reading.mj
    return dict(totals)


def add(readings: Iterable[Reading]) -> Reading:
    """The sum of readings that are known in the same way; bounds add up.

    Raises:
        InvalidInput: none, or unlike ones (another method, sensor, domain or calibration): use `by_method`.
    """
    listed = list(readings)
    kinds = {(r.method, r.sensor, r.domain, r.calibration_id) for r in listed}
    if len(kinds) != 1:
        known = ", ".join(sorted(f"{method} by {sensor}" for method, sensor, *_ in kinds)) or "none"
        raise InvalidInput(f"readings to add must be of one kind, these are: {known}; show them split by method")
    return listed[0].model_copy(
        update={
            name: sum(getattr(reading, name) for reading in listed) for name in ("mj", "lo_mj", "hi_mj", "cpu_ms")
        }
    )
