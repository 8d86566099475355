"""100,000 mutated events on a whole stack at work: nothing crashes, each is a dead letter with a reason or answered.

A seed takes real events of every type (`real_events`), flips their bytes, drops their fields, swaps types, nests a
thousand deep, reuses ids, sets clocks off... (`mutations`), and puts them on all streams: requests as the account's own
user, votes and facts as the owner, for nobody else may. Between two slices the stack comes to rest and each entry's end
is looked for. Forecasts are made by a trivial forecaster; an ensemble is in service, but its weights are nowhere.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from benchmarks.mutations import WITHIN_S, Mutated, Mutator
from benchmarks.process_tree import tree
from benchmarks.real_events import Events
from benchmarks.verdict import BrokenError, Figure
from nvp_agentkit.cli import deployment
from nvp_agentkit.embedded.accounts_acl import create_user
from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import connect, names, register
from nvp_agentkit.streams.health import workers
from nvp_agentkit.workers.compute.front import CHILD_ENDED, DIED

EVENTS, QUICK_EVENTS = 100_000, 2_000
ACCOUNT, LIMIT_MJ = "fuzz", 10**12
SLICE, AT_ONCE = 4_000, 200
REST_WITHIN_S, READY_S, LATE_S = 240.0, 120.0, 5.0
REQUESTS = ("predict", "ensemble", "jobs", "urgent", "service")  # of which each is answered, or nobody could
ASKS = (*REQUESTS, "cancel")  # where an account's own user may add
Place = tuple[str, str]  # a stream's suffix, an entry's id
DEFECT = ("this is a defect", "refusal failed", '"code":"internal"')
SHOWN = 10


@dataclass
class Seen:
    """What became of the entries so far."""

    ends: Counter[str] = field(default_factory=Counter)
    reasonless: int = 0
    own_letters: int = 0
    forbidden: int = 0
    hastened: int = 0
    wrong: list[str] = field(default_factory=list)


def measure(*, quick: bool, count: int | None = None, seed: int = 1) -> dict[str, Figure]:
    """``count`` events, 100,000 in a full run, 2,000 in a quick one."""
    count = count or (QUICK_EVENTS if quick else EVENTS)
    with tempfile.TemporaryDirectory(prefix="nvp-fuzz-") as folder:
        settings = Settings(data_dir=Path(folder), log_level="warning")
        figures = asyncio.run(_measure(settings, count, seed))
    return figures | {"events": Figure(count, "events", None if quick else EVENTS, higher_is_better=True)}


async def _measure(settings: Settings, count: int, seed: int) -> dict[str, Figure]:
    async with _stack(settings) as (owner, agent):
        before = await _processes(owner)
        fuzzing = Fuzzing(owner, agent, await Events.made(owner, settings, ACCOUNT), seed)
        began = time.monotonic()
        for start in range(0, count, SLICE):
            await fuzzing.slice(min(SLICE, count - start))
            print(f"{time.monotonic() - began:6.0f} s  {dict(fuzzing.seen.ends)}", flush=True)
        seconds = time.monotonic() - began
        await fuzzing.wait_for_deadlines()
        await fuzzing.ask_and_be_answered()
        after = await _processes(owner)
        seen = fuzzing.seen
        for one in seen.wrong[:SHOWN]:
            print(one)
        logs = {name: _log(settings.data_dir / "logs", name) for name in before}
        crashed = [name for name in before if _crashed(before[name], after.get(name, ()), logs[name])]
        for name in crashed:
            print(f"{name} was {before[name]}, is {after.get(name)}")
        ends = seen.ends
        return {
            "crashes": Figure(len(crashed), "workers", floor=0),
            "children_ended": Figure(sum(log.count(CHILD_ENDED) for log in logs.values()), "processes"),
            "dead": Figure(ends["dead"], "events"),
            "answered": Figure(ends["answered"], "events"),
            "taken": Figure(ends["taken"], "events"),
            "silent": Figure(ends["silent"], "events", floor=0),
            "hastened": Figure(seen.hastened, "events"),
            "without_reason": Figure(seen.reasonless, "letters", floor=0),
            "defects": Figure(ends["defect"], "events", floor=0),
            "tracebacks": Figure(sum(log.count("Traceback") for log in logs.values()), "in logs", floor=0),
            "own_dead_letters": Figure(seen.own_letters, "letters"),
            "forbidden_writes": Figure(seen.forbidden, "writes", floor=0),
            "pending": Figure(await _pending(owner), "entries", floor=0),
            "without_ttl": Figure(len(await _without_ttl(owner)), "keys", floor=0),
            "reserved_till_deadline": Figure((await Ledger(owner).balance(ACCOUNT)).reserved_mj, "mJ"),
            "processes": Figure(sum(map(len, after.values())), "processes"),
            "rate": Figure(round(count / seconds), "events/s", higher_is_better=True),
        }


@asynccontextmanager
async def _stack(settings: Settings) -> AsyncIterator[tuple[Redis, Redis]]:
    """The whole stack, ready; its stream server as the owner and as the account's user see it."""
    async with deployment.supervisor(settings, lambda event: None) as supervisor:
        await supervisor.ready(timeout_s=READY_S)
        at = supervisor.settings
        owner = await connect(at)
        await owner.config_set("appendfsync", "everysec")  # each answer's own fsync would take most of the time
        await register(owner, ACCOUNT, owner="benchmark")
        await Ledger(owner).create(ACCOUNT, LIMIT_MJ)
        login = await create_user(owner, ACCOUNT)
        url = f"redis://{str(at.redis_url).rpartition('@')[2]}"  # without the owner's password
        own = {"redis_url": url, "account": ACCOUNT, "account_password": login.password}
        agent = await connect(at.model_copy(update=own))
        try:
            yield owner, agent
        finally:
            await agent.aclose()
            await owner.aclose()


async def _processes(redis: Redis) -> dict[str, tuple[int, ...]]:
    """Of each worker its own and its children's."""
    return {one.name: (one.pid, *sorted(tree(one.pid) - {one.pid})) for one in await workers(redis)}


def _log(folder: Path, worker: str) -> str:
    """All that it has logged, with what was put aside as that grew."""
    return "".join(log.read_text() for log in folder.glob(f"{worker}.log*"))


def _crashed(before: tuple[int, ...], after: tuple[int, ...], log: str) -> bool:
    """Whether a worker is another one, or has other children and did not end the first for a reason of its own.

    A child is ended when its job's deadline is over, its joules are used up or nobody wants it any more.
    """
    return before[:1] != after[:1] or DIED in log or (before != after and CHILD_ENDED not in log)


class Fuzzing:
    """One account's streams, and what is put there."""

    def __init__(self, owner: Redis, agent: Redis, events: Events, seed: int) -> None:
        self.seen = Seen()
        self._owner, self._agent, self._events = owner, agent, events
        self._mutator, self._rng = Mutator(seed), random.Random(seed)
        self._read: dict[str, str] = dict.fromkeys(names.GROUPS, "-")
        self._waiting: list[tuple[Place, Mutated]] = []

    async def slice(self, count: int) -> None:
        """``count`` events, and the end of each."""
        made = [self._mutator.mutate(*self._events.draw(self._rng)) for _ in range(count)]
        asks = [one for one in made if one.suffix in ASKS]
        rest = [one for one in made if one.suffix not in ASKS]
        entries: dict[Place, Mutated] = {}
        letters: dict[Place, str] = {}
        for start in range(0, count, AT_ONCE):  # of letters a thousand a stream are kept, of one entry up to four
            entries |= await self._add(self._agent, asks[start : start + AT_ONCE])
            entries |= await self._add(self._owner, rest[start : start + AT_ONCE])
            letters |= await self._letters()
        await self._forbidden(made[0])
        letters |= await self._rest()
        answers = await self._answers(list(entries.values()))
        for (place, one), said in zip(entries.items(), answers, strict=True):
            self._end(place, one, letters.pop(place, None), said)
        self.seen.own_letters += len(letters)
        self.seen.wrong += [f"{place}: a worker's own message died: {reason}" for place, reason in letters.items()]

    async def wait_for_deadlines(self, within_s: float = WITHIN_S) -> None:
        """Look again for the ends of quorum requests that only their deadline brought one.

        A request may name a later deadline, or none, which is an hour: what is on file by then is let be due.
        """
        await asyncio.sleep(within_s + LATE_S if self._waiting else 0)
        self.seen.hastened = await self._hasten()
        for (place, one), said in zip(
            self._waiting, await self._answers([one for _, one in self._waiting]), strict=True
        ):
            self._end(place, one, None, said, over=True)
        self._waiting.clear()

    async def _hasten(self) -> int:
        """Let the time be over for all that waits for votes, and the tally say its last word; how many these are."""
        deadlines = names.key(ACCOUNT, "deadlines")
        waiting: Any = await self._owner.zrange(deadlines, 0, -1)
        if waiting:
            await self._owner.zadd(deadlines, dict.fromkeys(waiting, 0), xx=True)
        until = time.monotonic() + REST_WITHIN_S
        while left := await self._owner.zcard(deadlines):
            if time.monotonic() > until:
                raise BrokenError(f"the tally leaves {left} requests undecided whose deadline is over")
            await asyncio.sleep(0.1)
        return len(waiting)

    async def ask_and_be_answered(self) -> None:
        """A request that nobody touched, after all that."""
        suffix, event = self._events.forecast()
        (place,) = await self._add(self._agent, [Mutated(suffix, {b"event": event.encode()}, ())])
        await self._rest()
        said = await self._owner.hkeys(names.answers(ACCOUNT, event.id))
        if said != [b"nvp.prediction.completed.v1"]:
            self.seen.wrong.append(f"{place}: an untouched request was answered {said}")
            self.seen.ends["silent"] += 1

    async def _add(self, redis: Redis, made: Sequence[Mutated]) -> dict[Place, Mutated]:
        """Put them on their streams; (suffix, entry id) of each."""
        pipe = redis.pipeline(transaction=False)
        for one in made:
            pipe.xadd(names.key(ACCOUNT, one.suffix), one.fields)
        ids = await pipe.execute() if made else []
        return {(one.suffix, entry.decode()): one for one, entry in zip(made, ids, strict=True)}

    async def _forbidden(self, one: Mutated) -> None:
        """An agent answers itself, casts a vote, records a fact, asks on another's account, buries a message."""
        streams = [names.replies(ACCOUNT), *(names.key(ACCOUNT, suffix) for suffix in ("votes", "lineage"))]
        streams += [names.key("another", suffix) for suffix in ASKS] + [names.dead(names.key(ACCOUNT, "predict"))]
        for stream in streams:
            try:
                await self._agent.xadd(stream, one.fields)
            except NoPermissionError:
                continue
            self.seen.forbidden += 1
            self.seen.wrong.append(f"{stream} took an agent's entry")

    async def _rest(self) -> dict[Place, str]:
        """Wait until nothing waits and nothing is in hand; what died meanwhile, and why.

        Raises:
            BrokenError: that does not come.
        """
        until, died = time.monotonic() + REST_WITHIN_S, await self._letters()
        while left := [suffix for suffix in names.GROUPS if await self._owner.xlen(names.key(ACCOUNT, suffix))]:
            if time.monotonic() > until:
                raise BrokenError(f"after {REST_WITHIN_S:g} s there are still entries on {', '.join(left)}")
            await asyncio.sleep(0.1)
            died |= await self._letters()  # of which a thousand are kept
        return died | await self._letters()

    async def _letters(self) -> dict[Place, str]:
        """What has died since: the reason by suffix and entry."""
        found: dict[Place, str] = {}
        for suffix in names.GROUPS:
            entries: Any = await self._owner.xrange(names.dead(names.key(ACCOUNT, suffix)), self._read[suffix])
            for letter_id, fields in entries:
                self._read[suffix] = f"({letter_id.decode()}"
                reason = fields[b"reason"].decode(errors="replace")
                found[suffix, fields[b"id"].decode()] = reason
                self.seen.reasonless += not reason
        return found

    async def _answers(self, asked: Sequence[Mutated]) -> list[list[bytes]]:
        """What was said to each, where it has an id."""
        pipe = self._owner.pipeline(transaction=False)
        for one in asked:
            pipe.hvals(names.answers(ACCOUNT, one.id or ""))
        return list(await pipe.execute()) if asked else []

    def _end(self, place: Place, one: Mutated, reason: str | None, answers: list[bytes], *, over: bool = False) -> None:
        """What became of one entry: a dead letter, an answer, taken (where nobody waits for an answer) or silence."""
        if reason is not None:
            end = "dead"
        elif one.suffix in REQUESTS:
            end = "answered" if answers else "silent"
        else:
            end = "taken" if one.id else "silent"
        if end == "silent" and one.suffix == "ensemble" and not over:
            self._waiting.append((place, one))  # for votes, until its deadline
            return
        self.seen.ends[end] += 1
        said = [reason or "", *(raw.decode() for raw in answers)]
        defect = next((text for text in said if any(sign in text for sign in DEFECT)), None)
        self.seen.ends["defect"] += defect is not None
        if end == "silent" or defect:
            raw = one.fields.get(b"event", b"")[:300]
            self.seen.wrong.append(f"{end} {place} {', '.join(one.ways)}: {defect or ''} {sorted(one.fields)} {raw!r}")


async def _pending(redis: Redis) -> int:
    streams = [(names.key(ACCOUNT, suffix), group) for suffix, groups in names.GROUPS.items() for group in groups]
    return sum([(await redis.xpending(stream, group))["pending"] for stream, group in streams])


async def _without_ttl(redis: Redis) -> list[str]:
    """Keys of the account that stay for good, and are none of those that may."""
    prefix = names.key(ACCOUNT, "")
    keys = [key.decode() async for key in redis.scan_iter(match=prefix.replace("{", "\\{") + "*", count=1000)]
    declared = {prefix + suffix for suffix in names.KEPT}
    return [key for key in keys if key.removesuffix(":dead") not in declared and await redis.ttl(key) == -1]
