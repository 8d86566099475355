"""What is to happen when a message is done, and the one atomic step in which it happens."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from redis.asyncio import Redis

from nvp_agentkit.messages import Event
from nvp_agentkit.messages.checks import MAX_DEADLINE_S
from nvp_agentkit.streams import names
from nvp_agentkit.streams.delivery import Delivery
from nvp_agentkit.streams.scripts import Call, call_many

REPLY_TTL_S = 3600
AT_ONCE = 100  # entries a call: the server does nothing else meanwhile


class Completion(NamedTuple):
    """The effects of one finished message, all under its account.

    Attributes:
        replies: answers; one per (request, type) is kept, a second one is dropped.
        facts: events for the lineage stream.
        forwards: (stream suffix, event), such as ``("votes", vote)``.
        fields: (hash suffix, field, value). A suffix with a colon belongs to one request and expires with it.
        dated: (hash suffix, field, a JSON object), added to the list at that field with ``since_ms``, the first
            millisecond of the server's clock after this; the newest 32 stay.
        once: a name such as ``decided:REQUEST_ID``: of all completions with this name the first one has its
            effects, the others only acknowledge. Remembered as long as replies are kept, counted from ``until``
            where that is later.
        removals: (suffix of a sorted set, member) that is done with.
        unset: (hash suffix, field, value) that is done with, unless the field holds another value by now.
        fence: (work, its fence), as `fences.begin` gave it: once another attempt has begun that work, be it for another
            job, nothing happens at all. A job that names no work is its own: then this is the request's id.
    """

    replies: tuple[Event, ...] = ()
    facts: tuple[Event, ...] = ()
    forwards: tuple[tuple[str, Event], ...] = ()
    fields: tuple[tuple[str, str, str], ...] = ()
    dated: tuple[tuple[str, str, str], ...] = ()
    once: str = ""
    until: datetime | None = None
    removals: tuple[tuple[str, str], ...] = ()
    unset: tuple[tuple[str, str, str], ...] = ()
    fence: tuple[str, int] | None = None


class Settlement(NamedTuple):
    """A completion of one entry; with ``dead`` the entry goes to the dead letters for that reason, after ``attempts``.

    Not ``fenced``: the entry is no longer anybody's, there is only something to say about it. ``delivery``: where it
    could be read, for the log.
    """

    account: str
    stream: str
    entry_id: str
    completion: Completion
    dead: str = ""
    fenced: bool = True
    attempts: int = 1
    delivery: Delivery | None = None

    @property
    def ids(self) -> dict[str, str]:
        """For the log, as far as they are known."""
        return {"account": self.account} if self.delivery is None else self.delivery.ids


async def complete(
    redis: Redis, settlement: Settlement, *, group: str, consumer: str, reply_ttl_s: int = REPLY_TTL_S
) -> bool:
    """Let the effects happen and the entry be done: everything, exactly once, or nothing.

    Returns:
        False when the entry is not pending for this consumer: the lease was lost (or the entry is done
        already), or another attempt has begun since, and nothing has happened.
    """
    (result,) = await settle(redis, group, consumer, [settlement], reply_ttl_s=reply_ttl_s)
    if isinstance(result, Exception):
        raise result
    return bool(result)


async def settle(
    redis: Redis, group: str, consumer: str, settlements: Sequence[Settlement], *, reply_ttl_s: int = REPLY_TTL_S
) -> list[Any]:
    """`complete` for many entries in one round trip. Each result is 1, 0 or an exception."""
    together: dict[bool, list[int]] = defaultdict(list)
    for place, one in enumerate(settlements):
        together[one.fenced].append(place)
    calls = [places[i : i + AT_ONCE] for places in together.values() for i in range(0, len(places), AT_ONCE)]
    answers = await call_many(redis, "complete", [
        _call([settlements[place] for place in places], group, consumer, reply_ttl_s) for places in calls
    ])  # fmt: skip
    results: list[Any] = [None] * len(settlements)
    for places, answer in zip(calls, answers, strict=True):
        each = [answer] * len(places) if isinstance(answer, Exception) else answer
        for place, result in zip(places, each, strict=True):
            results[place] = result
    return results


async def emit(redis: Redis, account: str, completion: Completion, *, reply_ttl_s: int = REPLY_TTL_S) -> None:
    """The effects of ``completion`` with no entry behind them, such as a decision that a deadline forces."""
    effects = Settlement(account, names.replies(account), "0-0", completion, fenced=False)
    await complete(redis, effects, group="", consumer="", reply_ttl_s=reply_ttl_s)


def _call(done: Sequence[Settlement], group: str, consumer: str, ttl_s: int) -> Call:
    """One call for settlements all of which are fenced, or none."""
    keys: list[str] = []
    args: list[str | bytes | int] = [group, consumer if done[0].fenced else "", ttl_s, time.time_ns() // 1_000_000]
    for one in done:
        of_keys, of_args = _effects(one, ttl_s)
        keys += [one.stream, names.dead(one.stream), *of_keys]
        args += [one.entry_id, len(of_keys), len(of_args), *of_args]
    return keys, args


def _effects(done: Settlement, ttl_s: int) -> tuple[list[str], list[str | bytes | int]]:
    account, completion = done.account, done.completion
    keys: list[str] = []
    args: list[str | bytes | int] = []
    if completion.fence is not None:
        work, fence = completion.fence
        keys.append(names.attempts(account, work))
        args += ["fence", fence]
    if done.dead:
        args += ["dead", done.dead, done.attempts]
    if completion.once:
        keys.append(names.key(account, completion.once))
        left_s = 0 if completion.until is None else math.ceil(completion.until.timestamp() - time.time())
        args += ["once", ttl_s + min(max(left_s, 0), round(MAX_DEADLINE_S))]  # what is later has been refused
    for reply in completion.replies:
        request = reply.replyto
        if request is None:
            raise ValueError(f"reply {reply.type} {reply.id} does not say what it answers; set its `replyto`")
        keys += [names.answers(account, request), names.replies(account)]
        args += ["reply", request, reply.type, reply.encode()]
    for suffix, event in (*(("lineage", fact) for fact in completion.facts), *completion.forwards):
        keys.append(names.key(account, suffix))
        args += ["append", int(names.lasts(suffix)), event.encode()]
    for suffix, field, value in completion.fields:
        keys.append(names.key(account, suffix))
        args += ["set", int(names.lasts(suffix)), field, value]
    for suffix, field, value in completion.dated:
        keys.append(names.key(account, suffix))
        args += ["dated", field, value]
    for suffix, member in completion.removals:
        keys.append(names.key(account, suffix))
        args += ["remove", member]
    for suffix, field, value in completion.unset:
        keys.append(names.key(account, suffix))
        args += ["unset", field, value]
    return keys, args
