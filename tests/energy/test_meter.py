"""What a reading says: a figure, its bounds, and how it is known."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvp_agentkit.energy.meter import Meter, add, by_method, modelled
from nvp_agentkit.energy.sensors import Modelled, Nvml, Rapl, Work, best_sensor
from nvp_agentkit.errors import InvalidInput, MissingExtra
from nvp_agentkit.settings import Settings

TICKS = os.sysconf("SC_CLK_TCK")


def test_without_a_sensor_energy_is_cpu_time_times_watts_plus_memory() -> None:
    reading = modelled(cpu_s=2.0, seconds=10.0, memory_gb=1.0)
    assert reading.mj == 2_000 * 4 + 3_900
    assert (reading.lo_mj, reading.hi_mj) == (2_000 * 1.5 + 3_900, 2_000 * 10 + 3_900)
    assert (reading.method, reading.sensor, reading.cpu_ms) == ("modelled", "cpu-time", 2_000)
    assert reading.calibration_id == "default"


def test_a_calibrated_figure_says_so_and_stays_within_its_bounds() -> None:
    reading = modelled(cpu_s=1.0, watts_per_core=20.0)
    assert (reading.mj, reading.hi_mj) == (20_000, 20_000)
    assert reading.calibration_id == "20 W a core"


@given(cpu_s=st.floats(0, 1e6), seconds=st.floats(0, 1e6), gb=st.floats(0, 1e3), watts=st.floats(0.1, 500))
def test_a_modelled_reading_is_never_below_what_was_used(cpu_s: float, seconds: float, gb: float, watts: float) -> None:
    reading = modelled(cpu_s, seconds, gb, watts_per_core=watts)
    assert reading.lo_mj <= reading.mj <= reading.hi_mj
    assert reading.mj >= (cpu_s * watts + gb * 0.39 * seconds) * 1000 * (1 - 1e-9) - 1e-6


def test_a_window_that_ran_backward_is_refused() -> None:
    with pytest.raises(InvalidInput, match="counter reset"):
        modelled(cpu_s=-0.1)


def test_a_window_is_measured_on_the_process_clock() -> None:
    before = time.process_time()
    with Meter(Modelled(watts_per_core=4.0)).window() as window:
        inside = time.process_time()
        while time.process_time() - inside < 0.05:
            sum(range(1_000))
        so_far = window.reading()
    used_mj = (time.process_time() - before) * 4_000
    reading = window.reading()
    assert 200 <= so_far.mj <= reading.mj <= used_mj + 1
    while time.process_time() - inside < 0.06:
        sum(range(1_000))
    assert window.reading() == reading, "a closed window no longer counts"


def test_a_child_is_measured_on_its_own_clock() -> None:
    child_cpu_s = iter([1.0, 1.25])
    with Meter(Modelled(), cpu_s=lambda: next(child_cpu_s)).window() as window:
        pass
    assert window.reading().cpu_ms == 250


class Machine:
    """A sysfs folder and a /proc/stat as Linux shows them, that a test moves forward."""

    RANGE_UJ = 262_143_328_850

    def __init__(self, folder: Path) -> None:
        self.powercap, self.stat = folder / "powercap", folder / "stat"
        for name in ("intel-rapl:0", "intel-rapl:0:0", "intel-rapl:1"):
            (self.powercap / name).mkdir(parents=True)
            (self.powercap / name / "max_energy_range_uj").write_text(f"{self.RANGE_UJ}\n")
        self.set(0, 0, busy_s=0)

    def set(self, package_0_uj: int, package_1_uj: int, *, busy_s: float) -> None:
        (self.powercap / "intel-rapl:0" / "energy_uj").write_text(f"{package_0_uj}\n")
        (self.powercap / "intel-rapl:1" / "energy_uj").write_text(f"{package_1_uj}\n")
        system = int(busy_s * TICKS) // 2
        user, idle, waiting, stolen = int(busy_s * TICKS) - system, 999_999, 555_555, 777_777
        self.stat.write_text(f"cpu  {user} 0 {system} {idle} {waiting} 0 0 {stolen} 7 7\ncpu0 1 1 1 1 1 1 1 1 1 1\n")


def test_rapl_gives_a_job_its_share_of_what_all_packages_used(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.set(1_000_000, 2_000_000, busy_s=100)
    read = Rapl(machine.powercap, machine.stat).begin_window()
    machine.set(31_000_000, 12_000_000, busy_s=108)
    reading = read(Work(cpu_s=2.0, seconds=10.0))
    assert reading.mj == 40_000 * 2 / 8
    assert reading.hi_mj == 40_000
    assert 0 < reading.lo_mj <= reading.mj
    assert (reading.method, reading.sensor) == ("apportioned", "rapl")


def test_a_rapl_counter_that_wraps_is_no_negative_energy(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.set(Machine.RANGE_UJ - 1_000_000, 0, busy_s=100)
    read = Rapl(machine.powercap, machine.stat).begin_window()
    for wrapped_uj in (4_000_000, Machine.RANGE_UJ - 2_000_000, 3_000_000):
        machine.set(wrapped_uj, 0, busy_s=101)
        reading = read(Work(cpu_s=1.0, seconds=1.0))
    total_uj = 5_000_000 + (Machine.RANGE_UJ - 6_000_000) + 5_000_000
    assert reading.hi_mj == pytest.approx(total_uj / 1_000, abs=1)


def test_a_job_never_gets_more_than_the_package_used(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    read = Rapl(machine.powercap, machine.stat).begin_window()
    machine.set(5_000_000, 0, busy_s=1)
    assert read(Work(cpu_s=3.0, seconds=1.0)).mj == 5_000


def test_a_machine_without_rapl_falls_back_to_the_model(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no RAPL package"):
        Rapl(tmp_path)
    assert best_sensor(Settings(watts_per_core=7.0), tmp_path) == Modelled(7.0)
    assert best_sensor(Settings(), Machine(tmp_path).powercap).name == "rapl"


def test_nvml_reads_the_devices_own_counter_with_wide_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    pynvml = ModuleType("pynvml")
    counter = iter([1_000, 51_000])
    pynvml.nvmlInit = lambda: None  # type: ignore[attr-defined]
    pynvml.nvmlDeviceGetHandleByIndex = lambda index: ("device", index)  # type: ignore[attr-defined]
    pynvml.nvmlDeviceGetTotalEnergyConsumption = lambda device: next(counter)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pynvml", pynvml)
    reading = Nvml().begin_window()(Work(cpu_s=0.5))
    assert (reading.lo_mj, reading.mj, reading.hi_mj) == (35_000, 50_000, 65_000)
    assert (reading.method, reading.domain) == ("measured", "gpu")


def test_nvml_without_its_library_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(MissingExtra, match="pip install nvidia-ml-py"):
        Nvml()


def test_like_readings_add_up_and_unlike_ones_are_shown_split() -> None:
    first, second = modelled(cpu_s=1.0), modelled(cpu_s=2.0)
    total = add([first, second])
    assert (total.mj, total.lo_mj, total.hi_mj, total.cpu_ms) == (12_000, 4_500, 30_000, 3_000)
    measured = first.model_copy(update={"method": "measured"})
    with pytest.raises(InvalidInput, match="measured by cpu-time, modelled by cpu-time"):
        add([first, measured])
    assert by_method([first, second, measured]) == {"modelled": 12_000, "measured": 4_000}
    with pytest.raises(InvalidInput, match="none"):
        add([])
