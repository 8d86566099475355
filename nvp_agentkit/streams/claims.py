"""One id, one entry: of a request that was published twice, the first entry is worked on and no other."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from redis.asyncio import Redis

from nvp_agentkit.streams import names
from nvp_agentkit.streams.completion import REPLY_TTL_S
from nvp_agentkit.streams.delivery import Delivery
from nvp_agentkit.streams.scripts import call_many

WITHOUT_DEADLINE_S = 3600.0


async def repeats(redis: Redis, deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Those whose id belongs to another entry: the first that anybody claimed, in any stream and group.

    Clients publish twice when the answer to their XADD is lost, and an agent may do so to have work done that is
    charged once. A claim outlives its request's deadline by as long as replies are kept.
    """
    by_account: dict[str, list[Delivery]] = defaultdict(list)
    for delivery in deliveries:
        by_account[delivery.account].append(delivery)
    results = await call_many(redis, "claim", [_call(account, some) for account, some in by_account.items()])
    found = []
    for some, mine in zip(by_account.values(), results, strict=True):
        if isinstance(mine, Exception):
            raise mine
        found += [delivery for delivery, first in zip(some, mine, strict=True) if not first]
    return found


def _call(account: str, deliveries: Sequence[Delivery]) -> tuple[list[str], list[str | bytes | int]]:
    args: list[str | bytes | int] = []
    for delivery in deliveries:
        left_s = delivery.remaining_s if math.isfinite(delivery.remaining_s) else WITHOUT_DEADLINE_S
        args += [f"{delivery.stream} {delivery.entry_id}", math.ceil(max(left_s, 0)) + REPLY_TTL_S]
    return [names.claim(account, delivery.request_id) for delivery in deliveries], args
