"""What must be so at the end of a history, told from the bare store: none of the code under test is asked."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from benchmarks.simulator import promises
from benchmarks.simulator.plan import Message, Plan
from benchmarks.simulator.store import Store
from benchmarks.simulator.values import SortedSet, Stream
from benchmarks.simulator.work import Record
from nvp_agentkit.settings import VOTERS
from nvp_agentkit.streams.intake import SUSPECT
from nvp_agentkit.streams.names import KEPT

WITHOUT_TTL = (b"nvp:{registry}:accounts", b"nvp:{ledger}:account:")
BUSY = (b"predict", b"jobs", b"urgent", b"cancel", b"ensemble", b"votes", b"deadlines")
DELIVERIES = 5
Joules = dict[str, int]


class Witnessed:
    """The store, and what every server-side function did to the accounts' joules."""

    def __init__(self, store: Store) -> None:
        self.store = store
        store.observers.append(self._saw)
        self.moved: dict[tuple[bytes, bytes], Joules] = {}
        self.wrong: list[str] = []
        self._last: dict[bytes, tuple[int, int]] = {}

    def forget(self) -> None:
        """The store has lost data: what was seen of it tells nothing any more."""
        self.moved.clear()
        self._last.clear()
        for key, held in self.store.values.items():
            kind, _, name = key.removeprefix(b"nvp:{ledger}:").partition(b":")
            if type(held) is not dict:
                continue
            if kind == b"account":
                self._last[key] = (int(held[b"spent"]), int(held[b"reserved"]))
            elif kind == b"reservation" and held[b"state"] != b"refused":
                account, _, one = name.partition(b":")
                granted, paid = int(held[b"granted"]), _paid(held)
                moved = {"granted": granted, "spent": paid, "returned": granted - paid - int(held[b"held"])}
                self.moved[b"nvp:{ledger}:account:" + account, one] = moved

    def waiting(self, account: str) -> list[bytes]:
        """Streams of requests that are not at their end, and the deadlines of those that still wait for votes."""
        found = []
        for suffix in BUSY:
            held = self.store.values.get(key := b"nvp:{%s}:%s" % (account.encode(), suffix))
            if (type(held) is Stream and held.entries) or (type(held) is SortedSet and held):
                found.append(key)
        return found

    def _saw(self, _: bytes, keys: list[bytes], args: list[bytes], __: Any) -> None:
        if len(keys) != 4 or keys[2] != b"nvp:{ledger}:open":
            return
        held = self.store.values.get(keys[0])
        if type(held) is not dict:
            return
        limit, spent, reserved = (int(held.get(name, b"0")) for name in (b"limit", b"spent", b"reserved"))
        before = self._last.get(keys[0], (0, 0))
        self._last[keys[0]] = (spent, reserved)
        if min(spent, reserved) < 0 or spent + reserved > limit:
            self.wrong.append(f"overrun: {spent} spent + {reserved} reserved of {limit} mJ")
        moved = self.moved.setdefault((keys[0], args[1]), {"granted": 0, "spent": 0, "returned": 0})
        d_spent, d_reserved = spent - before[0], reserved - before[1]
        if d_reserved + d_spent > 0:
            moved["granted"] += d_reserved + d_spent
        else:
            moved["returned"] -= d_reserved + d_spent
        moved["spent"] += d_spent


def wrong(plan: Plan, messages: Mapping[str, Message], record: Record, seen: Witnessed, *, quiet: bool) -> list[str]:
    """Every promise that was not kept, in words; none is the only good answer."""
    store = seen.store
    found = list(seen.wrong)
    if not quiet:
        found.append("still waiting at the end: " + b", ".join(seen.waiting("ace")).decode())
    found += [
        f"{entry.decode()} was taken over after {idle_ms} ms"
        for entry, idle_ms in store.taken_over
        if idle_ms < int(1000 * plan.lease_s)
    ]
    found += _pending(store)
    found += _for_ever(store)
    found += _joules(store, seen)
    found += promises.order(plan, store)
    told = _told(store)
    facts = _stream(store, b"lineage")
    for request_id, message in messages.items():
        must = record.accepted.get(request_id, -1.0) > record.lost_at
        # A message that kills its worker harms no neighbour; it only takes time.
        patient = message.deadline_s is None or message.deadline_s >= 60
        calm = plan.mild and _easy(message, plan) and not (plan.faults if patient else record.struck)
        found += [f"{request_id}: {one}" for one in _request(request_id, message, told, facts, must=must, calm=calm)]
        found += [f"{request_id}: {one}" for one in _work(request_id, message, plan, record, store)]
        found += [f"{request_id}: {one}" for one in promises.asked_again(request_id, messages, plan, record, store)]
    return found


def _easy(message: Message, plan: Plan) -> bool:
    """Nothing of its own keeps this one from being done, not even when it is done again (and paid again)."""
    voters = len(VOTERS) if message.kind == "quorum" else 1
    affordable = message.budget_mj >= message.used_mj * voters * (1 + _deaths(plan))
    timely = message.deadline_s is None or message.deadline_s >= 5
    wanted = message.fate == "done" and message.cancel_s is None
    return wanted and affordable and timely and message.differing < 2 and plan.limit_mj >= 1_000_000


def _deaths(plan: Plan) -> int:
    """How often a worker may die with others' work in hand: what it was at or settling is done again.

    A message that kills its workers is worked on alone once it is suspect.
    """
    return sum(min(one.times, SUSPECT) for one in plan.messages if one.fate == "deadly")


def _stream(store: Store, suffix: bytes) -> list[list[bytes]]:
    held = store.values.get(b"nvp:{ace}:" + suffix)
    return list(held.entries.values()) if isinstance(held, Stream) else []


def _told(store: Store) -> Counter[tuple[str, str]]:
    """(request, kind of answer) -> how often it went out on the stream of replies."""
    found: Counter[tuple[str, str]] = Counter()
    for flat in _stream(store, b"replies"):
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        found[fields[b"replyto"].decode(), fields[b"type"].decode().split(".")[2]] += 1
    return found


def _request(
    request_id: str,
    message: Message,
    told: Counter[tuple[str, str]],
    facts: list[list[bytes]],
    *,
    must: bool,
    calm: bool,
) -> list[str]:
    answers = {kind: count for (one, kind), count in told.items() if one == request_id}
    about = [flat[1] for flat in facts if f'"{request_id}"'.encode() in flat[1]]
    votes = sum(b'"label":"Vote"' in raw and b'"label":"Decision"' not in raw for raw in about)
    recorded = len(about) - votes
    total = sum(answers.values())
    if message.fate == "garbled":
        return ["was answered, though nobody can read it"] if total and message.cancel_s is None else []
    found = []
    if total > 1:
        found.append(f"was answered {total} times: {answers}")
    if total < 1 and must:
        found.append("was never answered")
    if votes > len(VOTERS):
        found.append(f"left {votes} votes")
    if answers.get("certified") and message.differing > 1:
        found.append("was certified, and two of three voters differ")
    if calm and total == 1 and not answers.keys() & {"completed", "certified"}:
        found.append(f"was answered as {answers}, and nothing was in its way")
    readable = message.kind != "job" or message.fate != "strange"
    unbegun = message.cancel_s is not None and recorded == 0  # then there is nothing to put on record
    if recorded > 1 or (recorded != total and readable and total == 1 and not unbegun):
        found.append(f"left {recorded} facts and {total} answers")
    return found


def _work(request_id: str, message: Message, plan: Plan, record: Record, store: Store) -> list[str]:
    """How often it was worked on, and what that cost."""
    found, runs = [], record.runs.get(request_id, [])
    done, voters = sum(run.ended for run in runs), len(VOTERS) if message.kind == "quorum" else 1
    if plan.mild and message.fate in ("done", "refused") and done > voters * (1 + _deaths(plan)):
        found.append(f"was done {done} times, and no worker lost its lease")
    if plan.alone and done > 1:
        found.append(f"was done {done} times by the one worker there was, which lived")
    if plan.mild and not plan.faults and any(run.silent >= SUSPECT and run.beside for run in runs):
        found.append("was worked on beside others, though it may be what kills its workers")
    if not plan.faults and plan.mild and len(runs) > DELIVERIES * voters:
        found.append(f"was worked on {len(runs)} times, {DELIVERIES} are enough")
    held = store.values.get(b"nvp:{ledger}:reservation:ace:" + request_id.encode())
    if type(held) is not dict or held[b"state"] == b"refused" or record.lost_at >= 0:
        return found
    found += promises.taken_back(request_id, message, plan, record, store, _paid(held))
    paid, used = _paid(held), sum(int(value) for name, value in held.items() if name.startswith(b"used:"))
    if not plan.faults and not record.struck and plan.mild and paid > sum(run.used_mj for run in runs):
        found.append(f"used {sum(run.used_mj for run in runs)} mJ, and {paid} were paid")
    if not record.struck and plan.mild and len(runs) == done == 1 and paid != min(message.used_mj, message.budget_mj):
        found.append(f"cost {message.used_mj} of {message.budget_mj} mJ and {paid} were paid")
    for kind, body in promises.answers(store, request_id).items():
        said = (body.get("energy") or {}).get("mj", used)
        # A worker that lost its lease may use joules as well, and settle them after the answer: that is the truth.
        known = said == used if plan.mild else message.used_mj <= said <= used
        if message.kind != "quorum" and b".completed." in kind and not (known or body.get("cached")):
            found.append(f"was said to cost {said} mJ, and {used} were settled")
    if message.kind == "predict" and used > sum(run.used_mj for run in runs):
        found.append(f"{used} mJ were settled, and {len(runs)} attempts cannot have used them")
    return found


def _pending(store: Store) -> list[str]:
    return [
        f"{key.decode()}: {len(group.pending)} pending in {name.decode()}"
        for key, held in store.values.items()
        if isinstance(held, Stream)
        for name, group in held.groups.items()
        if group.pending
    ]


def _for_ever(store: Store) -> list[str]:
    """Keys that nothing will ever remove."""
    return [
        f"{key.decode()} has no TTL"
        for key in store.values
        if key not in store.ends_ms
        and not key.startswith(WITHOUT_TTL)
        and key.decode().partition("}:")[2].removesuffix(":dead") not in KEPT
    ]


def _joules(store: Store, seen: Witnessed) -> list[str]:
    """Granted is spent and returned, to the millijoule, of each reservation and of all."""
    found = []
    for (account, name), moved in seen.moved.items():
        if moved["granted"] != moved["spent"] + moved["returned"]:
            found.append(f"joules of {name.decode()}: {json.dumps(moved)}")
        held = store.values.get(account.replace(b":account:", b":reservation:") + b":" + name)
        if type(held) is dict and held[b"state"] != b"refused":
            paid = _paid(held)
            if held[b"state"] == b"reaped" and moved["spent"] != _owed(held):
                found.append(f"reservation {name.decode()} was reaped at {moved['spent']} mJ: {held}")
            closed = held[b"state"] != b"open" and held[b"held"] == b"0"
            if not (closed and paid <= moved["spent"] <= int(held[b"granted"])):
                found.append(f"reservation {name.decode()}: {held}")
    for key, held in store.values.items():
        if key.startswith(b"nvp:{ledger}:account:") and type(held) is dict:
            spent = sum(moved["spent"] for (account, _), moved in seen.moved.items() if account == key)
            if int(held[b"reserved"]) or (seen.moved and int(held[b"spent"]) != spent):
                found.append(f"account {held}, {spent} mJ seen to be spent")
        elif key == b"nvp:{ledger}:open" and isinstance(held, SortedSet):
            found.append(f"reservations open for ever: {list(held)}")
    return found


def _owed(reservation: Any) -> int:
    """What a reaped one costs: its whole share for each part that has not said its last word, and is not at rest."""
    parts = int(reservation[b"parts"])
    final = {name[6:] for name in reservation if name.startswith(b"final:")}
    rested = {name[5:]: value for name, value in reservation.items() if name.startswith(b"rest:") and value}
    final |= {part for part, fence in rested.items() if fence == reservation.get(b"fence:" + part)}
    said = sum(int(reservation[b"paid:" + part]) for part in final)
    return said + (parts - len(final)) * (int(reservation[b"granted"]) // parts)


def _paid(reservation: Any) -> int:
    return sum(int(value) for name, value in reservation.items() if name.startswith(b"paid:"))
