"""What must be so of jobs that go before others, of jobs that are taken back, of questions that are asked again."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any

from benchmarks.simulator.plan import Message, Plan
from benchmarks.simulator.store import Store
from benchmarks.simulator.work import STEP_S, Record
from nvp_agentkit.errors import Cancelled
from nvp_agentkit.streams.intake import AGEING
from nvp_agentkit.workers.jobs.cancelling import LOOK_S

SLACK_S = 0.1
OUT_OF_TURN = 2  # others in a stretch beyond their share: where it begins, and one that was read beside an urgent one


def order(plan: Plan, store: Store) -> Iterator[str]:
    """While both wait three urgent ones go to one other; a read that fails has its turn as well."""
    by_reader: dict[bytes, list[tuple[bool, bool]]] = defaultdict(list)
    for reader, key, other_waits in store.handed:
        by_reader[reader].append((other_waits, key.endswith(b":urgent")))
    for read in by_reader.values() if not plan.faults else ():
        for both_wait, stretch in groupby(read, key=itemgetter(0)):
            urgent = [one for _, one in stretch]
            if both_wait and len(urgent) - sum(urgent) > len(urgent) // AGEING + OUT_OF_TURN:
                yield f"of {len(urgent)} jobs only {sum(urgent)} were urgent ones, though such waited"
            if both_wait and any(one and len(list(row)) >= AGEING for one, row in groupby(urgent)):
                yield f"{AGEING} urgent jobs in a row, though others waited"


def taken_back(
    request_id: str, message: Message, plan: Plan, record: Record, store: Store, paid_mj: int
) -> Iterator[str]:
    """A job that is wanted no more is not begun, or ends at its next step and pays the steps that were."""
    runs, said_at = record.runs.get(request_id, []), record.cancelled.get(request_id)
    if paid_mj and answers(store, request_id).get(b"nvp.job.refused.v1", {}).get("code") == Cancelled.code:
        yield f"was said to be taken back before it began, and {paid_mj} mJ were paid"
    if said_at is None or plan.faults or not plan.mild or record.struck:
        return
    within_s = LOOK_S + STEP_S + 8 * plan.slowest_s + SLACK_S
    if any(run.ended and run.over_s > said_at + within_s for run in runs):
        yield f"went on after it was taken back at {said_at:.2f} s"
    if len(runs) == 1 and message.fate == "done" and paid_mj != min(runs[0].used_mj, message.budget_mj):
        yield f"used {runs[0].used_mj} mJ before it was taken back, and {paid_mj} were paid"


def asked_again(
    request_id: str, messages: Mapping[str, Message], plan: Plan, record: Record, store: Store
) -> Iterator[str]:
    """A question is computed once at a time; who is told what another was told pays nothing."""
    message, runs = messages[request_id], record.runs.get(request_id, [])
    if any(run.together for run in runs):
        yield "was computed while the same question was"
    said = answers(store, request_id).get(b"nvp.prediction.completed.v1")
    origin = said and said.get("cached")
    if not said or not origin:
        return
    if origin == request_id or messages[origin].question != message.question or not message.question:
        yield f"was told what {origin} was, which asked something else"
    if said["energy"]["mj"]:
        yield f"was said to cost {said['energy']['mj']} mJ, though {origin} paid for it"
    first = answers(store, origin).get(b"nvp.prediction.completed.v1")
    if plan.mild and not record.struck and (first is None or first.get("cached")):
        yield f"was told what {origin} was, which was told {first}"


def answers(store: Store, request_id: str) -> dict[bytes, Any]:
    """Kind of answer -> its body, of those that are kept."""
    held = store.values.get(b"nvp:{ace}:reply:" + request_id.encode())
    found: dict[bytes, Any] = held if type(held) is dict else {}
    return {kind: json.loads(raw)["data"] for kind, raw in found.items()}
