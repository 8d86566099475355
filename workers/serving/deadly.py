"""Models that the compute child died of: each death costs all accounts what was loaded, so they are left alone."""

from __future__ import annotations

import time
from dataclasses import dataclass

from nvp_agentkit.errors import NotReady

from .room import Key

TELLING = 2  # deaths in a row after which a model is said to be what the child died of; one may be chance
FIRST_S = 2.0  # a child that died of something else is tried again soon
LONGEST_S = 300.0


@dataclass(frozen=True)
class Deaths:
    """How often the child died of a model in a row, of what, and until when nobody loads it (`time.monotonic`)."""

    times: int
    reason: str
    until: float

    @property
    def told(self) -> str:
        """What the child dies of, in words; empty where that may be chance."""
        if self.times < TELLING:
            return ""
        return f"the compute child ended {self.times} times in a row while loading it: {self.reason}"


class Deadly:
    """What each account has that the child died of; one that loads is none any more."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, Key], Deaths] = {}

    def died(self, account: str, key: Key, reason: str, now: float) -> Deaths:
        """It did once more: left alone for twice as long as the last time."""
        self._found = {one: had for one, had in self._found.items() if now < had.until + LONGEST_S}
        had = self._found.get((account, key))
        times = 1 if had is None else had.times + 1
        pause_s = min(FIRST_S * 2.0 ** min(times - 1, 32), LONGEST_S)
        found = self._found[account, key] = Deaths(times, reason, now + pause_s)
        return found

    def of(self, account: str, key: Key | None) -> Deaths | None:
        return None if key is None else self._found.get((account, key))

    def refuse(self, account: str, key: Key) -> None:
        """
        Raises:
            NotReady: the child dies of it, and it is left alone.
        """
        had = self.of(account, key)
        if had is not None and had.told and (left_s := had.until - time.monotonic()) > 0:
            what = f"{key[0]} for {' x '.join(map(str, key[1]))}"
            remedy = "ask for another shape, train it anew, or wait"
            refused = NotReady(f"{what} is left alone for {left_s:.0f} s: {had.told}; {remedy}")
            refused.retry_after_s = left_s
            raise refused

    def loaded(self, account: str, key: Key) -> None:
        self._found.pop((account, key), None)
