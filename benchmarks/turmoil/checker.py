"""What must be so once all is quiet, told from the bare stores: none of the code under test is asked."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from benchmarks.turmoil.asker import ACCOUNT, Asker
from benchmarks.turmoil.child import COST_MJ
from benchmarks.turmoil.schedule import KINDS
from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.settings import VOTERS
from nvp_agentkit.streams.names import GROUPS

PREFIX = f"nvp:{{{ACCOUNT}}}:"
LEDGER = "nvp:{ledger}:"
WORK = tuple(GROUPS)
KEPT = {*WORK, "replies", "models", "deadlines"}
EVERYTHING, PAGE = "nvp:*", 500


@dataclass
class Found:
    """What was found: ``wrong`` in words, the rest in numbers."""

    lost: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)  # acknowledged by the store, which has no trace of them
    doubled: list[str] = field(default_factory=list)
    joules: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    spoken: Counter[str] = field(default_factory=Counter)  # kind of answer -> how many
    innocent: list[str] = field(default_factory=list)  # plain requests that were refused, and why
    exact: int = 0  # answered ones that cost once what they cost

    @property
    def wrong(self) -> list[str]:
        return [*self.lost, *self.forgotten, *self.doubled, *self.joules, *self.left]


async def waiting(redis: Redis) -> int:
    """Entries that are not at their end."""
    return sum([int(await redis.xlen(PREFIX + suffix)) for suffix in WORK])


async def check(redis: Redis, graph: Graph, asker: Asker) -> Found:
    """Look at everything."""
    found = Found()
    answers = {request_id: await _answers(redis, request_id) for request_id in asker.accepted}
    claimed = {one for one in answers if await redis.exists(f"{PREFIX}asked:{one}")}  # by whoever reads it first
    _told(found, asker, answers, claimed)
    await _streams(redis, found, asker, sum(len(one) for one in answers.values()))
    await _graph(graph, found, answers, await _ledger(redis, found, answers))
    await _votes(graph, found, asker, answers)
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


def _told(found: Found, asker: Asker, answers: dict[str, dict[str, Any]], claimed: set[str]) -> None:
    for request_id, said in answers.items():
        found.spoken.update(kind.split(".", 1)[1].removesuffix(".v1") for kind in said)
        if not said and request_id in claimed:
            found.lost.append(f"{request_id} was accepted and never answered")
        elif not said:
            found.forgotten.append(f"{request_id} was acknowledged by the store, and nobody ever had it")
        if len(said) > 1:
            found.doubled.append(f"{request_id} was answered as {', '.join(said)}")
        plain = asker.accepted[request_id].nature in ("plain", "copied")
        if plain and not any(map(_done, said)):
            found.innocent += [
                f"{request_id}: {event['data'].get('detail') or event['data'].get('reason')}" for event in said.values()
            ]


def _done(kind: str) -> bool:
    return kind.endswith((".completed.v1", ".certified.v1"))


async def _streams(redis: Redis, found: Found, asker: Asker, answered: int) -> None:
    """Nothing waits; and as many replies and facts were ever written as there are answers and votes."""
    for suffix in WORK:
        if length := await redis.xlen(PREFIX + suffix):
            found.lost.append(f"{length} entries left on {suffix}")
        for group in await redis.xinfo_groups(PREFIX + suffix):
            if group["pending"]:
                found.lost.append(f"{group['pending']} pending on {suffix}")
    ever = {one: (await redis.xinfo_stream(PREFIX + one))["entries-added"] for one in ("replies", "lineage", "votes")}
    quorums = sum(one.kind == "ensemble" for one in asker.accepted.values())
    told = f"{ever} were ever written for {answered} answers, of {quorums} quorums"
    facts = answered + ever["votes"]  # and one for each vote that came after the decision
    if ever["replies"] != answered or not facts <= ever["lineage"] <= facts + ever["votes"]:
        found.doubled.append(told)
    if ever["votes"] > len(VOTERS) * quorums:
        found.doubled.append(told)
    dead = sum([int(await redis.xlen(f"{PREFIX}{suffix}:dead")) for suffix in KINDS])
    if dead < asker.junk:
        found.lost.append(f"{asker.junk} pieces of junk and {dead} dead letters")


async def _ledger(redis: Redis, found: Found, answers: dict[str, dict[str, Any]]) -> int:
    """Granted is spent, released and reaped, to the millijoule, for each reservation and for the account.

    Returns what may be on record beyond what answers name: used by predictions that were refused in the end, and by
    votes that a quorum did not wait for.
    """
    account = {_text(k): int(v) for k, v in (await redis.hgetall(f"{LEDGER}account:{ACCOUNT}")).items()}
    spent = beyond_mj = 0
    for request_id, said in answers.items():
        raw = await redis.hgetall(f"{LEDGER}reservation:{ACCOUNT}:{request_id}")
        held = {_text(k): _text(v) for k, v in raw.items()}
        if not held or held["state"] == "refused":
            continue
        paid = sum(int(v) for k, v in held.items() if k.startswith("paid:"))
        used = sum(int(v) for k, v in held.items() if k.startswith("used:"))
        unseen = int(held["parts"]) - int(held.get("seen", 0)) if held["state"] == "reaped" else 0
        charged = paid + unseen * (int(held["granted"]) // int(held["parts"]))
        spent += charged
        if held["state"] == "open" or held["held"] != "0" or not 0 <= charged <= int(held["granted"]):
            found.joules.append(f"reservation {request_id}: {held}")
        told = sum((event["data"].get("energy") or {}).get("mj", 0) for event in said.values())
        if any(map(_done, said)) and not COST_MJ <= told <= used:
            found.joules.append(f"{request_id} is said to have cost {told} mJ; {used} were settled")
        beyond_mj += used - told if any("nvp.job" not in kind and ".completed." not in kind for kind in said) else 0
        found.exact += any(map(_done, said)) and used == paid == COST_MJ * int(held["parts"])
    if account["spent"] != spent or account["reserved"]:
        found.joules.append(f"{account}, and reservations were charged {spent} mJ")
    if await redis.exists(LEDGER + "open"):
        found.joules.append("reservations are open for ever")
    return beyond_mj


async def _graph(graph: Graph, found: Found, answers: dict[str, dict[str, Any]], beyond_mj: int) -> None:
    """Each answer is on record once, with the joules that it named."""
    told = {
        request_id: sum((event["data"].get("energy") or {}).get("mj", 0) for event in said.values())
        for request_id, said in answers.items()
        if said
    }
    rows = await graph.rows("MATCH (d:Decision) RETURN d.request_id AS id")
    rows += await graph.rows("MATCH (r:Run) RETURN r.job_id AS id")
    recorded = Counter(row["id"] for row in rows)
    found.lost += [f"{one} was answered and is not on record" for one in sorted(told.keys() - recorded.keys())]
    found.doubled += [f"{one} is {count} times on record" for one, count in recorded.items() if count > 1]
    (row,) = await graph.rows("MATCH (e:EnergyReading) RETURN sum(e.mj) AS mj")
    if not sum(told.values()) <= row["mj"] <= sum(told.values()) + beyond_mj:
        found.joules.append(f"the graph knows {row['mj']} mJ, answers named {sum(told.values())}, beyond {beyond_mj}")


async def _votes(graph: Graph, found: Found, asker: Asker, answers: dict[str, dict[str, Any]]) -> None:
    """Each vote that a certificate counts is on record once, and was paid for."""
    rows = await graph.rows(
        "MATCH (v:Vote)-->(d:Decision) OPTIONAL MATCH (v)-->(e:EnergyReading) "
        "RETURN d.request_id AS id, v.voter AS voter, count(e) AS paid"
    )
    paid = {(row["id"], row["voter"]): row["paid"] for row in rows}
    found.doubled += [
        f"a vote of {voter} on {one} is {count} times paid" for (one, voter), count in paid.items() if count > 1
    ]
    for one, said in answers.items():
        for kind, event in said.items():
            if not kind.endswith(".certified.v1"):
                continue
            found.lost += [
                f"the vote of {voter} on {one} is not on record"
                for voter in event["data"]["agreed"]
                if paid.get((one, voter)) != 1
            ]
            if asker.accepted[one].kind != "ensemble" or event["data"]["dissent"]:
                found.doubled.append(
                    f"{one} was certified over {event['data']['dissent']}; all voters say the same here"
                )


def _text(raw: bytes | str) -> str:
    return raw.decode() if isinstance(raw, bytes) else raw
