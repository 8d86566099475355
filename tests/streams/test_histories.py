"""Workers die, freeze and lose their store, by a seed: promises are kept, and code that breaks one is caught."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import pytest

from benchmarks.simulator.history import Stage
from benchmarks.simulator.plan import Plan
from benchmarks.simulator.shrink import shrink
from nvp_agentkit.energy import ledger
from nvp_agentkit.streams import scripts
from nvp_agentkit.streams.verdict import Rules

COUNT = 120
Broken = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage().open() as stage:
        yield stage


def first_wrong(stage: Stage, seeds: range) -> Plan | None:
    return next((plan for plan in map(Plan.of, seeds) if stage.play(plan)), None)


def test_no_history_loses_doubles_or_overruns(stage: Stage) -> None:
    wrong = {seed: found for seed in range(COUNT) if (found := stage.play(Plan.of(seed)))}
    assert wrong == {}


def test_a_seed_is_one_history_to_the_last_call(stage: Stage) -> None:
    told: list[list[str]] = [[], []]
    for lines in told:
        stage.play(Plan.of(5), lines.append)
        stage.play(Plan.of(6), lines.append)
    assert told[0] == told[1]
    assert len(told[0]) > 50


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
    """As it was before a simulated history found it: an entry was refused before anybody asked whose repeat it is."""
    receive = Rules.receive

    def received(rules: Rules, entry: object) -> object:
        found = receive(rules, entry)  # type: ignore[arg-type]
        return found if not hasattr(found, "event") else rules.admit(found)  # type: ignore[arg-type]

    monkeypatch.setattr(Rules, "receive", received)


BROKEN: dict[str, tuple[Broken, range]] = {
    "completes what another worker has": (
        lua("complete", "if mine(id) and newest(last_arg) then", "if newest(last_arg) then"), range(445, 455)
    ),
    "takes a lease back that it lost": (
        lua("renew", "if mine.err or #mine == 0 then", "if mine.err then"), range(300, 330)
    ),
    "works on every copy": (lua("claim", "mine[i] = ", "mine[i] = 1 or "), range(20)),
    "leaves with messages in hand": (lua("tidy", "info.pending == 0 and", ""), range(40)),
    "answers a copy that comes late": (late_repeats_are_answered, range(150, 200)),
    "reserves twice for one request": (
        ledger_lua("reserve", "    return begin(state)\nend", "    hold(mj) return begin(state)\nend"), range(20)
    ),
    "lets a slow attempt take the fence": (
        ledger_lua("reserve", "if attempt < last then", "if false then"), range(7610, 7620)
    ),
    "reaps for nothing what was never settled": (
        ledger_lua("reap", "(parts - amount_of(reservation, 'seen')) * share", "0"), range(40)
    ),
}  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN)
def test_a_worker_or_ledger_is_caught_that(stage: Stage, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    break_it, seeds = BROKEN[broken]
    assert first_wrong(stage, seeds) is None
    break_it(monkeypatch)
    assert first_wrong(stage, seeds) is not None


def test_a_history_that_goes_wrong_is_shrunk(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    lua("claim", "mine[i] = ", "mine[i] = 1 or ")(monkeypatch)
    plan = next(
        plan for plan in map(Plan.of, range(200)) if len(plan.messages) > 1 and plan.faults and stage.play(plan)
    )
    least = shrink(plan, stage.play)
    assert stage.play(least)
    assert (len(least.messages), least.faults, least.workers, least.batch) == (1, (), 1, 1)
    assert least.messages[0].copies > 1
