"""One id, one entry: of a request that was published twice, the first entry is worked on and no other."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from pydantic_core import to_json
from redis.asyncio import Redis

from nvp_agentkit.messages import TYPES, Event, Payload, decode
from nvp_agentkit.messages.checks import MAX_DEADLINE_S
from nvp_agentkit.streams import names
from nvp_agentkit.streams.completion import REPLY_TTL_S
from nvp_agentkit.streams.delivery import Delivery
from nvp_agentkit.streams.scripts import Call, call

WITHOUT_DEADLINE_S = 3600.0
SAME, OURS, BEYOND = 0, 1, 3  # of what claim.lua says


class Claimed(NamedTuple):
    """What of a batch is not worked on.

    Attributes:
        repeats: those whose id belongs to another entry, and whether they ask the same as that one.
        beyond: those after which too many wait.
    """

    repeats: list[tuple[Delivery, bool]]
    beyond: set[Delivery]


async def claim(
    redis: Redis,
    group: str,
    deliveries: Sequence[Delivery],
    accepts: Collection[type[Payload]] = (),
    *,
    most_waiting: float = math.inf,
) -> Claimed:
    """Claim the ids of a batch, as it was read, for its entries. One round trip.

    An id belongs to the first entry that anybody claimed it for, in any stream and group. Clients publish twice when
    the answer to their XADD is lost, and an agent may do so to have work done that is charged once. A claim outlives
    its request's deadline by as long as replies are kept. What is replayed from the dead letters claims for the entry
    it first came as. What is of no kind that the stream takes claims nothing: it may yet come where it belongs.

    The server counts what came after an entry at that same moment, so no number of workers finds one ``beyond`` that
    is among the newest ``most_waiting``. What was begun once is not: it is not refused for what came after it.
    """
    if not deliveries:
        return Claimed([], set())
    says = await call(redis, "claim", *_claims(group, deliveries, accepts, most_waiting))
    said = list(zip(deliveries, says, strict=True))
    return Claimed(
        [(one, what == SAME) for one, what in said if what not in (OURS, BEYOND)],
        {one for one, what in said if what == BEYOND and not one.tried_before},
    )


def outlives_s(delivery: Delivery, now: float) -> int:
    """How long what is remembered of a request is kept: its deadline, and as long as replies are after it."""
    left_s = delivery.ends - now if delivery.ends < math.inf else WITHOUT_DEADLINE_S
    return math.ceil(min(max(left_s, 0), MAX_DEADLINE_S)) + REPLY_TTL_S  # what is later will be refused


def _claims(
    group: str, deliveries: Sequence[Delivery], accepts: Collection[type[Payload]], most_waiting: float
) -> Call:
    now = time.time()
    keys: list[str] = []
    args: list[str | bytes | int] = [group, 0 if most_waiting == math.inf else int(most_waiting)]
    for one in deliveries:
        keys += [one.stream, names.claim(one.account, one.request_id)]
        kind = TYPES.get(one.event.type)
        misplaced = kind is not None and accepts and kind not in accepts
        args += [one.entry_id, one.origin, _asks(one.event), 0 if misplaced else outlives_s(one, now)]
    return keys, args


async def claimed_for_another(redis: Redis, account: str, event: Event) -> bool:
    """Whether the id of ``event`` belongs to a request that asks something else; False while nobody has claimed it."""
    claim: Any = await redis.get(names.claim(account, event.id))
    return claim is not None and claim.decode().rpartition(" ")[2] != _asks(decode(event.encode()))


def _asks(event: Event) -> str:
    """A digest of what is asked, whenever and until when."""
    asked = hashlib.sha1(b'{"type":' + to_json(event.type) + b',"data":', usedforsecurity=False)
    asked.update(to_json(event.data, inf_nan_mode="null") + b"}")
    return asked.hexdigest()
