"""What other processes have used so far, as the kernel tells it (proc(5)); where there is no /proc nobody tells."""

from __future__ import annotations

import os
from pathlib import Path


def cpu_s_of(pid: int) -> float | None:
    """CPU-seconds of process ``pid``, user and system, all threads; None where nobody tells."""
    fields = _fields(pid)
    return None if fields is None else (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_s_beside(leader: int) -> float:
    """CPU-seconds so far of the other processes in the session that ``leader`` began, such as its compute child.

    For a leader that is about to be killed: nobody waits for its orphans, so no getrusage will ever tell.
    """
    others = [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if entry.name != str(leader)]
    return sum(cpu_s_of(pid) or 0.0 for pid in others if (fields := _fields(pid)) and int(fields[3]) == leader)


def peak_gb_of(pid: int) -> float:
    """The most memory process ``pid`` ever held; 0 where nobody tells."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((1024 * int(line.split()[1]) / 1e9 for line in lines if line.startswith("VmHWM:")), 0.0)


def _fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third on: state, parent, group, session, ..."""
    try:
        # The command's name stands in parentheses and may hold anything, so count from behind it.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
