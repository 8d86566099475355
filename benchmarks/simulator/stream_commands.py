"""The stream commands of the modelled store, as Redis 7 and later answer them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from redis._parsers.base import BaseParser

from benchmarks.simulator.values import EntryId, Group, Pending, Stream, UnmodelledError, read_id, shown

if TYPE_CHECKING:
    from benchmarks.simulator.store import Store

STILL_BLOCKED = object()


def error(text: str) -> Exception:
    """What redis-py makes of an error answer."""
    found: Exception = BaseParser.parse_error(text)  # type: ignore[no-untyped-call]
    return found


def _group(store: Store, key: bytes, name: bytes, said: str = "") -> tuple[Stream, Group]:
    stream = store.get(key, Stream)
    group = None if stream is None else stream.groups.get(name)
    if stream is None or group is None:
        raise error(f"NOGROUP No such key '{key.decode()}' or consumer group '{name.decode()}'{said}")
    return stream, group


def _xadd(store: Store, key: bytes, *args: bytes) -> bytes:
    stream = store.make(key, Stream)
    star = args.index(b"*")
    now_ms = int(store.now_ms())
    stream.last = stream.next_id(now_ms)
    stream.entries[stream.last] = list(args[star + 1 :])
    if b"MAXLEN" in args[:star]:
        for one in list(stream.entries)[: -int(args[star - 1])]:  # a real server trims whole nodes, so perhaps later
            del stream.entries[one]
    store.touched.add(key)
    return shown(stream.last)


def _shown(stream: Stream, ids: list[EntryId]) -> list[list[Any]]:
    return [[shown(one), list(stream.entries[one])] for one in ids]


def _xrange(store: Store, key: bytes, first: bytes, last: bytes, *count: bytes) -> list[list[Any]]:
    stream = store.get(key, Stream) or Stream()
    most = int(count[1]) if count else None
    return _shown(stream, stream.between(read_id(first), read_id(last, least=False), most))


def _xrevrange(store: Store, key: bytes, last: bytes, first: bytes, *count: bytes) -> list[list[Any]]:
    stream = store.get(key, Stream) or Stream()
    most = int(count[1]) if count else None
    return _shown(stream, stream.between(read_id(first), read_id(last, least=False), most, newest=True))


def _memory_usage(store: Store, key: bytes, *_: bytes) -> int:
    return sum(len(part) for fields in (store.get(key, Stream) or Stream()).entries.values() for part in fields)


def _xlen(store: Store, key: bytes) -> int:
    return len((store.get(key, Stream) or Stream()).entries)


def _xdel(store: Store, key: bytes, *ids: bytes) -> int:
    stream = store.get(key, Stream) or Stream()
    return sum(stream.entries.pop(read_id(one), None) is not None for one in ids)


def _xtrim(store: Store, key: bytes, how: bytes, least: bytes) -> int:
    if how != b"MINID":
        raise UnmodelledError(f"XTRIM by {how!r}: only MINID is modelled")
    stream = store.get(key, Stream) or Stream()
    gone = [one for one in stream.entries if one < read_id(least)]
    for one in gone:
        del stream.entries[one]
    return len(gone)


def _xgroup_create(store: Store, key: bytes, name: bytes, start: bytes, *options: bytes) -> bytes:
    stream = store.make(key, Stream) if b"MKSTREAM" in options else _exists(store, key)
    if name in stream.groups:
        raise error("BUSYGROUP Consumer Group name already exists")
    stream.groups[name] = Group(stream.last if start == b"$" else read_id(start))
    return b"OK"


def _exists(store: Store, key: bytes) -> Stream:
    stream = store.get(key, Stream)
    if stream is None:
        raise error("ERR The XGROUP subcommand requires the key to exist.")
    return stream


def _xgroup_destroy(store: Store, key: bytes, name: bytes) -> int:
    stream = _exists(store, key)
    store.touched.add(key)
    return int(stream.groups.pop(name, None) is not None)


def _xgroup_delconsumer(store: Store, key: bytes, name: bytes, consumer: bytes) -> int:
    _exists(store, key)
    _, group = _group(store, key, name)
    held = [one for one, pending in group.pending.items() if pending.consumer == consumer]
    for one in held:
        del group.pending[one]
    group.seen_ms.pop(consumer, None)
    return len(held)


def _option(args: tuple[bytes, ...], name: bytes) -> int | None:
    return int(args[args.index(name) + 1]) if name in args else None


def _positions(args: tuple[bytes, ...]) -> list[tuple[bytes, bytes]]:
    """Keys of a read, each with the id after which it is to be read."""
    rest = args[args.index(b"STREAMS") + 1 :]
    return list(zip(rest[: len(rest) // 2], rest[len(rest) // 2 :], strict=True))


def block_ms(name: bytes, args: tuple[bytes, ...]) -> int | None:
    """How long this command may wait for its answer; None where it does not."""
    return _option(args, b"BLOCK") if name in (b"XREADGROUP", b"XREAD") else None


def watched(args: tuple[bytes, ...]) -> list[bytes]:
    return [key for key, _ in _positions(args)]


def _xreadgroup(store: Store, _: bytes, name: bytes, consumer: bytes, *args: bytes) -> dict[bytes, list[Any]] | None:
    count, keys = _option(args, b"COUNT"), watched(args)
    found = {}
    groups = [_group(store, key, name, " in XREADGROUP with GROUP option") for key in keys]
    now_ms = int(store.now_ms())
    for key, (stream, group) in zip(keys, groups, strict=True):
        group.seen_ms[consumer] = now_ms
        taken = stream.after(group.last, count)
        if not taken:
            continue
        group.last = taken[-1]
        for one in taken:
            group.pending[one] = Pending(consumer, now_ms, 1)
        found[key] = _shown(stream, taken)
        if rival := store.rivals.get(key):
            store.handed.append((consumer, key, _waits(store, rival, name)))
    return found or None


def _waits(store: Store, key: bytes, name: bytes) -> bool:
    """Something is there that the group has not read."""
    stream = store.get(key, Stream)
    group = stream.groups.get(name) if stream else None
    return stream is not None and group is not None and bool(stream.after(group.last, 1))


def _xread(store: Store, *args: bytes) -> dict[bytes, list[Any]] | None:
    count, found = _option(args, b"COUNT"), {}
    for key, last in _positions(args):
        stream = store.get(key, Stream) or Stream()
        if taken := stream.after(read_id(last), count):
            found[key] = _shown(stream, taken)
    return found or None


def _xack(store: Store, key: bytes, name: bytes, *ids: bytes) -> int:
    stream = store.get(key, Stream)
    group = stream.groups.get(name) if stream else None
    return sum(group.pending.pop(read_id(one), None) is not None for one in ids) if group else 0


def _xpending(store: Store, key: bytes, name: bytes, *args: bytes) -> list[Any]:
    _, group = _group(store, key, name)
    pending = group.pending
    if not args:
        if not pending:
            return [0, None, None, None]
        holders = sorted({one.consumer for one in pending.values()})
        held = [[holder, b"%d" % group.held_by(holder)] for holder in holders]
        return [len(pending), shown(min(pending)), shown(max(pending)), held]
    idle = int(args[1]) if args[0] == b"IDLE" else 0
    first, last, count, *consumer = args[2 if args[0] == b"IDLE" else 0 :]
    now_ms, least, most = int(store.now_ms()), read_id(first), read_id(last, least=False)
    found = [
        [shown(one), held.consumer, now_ms - held.delivered_ms, held.deliveries]
        for one, held in sorted(pending.items())
        if least <= one <= most and now_ms - held.delivered_ms >= idle and consumer in ([], [held.consumer])
    ]
    return found[: int(count)]


def _xclaim(store: Store, key: bytes, name: bytes, consumer: bytes, idle: bytes, *args: bytes) -> list[Any]:
    stream, group = _group(store, key, name)
    ids = [one for one in args if one[:1].isdigit() and b"-" in one]
    said = dict(zip(args[len(ids) :: 2], args[len(ids) + 1 :: 2], strict=False))
    now_ms, only_ids = int(store.now_ms()), args[-1] == b"JUSTID"
    claimed: list[Any] = []
    for one in map(read_id, ids):
        held = group.pending.get(one)
        if held is None:
            continue
        if one not in stream.entries:
            del group.pending[one]
            continue
        if now_ms - held.delivered_ms < int(idle):
            continue
        group.seen_ms[consumer] = now_ms
        if held.consumer != consumer:
            store.taken_over.append((shown(one), now_ms - held.delivered_ms))
        held.consumer, held.delivered_ms = consumer, now_ms - int(said.get(b"IDLE", b"0"))
        held.deliveries = int(said[b"RETRYCOUNT"]) if b"RETRYCOUNT" in said else held.deliveries + (not only_ids)
        claimed.append(shown(one) if only_ids else [shown(one), list(stream.entries[one])])
    return claimed


def _xinfo_groups(store: Store, key: bytes) -> list[dict[bytes, Any]]:
    stream = store.get(key, Stream)
    if stream is None:
        raise error("ERR no such key")
    return [
        {b"name": name, b"pending": len(group.pending), b"last-delivered-id": shown(group.last)}
        for name, group in sorted(stream.groups.items())
    ]


def _xinfo_consumers(store: Store, key: bytes, name: bytes) -> list[dict[bytes, Any]]:
    if store.get(key, Stream) is None:
        raise error("ERR no such key")
    _, group = _group(store, key, name)
    now_ms = int(store.now_ms())
    return [
        {b"name": consumer, b"pending": group.held_by(consumer), b"idle": now_ms - seen_ms}
        for consumer, seen_ms in sorted(group.seen_ms.items())
    ]


COMMANDS: dict[bytes, Callable[..., Any]] = {
    b"XADD": _xadd, b"XRANGE": _xrange, b"XREVRANGE": _xrevrange, b"XLEN": _xlen, b"XDEL": _xdel, b"XTRIM": _xtrim,
    b"XGROUP CREATE": _xgroup_create, b"XGROUP DESTROY": _xgroup_destroy,
    b"XGROUP DELCONSUMER": _xgroup_delconsumer, b"XREADGROUP": _xreadgroup, b"XREAD": _xread, b"XACK": _xack,
    b"XPENDING": _xpending, b"XCLAIM": _xclaim, b"XINFO GROUPS": _xinfo_groups, b"XINFO CONSUMERS": _xinfo_consumers,
    b"MEMORY USAGE": _memory_usage,
}  # fmt: skip
