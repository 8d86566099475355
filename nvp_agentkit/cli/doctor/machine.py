"""What the machine must be: a Python, a C library and a CPU that the stores and JAX are built for."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from nvp_agentkit.cli.doctor.finding import Finding, broken, ok, warning

PYTHON = (3, 11)
GLIBC = (2, 34)  # what arcadedb-embedded's Java runtime is linked against


def findings() -> Iterator[Finding]:
    yield python(sys.version_info[:3])
    yield system(platform.system(), *platform.libc_ver())
    yield cpu(platform.machine(), _cpu_flags())


def python(version: tuple[int, int, int]) -> Finding:
    text = ".".join(map(str, version))
    if version < PYTHON:
        return broken("python", f"{text}, needed is 3.11", "make PYTHON=python3.12, or any newer one that is installed")
    return ok("python", text)


def system(name: str, libc: str, version: str) -> Finding:
    """``libc`` and its ``version`` as `platform.libc_ver` has them: empty on another C library than glibc."""
    if name != "Linux":
        return warning("system", f"{name}, where nvp has not been tried", "use Linux if something fails")
    elsewhere = "use Debian 12, Ubuntu 22.04 or newer, or name servers elsewhere by NVP_REDIS_URL and NVP_NEO4J_URI"
    if libc != "glibc":
        return broken("system", "Linux without glibc (musl?); the embedded stores need it", elsewhere)
    if _version(version) < GLIBC:
        return broken("system", f"glibc {version}; the embedded graph needs 2.34", elsewhere)
    return ok("system", f"Linux, glibc {version}")


def cpu(machine: str, flags: frozenset[str]) -> Finding:
    """``flags`` as /proc/cpuinfo has them; empty where the system does not say."""
    if machine != "x86_64":
        return warning("cpu", f"{machine}, where nvp has not been tried", "use x86-64 if something fails")
    if flags and "avx" not in flags:
        return broken("cpu", "no AVX; JAX needs it", "use another machine, or a virtual one that passes its CPU on")
    return ok("cpu", "x86_64" + (" with AVX" if flags else ""))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def _cpu_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())
