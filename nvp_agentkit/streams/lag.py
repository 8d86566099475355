"""How far behind the readers of the streams are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from redis.asyncio import Redis

from nvp_agentkit.streams import names
from nvp_agentkit.streams.accounts import known
from nvp_agentkit.streams.scripts import call_many


@dataclass(frozen=True)
class Lag:
    """One group on one account's stream: entries that wait for it, and that its workers have in hand.

    `oldest_s` is the age of the oldest entry of the stream: what is done with by all groups is deleted, so everything
    before it has been done (the watermark). `dead` are the stream's dead letters; `read` counts the entries that
    were ever delivered, 0 where the server does not count them (Redis 6.2).
    """

    account: str
    suffix: str
    group: str
    waiting: int
    pending: int
    oldest_s: float
    dead: int
    read: int


async def lags(redis: Redis, suffixes: Collection[str] = tuple(names.GROUPS)) -> list[Lag]:
    """Of all groups on these streams of every account."""
    places = [(account, suffix) for account in await known(redis) for suffix in suffixes]
    streams = [names.key(*place) for place in places]
    results = await call_many(redis, "lag", [([stream, names.dead(stream)], []) for stream in streams])
    found = []
    for (account, suffix), result in zip(places, results, strict=True):
        if isinstance(result, Exception):
            continue  # no stream: its workers say so
        age_ms, dead, *groups = result
        for group, waiting, pending, read in groups:
            found.append(Lag(account, suffix, group.decode(), waiting, pending, age_ms / 1000, dead, read))
    return found
