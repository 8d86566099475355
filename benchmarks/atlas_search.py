"""The nearest 10 of 100,000 descriptors of 64 float32: one core, all of them looked at, against measuring each one."""

from __future__ import annotations

import statistics
import time

import numpy as np

from benchmarks import one_core
from benchmarks.verdict import BrokenError, Figure
from nvp_agentkit.client.nearest import Descriptors

KNOWN, SIZE, NEAREST = 100_000, 64, 10
QUESTIONS, QUICK_QUESTIONS = 100, 20
FAMILIES = 50  # datasets come in families, whose members are so near each other that rounding could mix them up


def measure(*, quick: bool) -> dict[str, Figure]:
    """Medians over the questions; half of them are descriptors that are known."""
    one_core.pin()
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(FAMILIES, SIZE))
    known = (centres[rng.integers(FAMILIES, size=KNOWN)] + 0.05 * rng.normal(size=(KNOWN, SIZE))).astype(np.float32)
    asked = np.concatenate([known[: QUESTIONS // 2], rng.normal(size=(QUESTIONS // 2, SIZE)).astype(np.float32)])
    began = time.perf_counter()
    descriptors = Descriptors(known)
    prepared_ms = 1000 * (time.perf_counter() - began)
    took_ms, equal = [], 0
    questions = asked[:: QUESTIONS // QUICK_QUESTIONS] if quick else asked
    for one in questions:
        began = time.perf_counter()
        found = descriptors.nearest(one, NEAREST)
        took_ms.append(1000 * (time.perf_counter() - began))
        equal += bool((found.places == _by_measuring(known, one)).all())
    if equal < len(questions):
        raise BrokenError(f"{len(questions) - equal} of {len(questions)} answers differ from measuring each one")
    return {
        "p50_ms": Figure(round(statistics.median(took_ms), 2), "ms", floor=10),
        "max_ms": Figure(round(max(took_ms), 2), "ms"),
        "equal_to_brute_force": Figure(equal / len(questions), "share", floor=1, higher_is_better=True),
        "preparing_ms": Figure(round(prepared_ms, 1), "ms"),
    }


def _by_measuring(known: np.ndarray, one: np.ndarray) -> np.ndarray:
    distances = np.linalg.norm(known.astype(np.float64) - one, axis=1)
    return np.lexsort((np.arange(len(known)), distances))[:NEAREST]
