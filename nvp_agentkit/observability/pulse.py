"""How a worker is, as its event loop last said and as whoever watches from another thread sees it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

TICK_S = 0.25
STUCK_S = 3.0  # a loop that stood still for so long serves nobody
DEAD_S = 10.0  # and for so long, it has lost its place: its heartbeat is forgotten


@dataclass
class Pulse:
    """How a worker is: written by its event loop, read by the thread that answers.

    `state` and `detail` are the heartbeat's. ``word_s`` is how long the stream server remembers a heartbeat.
    """

    word_s: float = DEAD_S
    state: str = "starting"
    detail: str = ""
    _taken_at: float = float("-inf")
    _ticked_at: float = field(default_factory=time.monotonic)

    def says(self, state: str, detail: str) -> None:
        """The state from now on, whether or not anybody can be told."""
        self.state, self.detail = state, detail

    def taken(self) -> None:
        """The stream server has just taken the word."""
        self._taken_at = time.monotonic()

    @property
    def stuck_s(self) -> float:
        """How long the event loop has not turned."""
        return max(0.0, time.monotonic() - self._ticked_at - TICK_S)

    async def keep_ticking(self) -> None:
        """For ever; to be cancelled."""
        while True:
            self._ticked_at = time.monotonic()
            await asyncio.sleep(TICK_S)

    def why_not_live(self) -> str:
        """Empty while the event loop turns."""
        return "" if self.stuck_s < DEAD_S else f"the event loop has stood still for {self.stuck_s:.0f} s"

    def why_not_ready(self) -> str:
        """Empty while the worker is ready, the stream server knows it, and the event loop turns."""
        if self.stuck_s >= STUCK_S:
            return f"the event loop has stood still for {self.stuck_s:.0f} s"
        if self.state != "ready":
            return f"{self.state} {self.detail}".strip()
        if (silent_s := time.monotonic() - self._taken_at) > self.word_s:
            return f"the stream server has not taken a heartbeat for {silent_s:.0f} s"
        return ""
