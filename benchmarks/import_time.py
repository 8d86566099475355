"""What ``import nvp_agentkit.client`` costs beside importing redis.asyncio, pydantic and numpy.

Each import runs in a fresh process, in turn with the others, and takes its own wall time; the figures are medians.
The client leaves numpy to whoever has a field. So there is a second comparison, of what an agent with a field has
loaded: with numpy on both sides, and with pydantic's `BaseModel`, which ``import pydantic`` alone does not load.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from benchmarks.verdict import ROOT, BrokenError, Figure

PROGRAM = """
import time
began = time.perf_counter()
{imports}
took = time.perf_counter() - began
import sys
print(took, sum(name in sys.modules for name in {heavy!r}))
"""
HEAVY = ("jax", "flax", "optax", "neo4j", "obstore", "safetensors", "matplotlib", "cryptography.hazmat")
IMPORTS = {
    "bare": "import redis.asyncio, pydantic, numpy",
    "client": "import nvp_agentkit.client",
    "bare_in_use": "import redis.asyncio, numpy\nfrom pydantic import BaseModel",
    "client_in_use": "import nvp_agentkit.client, numpy",
}
ROUNDS, QUICK_ROUNDS = 31, 3


def measure(*, quick: bool) -> dict[str, Figure]:
    """Medians over the rounds, after one that fills the caches."""
    took: dict[str, list[float]] = {name: [] for name in IMPORTS}
    heavy = 0
    for number in range(1 + (QUICK_ROUNDS if quick else ROUNDS)):
        for name, imports in IMPORTS.items():
            seconds, loaded = _once(imports)
            if number:
                took[name].append(seconds)
            if name == "client":
                heavy = max(heavy, loaded)
    median = {name: statistics.median(seconds) for name, seconds in took.items()}
    return {
        "ratio": Figure(round(median["client"] / median["bare"], 3), "x", floor=1.3),
        "ratio_in_use": Figure(round(median["client_in_use"] / median["bare_in_use"], 3), "x"),
        "client_ms": Figure(round(1000 * median["client"], 1), "ms"),
        "bare_ms": Figure(round(1000 * median["bare"], 1), "ms"),
        "heavy_modules": Figure(heavy, "modules", floor=0),
    }


def _once(imports: str) -> tuple[float, int]:
    program = PROGRAM.format(imports=imports, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BrokenError(f"{imports!r} fails: {done.stderr.strip().splitlines()[-1]}")
    seconds, loaded = done.stdout.split()
    return float(seconds), int(loaded)
