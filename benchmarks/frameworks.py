"""Task frameworks at the consumer's work, in an environment of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from benchmarks.throwaway import kept_environment
from benchmarks.verdict import ROOT

PINS = Path(__file__).with_name("frameworks.txt")
NAMES = ("faststream", "faststream_batch", "taskiq", "arq", "docket")
PACKAGES = ("faststream", "taskiq", "taskiq-redis", "arq", "pydocket")
LIMIT_S = 60


class Worked(NamedTuple):
    """Messages a second, and CPU of the client a message in microseconds."""

    hz: float
    client_us: float


def work(name: str, url: str, events: int) -> Worked | None:
    """Have the framework of that name publish so many requests and work on them all, on an empty server.

    None where it does not come to its end, which is said.
    """
    python = kept_environment("frameworks", *PACKAGES, pins=PINS)
    asked = [str(python), "-W", "ignore", "-m", "benchmarks.framework_workers", name, url, str(events)]
    alone = {"PATH": os.defpath, "PYTHONPATH": str(ROOT)}
    try:
        done = subprocess.run(
            asked, cwd=ROOT, env=alone, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        print(f"{name}: {events} messages took more than {LIMIT_S} s", file=sys.stderr)
        return None
    if done.returncode:
        print(f"{name}: {(done.stderr.strip() or 'ended').splitlines()[-1]}", file=sys.stderr)
        return None
    return Worked(**json.loads(done.stdout.splitlines()[-1]))
