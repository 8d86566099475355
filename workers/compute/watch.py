"""What another process has used so far, as the kernel tells it: the front's own look at its child."""

from __future__ import annotations

import os
from pathlib import Path

EVERY_S = 0.05  # between two looks; a tick of the kernel's clock is 0.01 s


def cpu_s_of(pid: int) -> float | None:
    """CPU-seconds of process ``pid``, user and system, all threads (proc(5)); None where nobody tells."""
    try:
        # The command's name stands in parentheses and may hold anything, so count from behind it.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_gb_of(pid: int) -> float:
    """The most memory process ``pid`` ever held; 0 where nobody tells."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((1024 * int(line.split()[1]) / 1e9 for line in lines if line.startswith("VmHWM:")), 0.0)
