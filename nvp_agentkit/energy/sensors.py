"""Where joules come from: a counter of the machine, or a model of it. All errors are on the high side.

A sensor is not the truth: RAPL counts a whole package, NVML on A100/H100 samples about a quarter of the run time
(SC24). So every reading has bounds, and they are wide.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nvp_agentkit import plugins
from nvp_agentkit.errors import InvalidInput, MissingExtra
from nvp_agentkit.messages.values import Reading
from nvp_agentkit.settings import Settings

WATTS_PER_CORE = 4.0  # energy.md: default of the model where no sensor is ...
CORE_BAND_W = (1.5, 10.0)  # ... and the band that encloses measured machines
WATTS_PER_GB = 0.39  # DRAM, idle and refresh included
NVML_BAND = 0.30  # relative; part-time sampling was off by up to this on A100/H100 (SC24)

POWERCAP = Path("/sys/class/powercap")
PROC_STAT = Path("/proc/stat")


@dataclass(frozen=True)
class Work:
    """What a job itself used in a window: CPU-seconds (all threads), wall seconds, memory held."""

    cpu_s: float
    seconds: float = 0.0
    memory_gb: float = 0.0

    def __post_init__(self) -> None:
        if min(self.cpu_s, self.seconds, self.memory_gb) < 0:
            raise InvalidInput(f"{self}: a window cannot use less than nothing; was a counter reset?")


ReadWindow = Callable[[Work], Reading]


class Sensor(Protocol):
    """A source of readings."""

    @property
    def name(self) -> str: ...

    def begin_window(self) -> ReadWindow:
        """Start counting. What is returned tells the energy since now, as often as it is asked."""
        ...


@dataclass(frozen=True)
class Modelled:
    """No sensor: E = CPU-seconds x watts_per_core + GB x 0.39 W x seconds. Bounds: 1.5 to 10 W a core."""

    watts_per_core: float = WATTS_PER_CORE
    name: str = "cpu-time"

    def begin_window(self) -> ReadWindow:
        return self.reading

    def reading(self, work: Work) -> Reading:
        memory_j = work.memory_gb * WATTS_PER_GB * work.seconds
        lo_w, hi_w = min(CORE_BAND_W[0], self.watts_per_core), max(CORE_BAND_W[1], self.watts_per_core)
        default = self.watts_per_core == WATTS_PER_CORE
        return Reading(
            mj=_up(work.cpu_s * self.watts_per_core + memory_j),
            lo_mj=math.floor((work.cpu_s * lo_w + memory_j) * 1000),
            hi_mj=_up(work.cpu_s * hi_w + memory_j),
            method="modelled",
            sensor=self.name,
            calibration_id="default" if default else f"{self.watts_per_core:g} W a core",
            cpu_ms=round(work.cpu_s * 1000),
        )


class Rapl:
    """The CPU package's own counter, times the job's share of the CPU time that the machine spent meanwhile.

    Bounds: at least the job's share of all cores' time, at most everything the package used. The counter wraps
    (at 262 kJ: after 44 minutes at 100 W), so a window must be read more often than that.
    """

    name = "rapl"

    def __init__(self, powercap: Path = POWERCAP, stat: Path = PROC_STAT) -> None:
        # intel-rapl:N are packages (on AMD as well); intel-rapl:N:M are parts of them.
        self._packages = sorted(path for path in powercap.glob("intel-rapl:*") if path.name.count(":") == 1)
        self._stat = stat
        self._cores = os.cpu_count() or 1
        if not self._packages:
            raise FileNotFoundError(f"no RAPL package under {powercap}")
        self._ranges = [int((path / "max_energy_range_uj").read_text()) for path in self._packages]
        self._counters()

    def begin_window(self) -> ReadWindow:
        last = self._counters()
        busy = self._busy_s()
        total_uj = 0

        def reading(work: Work) -> Reading:
            nonlocal last, total_uj
            now = self._counters()
            total_uj += sum((b - a) % span for a, b, span in zip(last, now, self._ranges, strict=True))
            last = now
            return self._reading(total_uj / 1e6, self._busy_s() - busy, work)

        return reading

    def _reading(self, package_j: float, busy_s: float, work: Work) -> Reading:
        share = min(work.cpu_s / max(busy_s, work.cpu_s, 1e-9), 1.0)
        least = min(work.cpu_s / max(work.seconds * self._cores, work.cpu_s, 1e-9), share)
        return Reading(
            mj=_up(package_j * share),
            lo_mj=math.floor(package_j * least * 1000),
            hi_mj=_up(package_j),
            method="apportioned",
            sensor=self.name,
            cpu_ms=round(work.cpu_s * 1000),
        )

    def _counters(self) -> list[int]:
        return [int((path / "energy_uj").read_text()) for path in self._packages]

    def _busy_s(self) -> float:
        user, nice, system, _idle, _iowait, irq, softirq = map(int, self._stat.read_text().split()[1:8])
        return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


class Nvml:
    """The energy counter of one NVIDIA device. One computation at a time on it, or joules are charged twice."""

    name = "nvml"

    def __init__(self, index: int = 0) -> None:
        try:
            import pynvml  # type: ignore[import-not-found, unused-ignore]
        except ImportError as error:
            raise MissingExtra("pynvml is not installed; pip install nvidia-ml-py") from error
        pynvml.nvmlInit()
        self._nvml: Any = pynvml
        self._device = pynvml.nvmlDeviceGetHandleByIndex(index)

    def begin_window(self) -> ReadWindow:
        start = self._counter_mj()

        def reading(work: Work) -> Reading:
            mj = self._counter_mj() - start
            return Reading(
                mj=mj,
                lo_mj=math.floor(mj * (1 - NVML_BAND)),
                hi_mj=math.ceil(mj * (1 + NVML_BAND)),
                method="measured",
                sensor=self.name,
                domain="gpu",
                cpu_ms=round(work.cpu_s * 1000),
            )

        return reading

    def _counter_mj(self) -> int:
        return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._device))


def best_sensor(settings: Settings, powercap: Path = POWERCAP) -> Sensor:
    """RAPL where this process may read it, else the model of CPU time. A GPU's counter is named outright (`Nvml`)."""
    try:
        return Rapl(powercap)
    except (OSError, ValueError):  # no such counter, or readable by root alone
        return Modelled(settings.watts_per_core)


def named_sensor(settings: Settings) -> Sensor:
    """The one that ``NVP_SENSOR`` names.

    Raises:
        UnknownName: it is none of ours, and no package here brings it.
        PluginFailed: the package's is no sensor.
        OSError, MissingExtra: this machine has no such counter, or not for this process.
    """
    match settings.sensor:
        case "modelled":
            return Modelled(settings.watts_per_core)
        case "best":
            return best_sensor(settings)
        case "rapl":
            return Rapl()
        case "nvml":
            return Nvml()
        case name:
            return Foreign(plugins.load(plugins.SENSORS, name), settings)


class Foreign:
    """A package's sensor, whose faults are called its own."""

    def __init__(self, plugin: plugins.Plugin, settings: Settings) -> None:
        self.name = plugin.name
        self._plugin = plugin
        with plugin.doing("it makes no sensor"):
            self._sensor = plugin.thing(settings)

    def begin_window(self) -> ReadWindow:
        with self._plugin.doing("begin_window"):
            read = self._sensor.begin_window()

        def reading(work: Work) -> Reading:
            with self._plugin.doing("reading"):
                found = read(work)
            if not isinstance(found, Reading):
                raise self._plugin.failed(f"it read {found!r:.60}, no Reading")
            return found

        return reading


def _up(energy_j: float) -> int:
    """Whole millijoules, rounded up: what was used is never charged as less."""
    return math.ceil(round(energy_j * 1000, 6))
