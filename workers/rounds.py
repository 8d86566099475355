"""What a worker does again and again beside its messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress


async def every(seconds: float, stop: asyncio.Event) -> AsyncIterator[None]:
    """Now, and once more after each ``seconds``, until ``stop``."""
    while not stop.is_set():
        yield
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)
