"""A model of the stream server: the commands that the product sends, and no others, one at a time.

Answers are what RESP3 carries, before redis-py reads them. `tests/streams/test_model_of_the_store.py` asks this and a
real server the same and compares.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

from redis.exceptions import OutOfMemoryError, ResponseError

from benchmarks.simulator import stream_commands
from benchmarks.simulator.scripts import Scripts
from benchmarks.simulator.values import SortedSet, Stream, UnmodelledError, copied

Value = bytes | dict[bytes, bytes] | SortedSet | Stream
Args = tuple[bytes, ...]
Observer = Callable[[bytes, list[bytes], list[bytes], Any], None]
T = TypeVar("T")

WRONG_KIND = "WRONGTYPE Operation against a key holding the wrong kind of value"
GROWS = frozenset({b"EVALSHA", b"XADD", b"HSET", b"HSETNX", b"ZADD", b"SET", b"XGROUP CREATE"})


class Store:
    """Keys and what they hold. ``now_ms`` is its clock; ``full`` says that it refuses what needs memory."""

    def __init__(self, now_ms: Callable[[], float], scripts: Scripts) -> None:
        self.now_ms, self.full = now_ms, False
        self.values: dict[bytes, Value] = {}
        self.ends_ms: dict[bytes, float] = {}
        self.functions: set[bytes] = set()
        self.scripts = scripts
        self.touched: set[bytes] = set()  # streams that grew or went since somebody looked: blocked readers do
        self.taken_over: list[tuple[bytes, int]] = []  # entries that changed hands, and how long they had been idle
        self.observers: list[Observer] = []
        self.rivals: dict[bytes, bytes] = {}  # streams that are read in an order -> the other one
        self.handed: list[tuple[bytes, bytes, bool]] = []  # by whom, of which, while the other had any

    def execute(self, name: bytes, args: Args) -> Any:
        """One command. Raises `ResponseError` as redis-py would."""
        if self.full and name in GROWS:
            raise OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")
        command = COMMANDS.get(name)
        if command is None:
            raise UnmodelledError(f"the modelled store knows no {name.decode()} {args!r}")
        return command(self, *args)

    def flush(self) -> None:
        self.touched.update(self.values)
        self.values.clear()
        self.ends_ms.clear()

    def snapshot(self) -> tuple[dict[bytes, Value], dict[bytes, float]]:
        return {key: copied(value) for key, value in self.values.items()}, dict(self.ends_ms)

    def restore(self, saved: tuple[dict[bytes, Value], dict[bytes, float]]) -> None:
        self.flush()
        self.values = {key: copied(value) for key, value in saved[0].items()}
        self.ends_ms = dict(saved[1])

    def get(self, key: bytes, kind: type[T]) -> T | None:
        """What ``key`` holds; None where nothing (any more). Raises where it is of another kind."""
        value = self.values.get(key)
        if value is None:
            return None
        if self.ends_ms and self.ends_ms.get(key, 0) and self.ends_ms[key] <= self.now_ms():
            self.drop(key)
            return None
        if type(value) is not kind:
            raise ResponseError(WRONG_KIND)
        return value

    def make(self, key: bytes, kind: type[T]) -> T:
        value = self.get(key, kind)
        if value is None:
            value = kind()
            self.values[key] = value  # type: ignore[assignment]  # T is one of Value
        return value

    def drop(self, key: bytes) -> int:
        self.ends_ms.pop(key, None)
        if type(self.values.pop(key, None)) is Stream:
            self.touched.add(key)
        return 1

    def alive(self, key: bytes) -> bool:
        return key in self.values and self.get(key, type(self.values[key])) is not None

    def drop_if_empty(self, key: bytes, value: Collection[Any]) -> None:
        if not value:
            self.drop(key)


def _exists(store: Store, *keys: bytes) -> int:
    return sum(store.alive(key) for key in keys)


def _delete(store: Store, *keys: bytes) -> int:
    return sum(store.drop(key) for key in keys if store.alive(key))


def _set(store: Store, key: bytes, value: bytes, *options: bytes) -> bytes | None:
    if b"NX" in options and store.alive(key):
        return None
    store.drop(key)
    store.values[key] = value
    for unit, factor in ((b"EX", 1000), (b"PX", 1)):
        if unit in options:
            store.ends_ms[key] = store.now_ms() + factor * int(options[options.index(unit) + 1])
    return b"OK"


def _get(store: Store, key: bytes) -> bytes | None:
    return store.get(key, bytes)


def _expire(store: Store, key: bytes, amount: bytes, *, factor: int = 1000) -> int:
    if not store.alive(key):
        return 0
    store.ends_ms[key] = store.now_ms() + factor * int(amount)
    return 1


def _pexpire(store: Store, key: bytes, amount: bytes) -> int:
    return _expire(store, key, amount, factor=1)


def _persist(store: Store, key: bytes) -> int:
    return int(store.alive(key) and store.ends_ms.pop(key, None) is not None)


def _ttl(store: Store, key: bytes) -> int:
    if not store.alive(key):
        return -2
    return round((store.ends_ms[key] - store.now_ms()) / 1000) if key in store.ends_ms else -1


def _hset(store: Store, key: bytes, *pairs: bytes) -> int:
    held = store.make(key, dict)
    before = len(held)
    held.update(zip(pairs[::2], pairs[1::2], strict=True))
    return len(held) - before


def _hsetnx(store: Store, key: bytes, field: bytes, value: bytes) -> int:
    held = store.make(key, dict)
    if field in held:
        return 0
    held[field] = value
    return 1


def _hget(store: Store, key: bytes, field: bytes) -> bytes | None:
    return (store.get(key, dict) or {}).get(field)


def _hmget(store: Store, key: bytes, *fields: bytes) -> list[bytes | None]:
    held = store.get(key, dict) or {}
    return [held.get(field) for field in fields]


def _hgetall(store: Store, key: bytes) -> dict[bytes, bytes]:
    return dict(store.get(key, dict) or {})


def _hkeys(store: Store, key: bytes) -> list[bytes]:
    return list(store.get(key, dict) or {})


def _hexists(store: Store, key: bytes, field: bytes) -> int:
    return int(field in (store.get(key, dict) or {}))


def _hdel(store: Store, key: bytes, *fields: bytes) -> int:
    held = store.get(key, dict) or {}
    gone = sum(held.pop(field, None) is not None for field in fields)
    if gone:
        store.drop_if_empty(key, held)
    return gone


def _hincrby(store: Store, key: bytes, field: bytes, amount: bytes) -> int:
    held = store.make(key, dict)
    total = int(held.get(field, b"0")) + int(amount)
    held[field] = b"%d" % total
    return total


def _zadd(store: Store, key: bytes, *args: bytes) -> int:
    only_new = args[0] == b"NX"
    held = store.make(key, SortedSet)
    before = len(held)
    pairs = args[only_new:]
    for score, member in zip(pairs[::2], pairs[1::2], strict=True):
        if not (only_new and member in held):
            held[member] = float(score)
    return len(held) - before


def _zrem(store: Store, key: bytes, *members: bytes) -> int:
    held = store.get(key, SortedSet)
    if held is None:
        return 0
    gone = sum(held.pop(member, None) is not None for member in members)
    store.drop_if_empty(key, held)
    return gone


def _zrange(store: Store, key: bytes, first: bytes, last: bytes) -> list[bytes]:
    if (first, last) != (b"0", b"-1"):
        raise UnmodelledError(f"ZRANGE from {first!r} to {last!r}: only all of a set is modelled")
    return [member for _, member in (store.get(key, SortedSet) or SortedSet()).in_order()]


def _zrangebyscore(store: Store, key: bytes, least: bytes, most: bytes) -> list[bytes]:
    held = (store.get(key, SortedSet) or SortedSet()).in_order()
    return [member for score, member in held if float(least) <= score <= float(most)]


def _script_load(store: Store, text: bytes) -> bytes:
    sha = store.scripts.sha(text)
    store.functions.add(sha)
    return sha


def _script_flush(store: Store) -> bytes:
    store.functions.clear()
    return b"OK"


def _evalsha(store: Store, sha: bytes, count: bytes, *args: bytes) -> Any:
    keys, rest = list(args[: int(count)]), list(args[int(count) :])
    if sha not in store.functions:
        raise stream_commands.error("NOSCRIPT No matching script. Please use EVAL.")
    answer = store.scripts.run(store, sha, keys, rest)
    for observe in store.observers:
        observe(sha, keys, rest, answer)
    return answer


COMMANDS: dict[bytes, Callable[..., Any]] = {
    b"EXISTS": _exists, b"DEL": _delete, b"SET": _set, b"GET": _get, b"EXPIRE": _expire, b"PEXPIRE": _pexpire,
    b"PERSIST": _persist, b"TTL": _ttl, b"HSET": _hset, b"HSETNX": _hsetnx, b"HGET": _hget, b"HMGET": _hmget,
    b"HGETALL": _hgetall, b"HKEYS": _hkeys, b"HEXISTS": _hexists, b"HDEL": _hdel, b"HINCRBY": _hincrby,
    b"ZADD": _zadd, b"ZREM": _zrem, b"ZRANGE": _zrange, b"ZRANGEBYSCORE": _zrangebyscore,
    b"SCRIPT LOAD": _script_load, b"SCRIPT FLUSH": _script_flush, b"EVALSHA": _evalsha,
    **stream_commands.COMMANDS,
}  # fmt: skip
