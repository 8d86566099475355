"""``nvp jobs``: what waits, and taking it back."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from nvp_agentkit.errors import StoreUnavailable
from nvp_agentkit.messages import JobRequested, SimulateSpec, new_event
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import Completion, Consumer, Delivery, one_by_one, publish, register
from nvp_agentkit.streams.queue import waiting


@pytest.mark.parametrize("suffix", ["jobs", "urgent"])
async def test_a_job_that_waits_is_listed_and_can_be_taken_back(
    suffix: str, nvp, redis: Redis, settings: Settings, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVP_REDIS_URL", str(settings.redis_url))
    await register(redis, account, owner="tests")
    spec = SimulateSpec(domain="plasma_physics")
    asked = new_event(JobRequested(spec=spec), source="nvp:agent:tests", budget_mj=5_000)
    await redis.xadd(f"nvp:{{{account}}}:{suffix}", {"event": b"no message"})
    await publish(redis, account, suffix, asked)
    said = f"job {asked.id} of {account}: queued, 0.0 J of at most 5.0 J"
    for words in (("jobs", "list"), ("status",)):
        assert said in (await asyncio.to_thread(nvp, *words)).out
    taken = await asyncio.to_thread(nvp, "jobs", "cancel", asked.id, "--reason", "wrong data", "--json")
    assert (taken.json["account"], taken.json["phase"]) == (account, "queued")
    (event,) = await waiting(redis, account, "cancel")
    assert (event.payload.job_id, event.payload.reason) == (asked.id, "wrong data")
    refused = await asyncio.to_thread(nvp, "jobs", "cancel", "nobody", "--json")
    assert (refused.status, refused.json["error"]) == (1, "unknown_name")


async def test_a_job_that_was_taken_and_has_told_nothing_yet_is_listed_and_can_be_taken_back(
    nvp, redis: Redis, settings: Settings, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVP_REDIS_URL", str(settings.redis_url))
    await register(redis, account, owner="tests")
    spec, begun, again = SimulateSpec(domain="plasma_physics"), asyncio.Event(), asyncio.Event()

    async def handle(delivery: Delivery) -> Completion:
        begun.set()  # an artifact is being fetched, say
        await again.wait()
        raise StoreUnavailable("the graph is away")  # and then it waits for its next attempt

    consumer = Consumer(
        redis, kind="jobs", group="training", name="w", handle=one_by_one(handle), refuse=lambda *_: Completion(),
        lease_s=30.0,
    )  # fmt: skip
    stop = asyncio.Event()
    working = asyncio.create_task(consumer.run(stop))
    asked = new_event(JobRequested(spec=spec), source="nvp:agent:tests", budget_mj=5_000)
    await publish(redis, account, "jobs", asked)
    async with asyncio.timeout(20):
        await begun.wait()
    said = f"job {asked.id} of {account}: taken, 0.0 J of at most 5.0 J"
    listed = (await asyncio.to_thread(nvp, "jobs", "list")).out
    again.set()
    async with asyncio.timeout(20):
        while not consumer.counts["retried"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    stop.set()
    await working
    assert [line for line in listed.splitlines() if account in line] == [said]
    assert said in (await asyncio.to_thread(nvp, "jobs", "list")).out
    taken = await asyncio.to_thread(nvp, "jobs", "cancel", asked.id, "--json")
    assert (taken.status, taken.json["phase"]) == (0, "taken")
    (event,) = await waiting(redis, account, "cancel")
    assert event.payload.job_id == asked.id
