"""`benchmarks fuzz_messages` calls a request silent where nothing will ever be said to it, and only there."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from benchmarks import fuzz_messages
from benchmarks.fuzz_messages import Fuzzing
from benchmarks.mutations import Mutated
from benchmarks.real_events import FORECAST
from nvp_agentkit.ensemble import init_keys
from nvp_agentkit.messages import new_event
from nvp_agentkit.settings import VOTERS, Settings
from nvp_agentkit.streams import Delivery, names, register
from nvp_agentkit.workers.system import bootstrap
from nvp_agentkit.workers.tally import Tally


async def test_a_quorum_request_without_a_deadline_waits_an_hour_for_votes_and_one_on_no_file_for_nothing(
    redis: Redis, account: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz_messages, "ACCOUNT", account)
    monkeypatch.setattr(fuzz_messages, "LATE_S", 0.0)
    init_keys(settings.keys_dir, (*VOTERS, "tally"))
    await register(redis, account, owner="tests")
    on_file, forgotten = (new_event(FORECAST, source="tests", id=name) for name in ("on-file", "forgotten"))
    fuzzing, stop = Fuzzing(redis, redis, None, seed=1), asyncio.Event()  # type: ignore[arg-type]  # it draws no events
    async with bootstrap("tally", settings) as system, asyncio.TaskGroup() as group:
        tally = Tally(system)
        group.create_task(tally.sweep(stop))
        await tally.open(Delivery(account, names.key(account, "ensemble"), "1-0", on_file, 1))
        for place, event in enumerate((on_file, forgotten)):
            said_to_be = {b"event": event.encode(), b"replayed": b"tally 3 1-1"}
            fuzzing._end(("ensemble", f"{place}-1"), Mutated("ensemble", said_to_be, ()), None, [])
        assert fuzzing.seen.ends.total() == 0  # neither is at its end
        await fuzzing.wait_for_deadlines(0.0)
        stop.set()
    assert fuzzing.seen.ends == {"answered": 1, "silent": 1, "defect": 0}
    assert "forgotten" in fuzzing.seen.wrong[0]
    assert fuzzing.seen.hastened == 1
