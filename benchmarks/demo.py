"""How long a newcomer waits for the first certified answer of ``nvp demo``, and what memory the stack takes.

A fresh data folder with nothing in it (cold), then another with only the first one's compile cache (warm). The
clock starts with the process and stops when the demo says that the certificate is valid.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.process_tree import PeakPss, environment
from benchmarks.verdict import BrokenError, Figure

VALID = "valid:"
SKILL = re.compile(r"skill over the best trivial forecast \([^)]*\) ([+-]\d+\.\d+)")
LONGEST_S, QUICK_S = 600.0, 50.0
QUICK_SHAPE, QUICK_BUDGET_J = (6, 16, 32, 32), 130
LEAST_SKILL = 0.001  # above zero, in the three decimals that are printed
GRACE_S = 15.0
INTERRUPTED = 130


@dataclass(frozen=True)
class Run:
    """One demo: seconds to the certified answer and to the end, peak memory, skill on held-out trajectories."""

    certified_s: float | None
    whole_s: float | None
    pss_gb: float | None
    skill: float | None


def measure(*, quick: bool) -> dict[str, Figure]:
    """Cold, then warm; ``quick`` is a cold run on a small made-up field (its skill says nothing) up to the answer."""
    with tempfile.TemporaryDirectory(prefix="nvp-") as folder:
        cold_dir, warm_dir = Path(folder) / "c", Path(folder) / "w"
        if quick:
            options = ("--data", str(_small_field(Path(folder))), "--budget-j", str(QUICK_BUDGET_J))
            figures = _figures({"cold": play(cold_dir, *options, limit_s=QUICK_S, to_the_end=False)})
            return figures | {"skill": replace(figures["skill"], floor=None)}
        cold = play(cold_dir, limit_s=LONGEST_S)
        shutil.copytree(cold_dir / "compile-cache", warm_dir / "compile-cache")
        shutil.rmtree(cold_dir)
        return _figures({"cold": cold, "warm": play(warm_dir, limit_s=LONGEST_S)})


def _small_field(folder: Path) -> Path:
    """Smooth noise that drifts by one cell a frame."""
    trajectories, frames, height, width = QUICK_SHAPE
    rng = np.random.default_rng(0)
    first = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((trajectories, height, width)))[..., :4], s=(height, width))
    field = np.stack([np.roll(first, step, axis=-1) for step in range(frames)], axis=1)
    path = folder / "field.npz"
    np.savez(path, field=field.astype(np.float32))
    return path


def _figures(runs: dict[str, Run]) -> dict[str, Figure]:
    floors = {"cold": (240.0, None), "warm": (120.0, 60.0)}
    figures = {f"{name}_s": Figure(run.certified_s, "s", *floors[name]) for name, run in runs.items()}
    figures |= {f"{name}_whole_s": Figure(run.whole_s, "s") for name, run in runs.items() if run.whole_s is not None}
    peaks, skills = [run.pss_gb for run in runs.values()], [run.skill for run in runs.values()]
    figures["peak_pss_gb"] = Figure(None if None in peaks else max(peaks), "GB", floor=3.0)  # type: ignore[type-var]
    worst = None if None in skills else min(skills)  # type: ignore[type-var]
    figures["skill"] = Figure(worst, "1", floor=LEAST_SKILL, higher_is_better=True)
    return figures


def play(data_dir: Path, *options: str, limit_s: float, to_the_end: bool = True) -> Run:
    """One ``nvp demo`` on ``data_dir``, its output passed on; interrupted at the certified answer if so wished.

    Raises:
        BrokenError: it failed or took longer than ``limit_s``.
    """
    command = [sys.executable, "-m", "nvp_agentkit.cli", "demo", "--data-dir", str(data_dir), *options]
    data_dir.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    said: list[str] = []
    certified_s = None
    with subprocess.Popen(
        command, cwd=data_dir, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        late = threading.Timer(limit_s, _end, [process])
        late.start()
        try:
            with PeakPss(process.pid) as memory:
                for line in process.stdout or ():
                    print(f"  {time.monotonic() - began:6.1f} s | {line}", end="", flush=True)
                    said.append(line)
                    if certified_s is None and line.strip().startswith(VALID):
                        certified_s = round(time.monotonic() - began, 1)
                        if not to_the_end:
                            process.send_signal(signal.SIGINT)
                status = process.wait(GRACE_S)
        finally:
            late.cancel()
            _end(process)
    whole_s = round(time.monotonic() - began, 1)
    if status not in ((0,) if to_the_end else (0, INTERRUPTED)):
        last = said[-1].strip() if said else "nothing said"
        raise BrokenError(f"nvp demo ended with status {status} after {whole_s} s (limit {limit_s:.0f} s): {last}")
    skill = SKILL.search(" ".join("".join(said).split()))
    pss_gb = None if memory.peak_gb is None else round(memory.peak_gb, 2)
    return Run(certified_s, whole_s if to_the_end else None, pss_gb, float(skill[1]) if skill else None)


def _end(process: subprocess.Popen[str]) -> None:
    """Whatever happened here, nothing of the demo is left running."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
