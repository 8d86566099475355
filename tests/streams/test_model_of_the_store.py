"""The store that histories are played against answers as a real server does: the same calls, answer by answer."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from benchmarks.simulator.client import ModelRedis
from benchmarks.simulator.scripts import Scripts
from benchmarks.simulator.store import Store
from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.errors import NvpError
from nvp_agentkit.messages import Event, PredictionAbstained, new_event
from nvp_agentkit.streams import Completion, names
from nvp_agentkit.streams.completion import Settlement, settle
from nvp_agentkit.streams.scripts import call

ENTRY = re.compile(rb"\d{13}-\d+")
STEPS = 400
PAIRS = ("XGROUP", "XINFO")
REPLY = new_event(PredictionAbstained(request_id="r", reason="no"), source="worker", replyto="r")
Step = Callable[["Side"], Awaitable[Any]]


class Direct:
    """A link without a world: every call arrives at once."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def ask(self, commands: list[tuple[bytes, ...]]) -> list[Any]:
        return [self._one(words) for words in commands]

    def _one(self, words: tuple[bytes, ...]) -> Any:
        try:
            return self._store.execute(words[0], words[1:])
        except RedisError as error:
            return error


class Side:
    """One of the two stores, and the entries it has told of, in the order in which it did."""

    def __init__(self, redis: Redis, account: str) -> None:
        self.redis, self.account, self.ledger = redis, account, Ledger(redis)
        self.entries: list[bytes] = [b"0-1"]

    def key(self, suffix: str) -> str:
        return names.key(self.account, suffix)

    def entry(self, place: int) -> str:
        return self.entries[place % len(self.entries)].decode()

    def two_entries(self, place: int) -> list[str]:
        return [self.entry(place), self.entry(place + 1)]

    async def answer(self, step: Step) -> Any:
        try:
            return self._plain(await step(self))
        except (RedisError, NvpError) as error:
            return f"{type(error).__name__}: {str(error).split()[0]}"

    def _plain(self, told: Any) -> Any:
        """Without what no two stores share: ids become their places, idle times are left out."""
        if isinstance(told, bytes):
            return ENTRY.sub(self._place, told)
        if isinstance(told, dict):
            left_out = ("time_since_delivered", "idle", "inactive")
            return {self._plain(key): self._plain(value) for key, value in told.items() if key not in left_out}
        if isinstance(told, list | tuple):
            return [self._plain(one) for one in told]
        return told

    def _place(self, found: re.Match[bytes]) -> bytes:
        if found[0] not in self.entries:
            self.entries.append(found[0])
        return b"entry %d" % self.entries.index(found[0])


def steps(chance: random.Random) -> Iterator[tuple[str, Step]]:
    """Calls as the product makes them, and as it might, in an order that nobody thought of."""
    while True:
        one, stream = chance.randrange(12), f"s{chance.randrange(2)}"
        group, consumer, other = (f"g{chance.randrange(2)}", *(f"c{chance.randrange(3)}" for _ in range(2)))
        field, number, flag = f"f{chance.randrange(3)}", chance.randrange(1, 60), chance.random() < 0.5
        yield chance.choice([
            *_on_streams(one, stream, group, consumer, other, number, flag),
            *_on_keys(field, number, flag),
            *_functions(one, stream, group, consumer, number, flag),
            *_joules(field, number, flag, chance.choice("ab")),
        ])  # fmt: skip


def _on_streams(
    one: int, stream: str, group: str, consumer: str, other: str, number: int, flag: bool
) -> list[tuple[str, Step]]:
    claim: dict[str, Any] = {"justid": True, "idle": number, "retrycount": number} if flag else {}
    never = 10**9 if number % 3 == 0 else 0
    return [
        ("xadd", lambda s: s.redis.xadd(s.key(stream), {"event": str(number)})),
        ("xadd", lambda s: s.redis.xadd(s.key(stream), {"event": str(number), "more": "x"})),
        ("create", lambda s: s.redis.xgroup_create(s.key(stream), group, id="0" if flag else "$", mkstream=number > 9)),
        ("read", lambda s: s.redis.xreadgroup(group, consumer, {s.key(stream): ">"}, count=1 + number % 3)),
        ("read both", lambda s: s.redis.xreadgroup(group, consumer, {s.key("s0"): ">", s.key("s1"): ">"}, count=2)),
        ("xread", lambda s: s.redis.xread({s.key(stream): s.entry(one)}, count=2)),
        ("ack", lambda s: s.redis.xack(s.key(stream), group, s.entry(one))),
        ("del", lambda s: s.redis.xdel(s.key(stream), s.entry(one))),
        ("range", lambda s: s.redis.xrange(s.key(stream), count=number % 4 or None)),
        ("range of one", lambda s: s.redis.xrange(s.key(stream), s.entry(one), s.entry(one))),
        ("revrange", lambda s: s.redis.xrevrange(s.key(stream), count=1)),
        ("len", lambda s: s.redis.xlen(s.key(stream))),
        ("pending", lambda s: s.redis.xpending(s.key(stream), group)),
        ("pendings", lambda s: s.redis.xpending_range(s.key(stream), group, "-", "+", 3, idle=never)),
        ("mine", lambda s: s.redis.xpending_range(s.key(stream), group, s.entry(one), s.entry(one), 1, consumer)),
        ("claim", lambda s: s.redis.xclaim(s.key(stream), group, other, never, s.two_entries(one), **claim)),
        ("trim", lambda s: s.redis.xtrim(s.key(stream), minid=s.entry(one), approximate=False)),
        ("groups", lambda s: _some(s.redis.xinfo_groups(s.key(stream)), ("name", "pending", "last-delivered-id"))),
        ("consumers", lambda s: _holders(s.redis.xinfo_consumers(s.key(stream), group))),
        ("leave", lambda s: s.redis.xgroup_delconsumer(s.key(stream), group, consumer)),
        ("destroy", lambda s: s.redis.xgroup_destroy(s.key(stream if number > 50 else "s2"), group)),
    ]  # fmt: skip


async def _some(told: Awaitable[list[dict[str, Any]]], fields: tuple[str, ...]) -> list[Any]:
    return [{name: one[name] for name in fields} for one in await told]


async def _holders(told: Awaitable[list[dict[str, Any]]]) -> dict[bytes, int]:
    """Whether XCLAIM makes a consumer that gets nothing is another thing on each release."""
    return {one["name"]: one["pending"] for one in await told if one["pending"]}


def _on_keys(field: str, number: int, flag: bool) -> list[tuple[str, Step]]:
    key = f"{field}:1"
    return [
        ("set", lambda s: s.redis.set(s.key(key), str(number), nx=flag, ex=100)),
        ("get", lambda s: s.redis.get(s.key(key))),
        ("exists", lambda s: s.redis.exists(s.key(key), s.key("h:1"))),
        ("expire", lambda s: s.redis.expire(s.key(key), 200)),
        ("persist", lambda s: s.redis.persist(s.key(key))),
        ("ttl", lambda s: s.redis.ttl(s.key(key))),
        ("delete", lambda s: s.redis.delete(s.key(key))),
        ("hset", lambda s: s.redis.hset(s.key("h:1"), mapping={field: str(number), "n": str(number)})),
        ("hsetnx", lambda s: s.redis.hsetnx(s.key("h:1"), field, str(number))),
        ("hgets", lambda s: s.redis.hmget(s.key("h:1"), [field, "n"])),
        ("hget", lambda s: s.redis.hget(s.key("s0" if number == 1 else "h:1"), field)),
        ("hgetall", lambda s: s.redis.hgetall(s.key("h:1"))),
        ("hkeys", lambda s: s.redis.hkeys(s.key("h:1"))),
        ("hexists", lambda s: s.redis.hexists(s.key("h:1"), field)),
        ("hdel", lambda s: s.redis.hdel(s.key("h:1"), field)),
        ("hincrby", lambda s: s.redis.hincrby(s.key("h:1"), "count", number - 30)),
        ("zadd", lambda s: s.redis.zadd(s.key("z:1"), {field: number}, nx=flag)),
        ("zrem", lambda s: s.redis.zrem(s.key("z:1"), field)),
        ("zrange", lambda s: s.redis.zrange(s.key("z:1"), 0, -1)),
        ("zrangebyscore", lambda s: s.redis.zrangebyscore(s.key("z:1"), "-inf", number)),
    ]


def _functions(one: int, stream: str, group: str, consumer: str, number: int, flag: bool) -> list[tuple[str, Step]]:
    done = Completion(
        replies=(REPLY,) if flag else (),
        facts=(_fact(number),),
        forwards=(("votes", REPLY),),
        fields=(("models", "a", str(number)),),
        once=f"decided:{number % 5}" if number % 2 else "",
        removals=(("z:1", "f0"),),
        unset=(("models", "a", str(number if number % 2 else 0)),) if number % 3 == 0 else (),
    )

    def settled(side: Side) -> Awaitable[Any]:
        dead = "no use" if number % 7 == 0 else ""
        return settle(
            side.redis, group, consumer, [Settlement(side.account, side.key(stream), side.entry(one), done, dead)]
        )

    def on(name: str, *args: Any, entry: bool = True) -> tuple[str, Step]:
        def step(side: Side) -> Awaitable[Any]:
            keys, head = [side.key(stream)], [group, consumer]
            if name == "claim":
                keys, head = [*keys, side.key("asked:1")], [group, number % 3, side.entry(one)]
            if name == "read":
                keys = [side.key("s0"), side.key("s1")]
            if name == "release":
                keys.append(names.given_back(keys[0], group, side.entry(one)))
            if name == "reclaim":
                keys.append(names.given_back(keys[0], group))
            return call(side.redis, name, keys, [*head, *([side.entry(one)] if entry else []), *args])

        return name, step

    return [
        *([("complete", settled)] * 4),
        on("claim", number % 2, 100), on("renew"), on("release", number, number, 100 * flag),
        on("reclaim", 0, 2, 2, *(1, "0-1") * (number % 2), entry=False), on("tidy", 3_600_000, entry=False),
        on("read", 1 + number % 3, entry=False),
    ]  # fmt: skip


def _fact(number: int) -> Event:
    return REPLY.model_copy(update={"id": f"fact {number}"})


def _joules(name: str, number: int, flag: bool, part: str) -> list[tuple[str, Step]]:
    begin = {"part": part} if flag else {}

    async def reap(side: Side) -> Any:
        return {
            name: mj for (account, name), mj in (await side.ledger.reap(number % 20)).items() if account == side.account
        }

    async def state(side: Side) -> Any:
        grant, balance = await side.ledger.grant(side.account, name), await side.ledger.balance(side.account)
        journal = await side.ledger.statement(side.account, entries=3)
        told = [(line.what, line.mj, line.reservation, line.part) for line in journal.entries]
        return str((grant, balance, told)).replace(side.account, "")

    def reserve(side: Side) -> Awaitable[Any]:
        return side.ledger.reserve(
            side.account, name, 10 + number % 2, parts=1 + number % 2, expires_ms=number, **begin
        )

    def settle_part(side: Side) -> Awaitable[Any]:
        fence = number % 4 if number % 3 == 0 else None
        return side.ledger.settle(side.account, name, part, number % 15, seq=number % 9, final=flag, fence=fence)

    def shown(step: Step) -> Step:
        async def told(side: Side) -> Any:
            return str(await step(side)).replace(side.account, "")

        return told

    return [
        ("create", shown(lambda s: s.ledger.create(s.account, 200))),
        ("top up", shown(lambda s: s.ledger.top_up(s.account, number, id=name))),
        ("reserve", shown(reserve)), ("reserve", shown(reserve)), ("settle", shown(settle_part)),
        ("settle", shown(settle_part)), ("give back", lambda s: s.ledger.release(s.account, name)), ("reap", reap),
        ("state", state),
    ]  # fmt: skip


@pytest.fixture
def kept_keys() -> frozenset[str]:
    return frozenset({"s0", "s1", "h:1", "z:1", "f0:1", "f1:1", "f2:1", "replies", "lineage", "votes", "models"})


@pytest.mark.parametrize("seed", range(2))
async def test_the_modelled_store_answers_as_a_real_one(redis, account, seed):
    model = ModelRedis()
    model.link = Direct(Store(lambda: 1000 * time.time(), Scripts()))
    real, modelled = Side(redis, account), Side(model, account)
    told: list[str] = []
    for (name, step), _ in zip(steps(random.Random(seed)), range(STEPS), strict=False):
        expected, found = await real.answer(step), await modelled.answer(step)
        told.append(f"{name}: {expected}")
        await asyncio.sleep(0.001)  # entries of one millisecond would have one id, or not
        assert found == expected, "\n".join(told[-12:])
    assert len({line.partition(":")[0] for line in told}) > 45
