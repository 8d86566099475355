"""Asking a store for what follows work that is done: again and again, for the work is not done, nor paid, once more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from nvp_agentkit.errors import NvpError, StoreUnavailable
from nvp_agentkit.streams import AWAY, Delivery

from .system import deadline_of

PAUSE_S, LONGEST_PAUSE_S = 0.5, 4.0  # between two tries
T = TypeVar("T")
log = structlog.get_logger()


async def patiently(delivery: Delivery, ask: Callable[[], Awaitable[T]], *, failed: str) -> T:
    """What ``ask``, of which twice is once, gives as soon as the store is there.

    Given up where nothing could come of it: another worker has the message by now, or its deadline is over, so that it
    is refused when it is delivered again.

    Raises:
        StoreUnavailable, or what `AWAY` names: given up.
    """
    pause_s, until = PAUSE_S, deadline_of(delivery)
    while True:
        try:
            return await ask()
        except (StoreUnavailable, *AWAY) as error:
            hopeless = isinstance(error, NvpError) and not error.retryable
            if hopeless or delivery.lost.is_set() or time.time() > until:
                raise
            log.warning(failed, reason=str(error))
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
