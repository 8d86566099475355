"""What must be so once all is quiet, told from the bare stores.

Streams, answers and ledger are read key by key with redis-py, and what they must add up to is reckoned here. Of the
code under test two things are used: the graph's client, which passes on the queries that stand here, and names of keys.
Before the last look `chaos` has the ledger reap what is open; `unsettled` looks before that.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from redis.asyncio import Redis

from benchmarks.turmoil.asker import ACCOUNT, Asker
from benchmarks.turmoil.child import COST_MJ
from benchmarks.turmoil.found import Answers, Found, finished, named_mj
from benchmarks.turmoil.quorums import Used, check_votes, counted
from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.streams.names import GROUPS, KEPT

PREFIX = f"nvp:{{{ACCOUNT}}}:"
LEDGER = "nvp:{ledger}:"
WORK = tuple(GROUPS)
EVERYTHING, PAGE = "nvp:*", 500


async def waiting(redis: Redis) -> int:
    """Entries that are not at their end."""
    return sum([int(await redis.xlen(PREFIX + suffix)) for suffix in WORK])


async def unsettled(redis: Redis, asker: Asker) -> list[str]:
    """What is done and still holds joules: they would come back at its deadline only."""
    held = []
    for request_id in asker.accepted:
        state, parts = await redis.hmget(f"{LEDGER}reservation:{ACCOUNT}:{request_id}", ["state", "parts"])
        # A quorum may be at its end without one of its voters, whose part is reaped.
        if (state, parts) == (b"open", b"1") and any(map(finished, await _answers(redis, request_id))):
            held.append(f"{request_id} is done and its reservation is open")
    return held


async def check(redis: Redis, graph: Graph, asker: Asker, held: Iterable[str] = ()) -> Found:
    """Look at everything; ``held`` is what was `unsettled` before the ledger was told to reap."""
    found = Found(joules=[*held])
    answers = {request_id: await _answers(redis, request_id) for request_id in asker.accepted}
    claimed = {one for one in answers if await redis.exists(f"{PREFIX}asked:{one}")}  # by whoever reads it first
    _told(found, asker, answers, claimed)
    cast = await _streams(redis, found, asker, answers)
    used = await _ledger(redis, found, answers)
    await _graph(graph, found, answers, used)
    await check_votes(graph, found, asker.accepted, answers, used, cast)
    async for key in redis.scan_iter(match=EVERYTHING, count=PAGE):
        name = _text(key)
        for_good = name.removeprefix(PREFIX).removesuffix(":dead") in KEPT or name.startswith(
            (LEDGER + "account:", "nvp:{registry}:accounts")
        )
        if not for_good and await redis.ttl(key) == -1:
            found.left.append(f"{name} has no TTL")
    return found


async def _answers(redis: Redis, request_id: str) -> dict[str, Any]:
    stored = await redis.hgetall(f"{PREFIX}reply:{request_id}")
    return {_text(kind): json.loads(raw) for kind, raw in stored.items()}


def _told(found: Found, asker: Asker, answers: Answers, claimed: set[str]) -> None:
    for request_id, said in answers.items():
        found.spoken.update(kind.split(".", 1)[1].removesuffix(".v1") for kind in said)
        if not said and request_id in claimed:
            found.lost.append(f"{request_id} was accepted and never answered")
        elif not said:
            found.forgotten.append(f"{request_id} was acknowledged by the store, and nobody ever had it")
        if len(said) > 1:
            found.doubled.append(f"{request_id} was answered as {', '.join(said)}")
        plain = asker.accepted[request_id].nature in ("plain", "copied")
        if plain and not any(map(finished, said)):
            found.innocent += [
                f"{request_id}: {event['data'].get('detail') or event['data'].get('reason')}" for event in said.values()
            ]


async def _streams(redis: Redis, found: Found, asker: Asker, answers: Answers) -> int:
    """Nothing waits; and as many replies and facts were ever written as there are answers and votes.

    Returns how many votes were ever cast.
    """
    for suffix in WORK:
        if length := await redis.xlen(PREFIX + suffix):
            found.lost.append(f"{length} entries left on {suffix}")
        for group in await redis.xinfo_groups(PREFIX + suffix):
            if group["pending"]:
                found.lost.append(f"{group['pending']} pending on {suffix}")
    ever = {one: (await redis.xinfo_stream(PREFIX + one))["entries-added"] for one in ("replies", "lineage", "votes")}
    answered, cast = sum(map(len, answers.values())), int(ever["votes"])
    late = cast - counted(answers)  # of each such vote the tally may have said whether it agrees
    if ever["replies"] != answered or not answered + cast <= ever["lineage"] <= answered + cast + late:
        found.doubled.append(
            f"entries were ever on {ever}, for {answered} answers and {cast} votes, {late} of them late"
        )
    for suffix, junk in asker.junk.items():
        if (dead := await redis.xlen(f"{PREFIX}{suffix}:dead")) < junk * len(GROUPS[suffix]):
            found.lost.append(f"{junk} pieces of junk on {suffix} and {dead} dead letters")
    return cast


async def _ledger(redis: Redis, found: Found, answers: Answers) -> dict[str, dict[str, int]]:
    """Granted is spent, released and reaped, to the millijoule, for each reservation and for the account.

    Returns what each part of each request used.
    """
    account = {_text(k): int(v) for k, v in (await redis.hgetall(f"{LEDGER}account:{ACCOUNT}")).items()}
    spent, parts = 0, {}
    for request_id, said in answers.items():
        raw = await redis.hgetall(f"{LEDGER}reservation:{ACCOUNT}:{request_id}")
        held = {_text(k): _text(v) for k, v in raw.items()}
        if not held or held["state"] == "refused":
            found.joules += [f"{request_id} was done without a reservation" for kind in said if finished(kind)]
            continue
        paid = sum(int(v) for k, v in held.items() if k.startswith("paid:"))
        parts[request_id] = {k.removeprefix("used:"): int(v) for k, v in held.items() if k.startswith("used:")}
        used = sum(parts[request_id].values())
        unseen = int(held["parts"]) - int(held.get("seen", 0)) if held["state"] == "reaped" else 0
        charged = paid + unseen * (int(held["granted"]) // int(held["parts"]))
        spent += charged
        if held["state"] == "open" or held["held"] != "0" or not 0 <= charged <= int(held["granted"]):
            found.joules.append(f"reservation {request_id}: {held}")
        if any(map(finished, said)) and not COST_MJ <= named_mj(said) <= used:
            found.joules.append(f"{request_id} is said to have cost {named_mj(said)} mJ; {used} were settled")
        found.exact += any(map(finished, said)) and used == paid == COST_MJ * int(held["parts"])
    if account["spent"] != spent or account["reserved"]:
        found.joules.append(f"{account}, and reservations were charged {spent} mJ")
    if await redis.exists(LEDGER + "open"):
        found.joules.append("reservations are open for ever")
    return parts


async def _graph(graph: Graph, found: Found, answers: Answers, used: Used) -> None:
    """Each answer is on record once, with the joules that it named.

    Beyond these may be on record what predictions used that were refused in the end, and votes that no quorum
    waited for.
    """
    told = {request_id: named_mj(said) for request_id, said in answers.items() if said}
    beyond_mj = sum(sum(used.get(one, {}).values()) - mj for one, mj in told.items() if any(map(_more, answers[one])))
    rows = await graph.rows("MATCH (d:Decision) RETURN d.request_id AS id")
    rows += await graph.rows("MATCH (r:Run) RETURN r.job_id AS id")
    recorded = Counter(row["id"] for row in rows)
    found.lost += [f"{one} was answered and is not on record" for one in sorted(told.keys() - recorded.keys())]
    found.doubled += [f"{one} is {count} times on record" for one, count in recorded.items() if count > 1]
    (row,) = await graph.rows("MATCH (e:EnergyReading) RETURN sum(e.mj) AS mj")
    if not sum(told.values()) <= row["mj"] <= sum(told.values()) + beyond_mj:
        found.joules.append(f"the graph knows {row['mj']} mJ, answers named {sum(told.values())}, beyond {beyond_mj}")


def _more(kind: str) -> bool:
    return kind.startswith(("nvp.prediction.refused.", "nvp.prediction.certified.", "nvp.prediction.abstained."))


def _text(raw: bytes | str) -> str:
    return raw.decode() if isinstance(raw, bytes) else raw
