"""Workers die, freeze and lose their store, by a seed: promises are kept, and code that breaks one is caught."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

import pytest

from benchmarks.simulator.history import Stage
from benchmarks.simulator.plan import Fault, Message, Plan
from benchmarks.simulator.shrink import shrink
from nvp_agentkit.energy import ledger
from nvp_agentkit.messages import PredictionCompleted
from nvp_agentkit.streams import Delivery, consumer, intake, scripts
from nvp_agentkit.streams.intake import Intake
from nvp_agentkit.streams.verdict import Rules
from nvp_agentkit.workers import refusals
from nvp_agentkit.workers.jobs import cancelling
from nvp_agentkit.workers.serving import same_question
from nvp_agentkit.workers.serving.same_question import Compute, Questions

COUNT = 60
# In the model: who waited for a call on its way waited for ever, a transaction came in parts, a call arrived after the
# last reaping. In the consumer: what was in hand was taken once more.
ONCE_WRONG = (344, 32706, 42075, 68271)
Broken = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage().open() as stage:
        yield stage


def test_no_history_loses_doubles_or_overruns(stage: Stage) -> None:
    wrong = {seed: found for seed in (*range(COUNT), *ONCE_WRONG) if (found := stage.play(Plan.of(seed)))}
    assert wrong == {}


def test_a_seed_is_one_history_to_the_last_call(stage: Stage) -> None:
    told: list[list[str]] = [[], []]
    for lines in told:
        for seed in range(5, 8):
            stage.play(Plan.of(seed), lines.append)
    assert told[0] == told[1]
    assert len(told[0]) > 100


def test_a_message_that_kills_each_of_its_workers_harms_no_neighbour(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadly = Message("predict", at_s=0.0, fate="deadly", times=9)
    neighbours = [Message("predict", at_s=0.0)] * 3
    plan = Plan(0, 2, 4, 0.4, 0.002, limit_mj=1_000_000, messages=(deadly, *neighbours), faults=())
    assert stage.play(plan) == []
    monkeypatch.setattr(intake, "SUSPECT", 9)
    assert "refused" in str(stage.play(plan))


def test_work_that_is_done_is_not_done_again_however_long_the_store_is_away(stage: Stage) -> None:
    """Whichever of its last calls the store leaves unanswered, and however long after the lease it comes back."""
    restarts = [
        Fault("restart", -1, at_s=0.15 + 0.001 * tick, for_s=for_s) for tick in range(40) for for_s in (0.5, 2.0, 20.0)
    ]
    message = Message("predict", 0.05, work_s=0.1, deadline_s=60.0)
    assert {plan: found for plan in plans(message, restarts, seeds=2) if (found := stage.play(plan))} == {}


def lua(name: str, line: str, instead: str) -> Broken:
    def broken(monkeypatch: pytest.MonkeyPatch) -> None:
        text, _ = source(name)
        assert line in text
        changed = text.replace(line, instead)
        found = changed, hashlib.sha1(changed.encode()).hexdigest()
        monkeypatch.setattr(scripts, "_source", lambda asked: found if asked == name else source(asked))

    source = scripts._source
    return broken


def ledger_lua(name: str, line: str, instead: str) -> Broken:
    def broken(monkeypatch: pytest.MonkeyPatch) -> None:
        assert line in source(name)
        changed = source(name).replace(line, instead)
        monkeypatch.setattr(ledger, "_source", lambda asked: changed if asked == name else source(asked))

    source = ledger._source
    return broken


def late_repeats_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was before a history found it: an entry was refused before anybody asked whose repeat it is."""
    receive = Rules.receive

    def received(rules: Rules, entry: object) -> object:
        found = receive(rules, entry)  # type: ignore[arg-type]
        return found if not hasattr(found, "event") else rules.admit(found)  # type: ignore[arg-type]

    monkeypatch.setattr(Rules, "receive", received)


def a_suspect_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was before a history found it: a batch was still being settled as what kills workers was begun."""
    monkeypatch.setattr(consumer, "are_suspect", lambda entries: False)


def plans(
    message: Message,
    faults: Iterable[Fault | None] = (None,),
    *,
    seeds: int = 1,
    workers: int = 1,
    lease_s: float = 0.4,
    slowest_s: float = 0.002,
) -> list[Plan]:
    """Histories of one message: one of ``faults`` in each, at several latencies."""
    return [
        Plan(seed, workers, 1, lease_s, slowest_s, 1_000_000, (message,), () if fault is None else (fault,))
        for fault in faults
        for seed in range(seeds)
    ]


def at(kind: str, *calls: int, for_s: float = 0.0) -> list[Fault]:
    """Something that happens to the first worker at one of its calls."""
    return [Fault(kind, 0, call=call, for_s=for_s) for call in range(*calls)]


def busy_beside_a_deadly_one() -> list[Plan]:
    """What kills its workers, and something to settle whenever that is begun."""
    deadly = Message("predict", 0.0, fate="deadly", times=9)
    others = [Message("predict", 0.06 * number) for number in range(1, 40)]
    return [Plan(seed, 1, 1, 0.4, 0.09, 1_000_000, (deadly, *others), ()) for seed in range(30)]


def said_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was before a history found it: a job had no last word."""
    for module in (refusals, cancelling):
        monkeypatch.setattr(module, "final_of_job", lambda job_id, deadline, done: done)


async def no_more(*args: object, **options: object) -> None:
    """Leaves out what was to be done."""


def nobody_waits_for_anothers_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def once(questions: Questions, delivery: Delivery, asked: str, compute: Compute) -> PredictionCompleted:
        return await compute()

    monkeypatch.setattr(Questions, "once", once)


def both(one: Broken, other: Broken) -> Broken:
    """Where either alone is harmless, for the other holds."""

    def broken(monkeypatch: pytest.MonkeyPatch) -> None:
        one(monkeypatch)
        other(monkeypatch)

    return broken


def breaks(owner: object, name: str, instead: object) -> Broken:
    return lambda monkeypatch: monkeypatch.setattr(owner, name, instead)


def one_plan(*messages: Message, batch: int = 1) -> list[Plan]:
    return [Plan(seed, 1, batch, 2.0, 0.002, 1_000_000, messages, ()) for seed in range(3)]


RUSH = [Message("job", 0.0, work_s=0.0, urgent=number % 2 > 0) for number in range(24)]
WAITS = (Message("job", 0.0, work_s=2.0), Message("job", 0.01, deadline_s=0.5, cancel_s=0.2))

BROKEN: dict[str, tuple[Broken, list[Plan]]] = {
    "completes what another worker has": (
        both(said_twice, lua("complete", "if mine(id) and newest(last_arg) then", "if newest(last_arg) then")),
        plans(Message("job", 0.05, work_s=0.3), at("freeze", 14, 20, for_s=1.2), seeds=4, workers=2),
    ),
    "takes a lease back that it lost": (
        lua("renew", "if mine.err or #mine == 0 then", "if mine.err then"),
        plans(Message("predict", 0.05, work_s=1.5), at("freeze", 9, 16, for_s=0.8), seeds=4, workers=2),
    ),
    "leaves with messages in hand": (
        lua("tidy", "info.pending == 0 and", ""),
        plans(Message("predict", 0.05, work_s=1.0), at("stop", 10, 12), seeds=2, workers=2),
    ),
    "works on every copy": (
        lua("claim", "found + 1] = says", "found + 1] = 1"), plans(Message("predict", 0.0, copies=3), seeds=3)
    ),
    "answers a copy that comes late": (
        both(said_twice, late_repeats_are_answered),
        plans(Message("job", 0.0, copies=2, deadline_s=0.3, work_s=0.5), seeds=3),
    ),
    "decides a quorum twice": (
        lua("complete", "'NX', 'EX', arg())", "'EX', arg())"),
        plans(Message("quorum", 0.0, deadline_s=5.0), seeds=5, workers=5),
    ),
    "reserves twice for one request": (
        ledger_lua("reserve", "    return begin(state)\nend", "    hold(mj) return begin(state)\nend"),
        plans(Message("predict", 0.05, work_s=0.3), at("kill", 12, 18), seeds=2),
    ),
    "lets a slow attempt take the fence": (
        ledger_lua("reserve", "if attempt < last then", "if false then"),
        plans(Message("job", 0.0, work_s=0.5), seeds=130, workers=2, lease_s=1.0, slowest_s=1.5),
    ),
    "lets urgent jobs wait": (breaks(Intake, "_by_rank", lambda intake: intake._kinds[::-1]), one_plan(*RUSH)),
    "lets others wait for urgent jobs for ever": (breaks(intake, "AGEING", 99), one_plan(*RUSH)),
    "speaks again of a job that was taken back": (said_twice, one_plan(*WAITS)),
    "works at what was taken back": (
        breaks(cancelling, "require_wanted", no_more),
        one_plan(Message("job", 0.0, work_s=1.0), Message("job", 0.01, work_s=0.1, cancel_s=0.2)),
    ),
    "does not stop where it is taken back": (
        breaks(cancelling, "LOOK_S", 9.0), one_plan(Message("job", 0.0, work_s=2.0, cancel_s=0.2))
    ),
    "computes the same twice at once": (
        nobody_waits_for_anothers_answer, one_plan(*[Message("predict", 0.0, question=1)] * 2, batch=2)
    ),
    "charges for what was computed before": (
        breaks(same_question, "_again", lambda told, request_id: told.model_copy(update={"cached": told.request_id})),
        one_plan(Message("predict", 0.0, question=1), Message("predict", 0.3, question=1)),
    ),
    "charges who ended in order as if it had died": (
        ledger_lua("reap", "and not at_rest(part)", ""), one_plan(Message("predict", 0.0, fate="flaky", times=9))
    ),
    "claims an id for what the store has lost": (
        lua("claim", "if not in_hand(stream, entry) then redis.call('DEL', id) end", ""),
        plans(Message("predict", 0.0, copies=9), [Fault("flush", -1, at_s=0.1)], seeds=30, lease_s=1.0, slowest_s=1.5),
    ),
    "begins what kills workers while it settles": (a_suspect_waits_for_nothing, busy_beside_a_deadly_one()),
    "reaps for nothing what was never settled": (
        ledger_lua("reap", "(parts - amount_of(reservation, 'seen')) * share", "0"),
        plans(Message("predict", 0.05, deadline_s=0.3, work_s=0.2), at("kill", 12, 18), seeds=2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN)
def test_a_worker_or_ledger_is_caught_that(stage: Stage, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    break_it, histories = BROKEN[broken]
    break_it(monkeypatch)
    caught = next(plan for plan in histories if stage.play(plan))
    monkeypatch.undo()
    assert stage.play(caught) == []


def test_a_history_that_goes_wrong_is_shrunk(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    both(said_twice, lua("claim", "found + 1] = says", "found + 1] = 1"))(monkeypatch)
    copied, other = Message("job", 0.3, copies=3, work_s=0.5), Message("job", 0.0)
    plan = Plan(0, 3, 4, 1.0, 0.05, 10**6, (other, copied, other), (Fault("cut", 1, call=9), Fault("stop", 0, call=12)))
    assert stage.play(plan)
    least = shrink(plan, stage.play)
    assert stage.play(least)
    assert (len(least.messages), least.faults, least.workers, least.batch) == (1, (), 1, 1)
    assert least.messages[0].copies > 1
