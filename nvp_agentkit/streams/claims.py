"""One id, one entry: of a request that was published twice, the first entry is worked on and no other."""

from __future__ import annotations

import math
from collections.abc import Sequence

from redis.asyncio import Redis

from nvp_agentkit.streams import names
from nvp_agentkit.streams.completion import REPLY_TTL_S
from nvp_agentkit.streams.delivery import Delivery

WITHOUT_DEADLINE_S = 3600.0


async def claim(redis: Redis, deliveries: Sequence[Delivery]) -> list[bool]:
    """Whether each delivery is the one that its id belongs to: the first that anybody claimed, in any stream and group.

    Clients publish twice when the answer to their XADD is lost, and an agent may do so to have work done that is
    charged once. A claim outlives its request's deadline by as long as replies are kept.
    """
    pipe = redis.pipeline(transaction=False)
    for delivery in deliveries:
        key, entry = names.claim(delivery.account, delivery.request_id), f"{delivery.stream} {delivery.entry_id}"
        left_s = delivery.remaining_s if math.isfinite(delivery.remaining_s) else WITHOUT_DEADLINE_S
        pipe.set(key, entry, nx=True, ex=math.ceil(max(left_s, 0)) + REPLY_TTL_S)
        pipe.get(key)
    owners = (await pipe.execute())[1::2] if deliveries else []
    return [
        owner == f"{delivery.stream} {delivery.entry_id}".encode()
        for delivery, owner in zip(deliveries, owners, strict=True)
    ]
