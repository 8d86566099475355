"""What a call of the compute child used, and how long one may take."""

from __future__ import annotations

from dataclasses import dataclass

from nvp_agentkit.fields.sequence import SMALL_SIDE


@dataclass(frozen=True)
class Cost:
    """What a call used: the child's own CPU-seconds (user + system, all threads), wall seconds, memory."""

    cpu_s: float = 0.0
    wall_s: float = 0.0
    rss_gb: float = 0.0

    def __add__(self, later: Cost) -> Cost:
        return Cost(self.cpu_s + later.cpu_s, self.wall_s + later.wall_s, max(self.rss_gb, later.rss_gb))


def dearer(height: int, width: int) -> int:
    """Times what a cell of large fields takes of a trained network: of small ones it may fold blocks of 2x2."""
    return 2 if min(height, width) < SMALL_SIDE else 1


def patience_s(expected_s: float) -> float:
    """How long work that takes about ``expected_s`` may take before it must be thought to hang."""
    return 10.0 + 20 * expected_s
