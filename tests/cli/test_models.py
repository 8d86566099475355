"""``nvp models``: who serves, and letting another one; a test in the worker's place."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from nvp_agentkit.ensemble import EnsembleRecord, Member
from nvp_agentkit.ensemble.service import Change
from nvp_agentkit.messages import ObjectRef, ServiceChanged, ServiceChangeRefused, new_event
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import Completion, emit, register
from nvp_agentkit.streams.queue import waiting

OLD, NEW = ("sha256:" + digit * 64 for digit in "12")
RECORD = EnsembleRecord(
    domain="rain", members=(Member(voter="voter-0", model_id="m", weights=ObjectRef(uri="a:b", digest=OLD, bytes=1)),)
)


@pytest.fixture
async def served(nvp, redis: Redis, account: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> str:
    """An account with two changes of its domain ``rain``, which the command line leads to."""
    monkeypatch.setenv("NVP_REDIS_URL", str(settings.redis_url))
    monkeypatch.setenv("NVP_ACCOUNT", account)
    await register(redis, account, owner="tests")
    for change in (
        Change(place="champion", ensemble=NEW, over=OLD, by="job", why="VRMSE 0.1 against 0.2"),
        Change(place="challenger", ensemble=OLD, share=0.25, by="request", why=f"asked for over {NEW}"),
    ):
        dated = (("models", "service:rain", change.model_dump_json(exclude_none=True)),)
        await emit(redis, account, Completion(dated=dated))
    return account


async def test_who_serves_is_listed_with_every_change_and_its_reason(served, nvp, redis: Redis) -> None:
    said = (await asyncio.to_thread(nvp, "models", "list")).out.splitlines()
    assert said[:4] == [
        f"rain@champion   {NEW}", f"rain@challenger {OLD}", f"rain@previous   {OLD}",
        "the challenger answers 25% of the requests",
    ]  # fmt: skip
    assert [line[21:] for line in said[4:]] == [
        f"challenger (25%) {OLD[:19]}...: asked for over {NEW[:19]}...",
        f"champion {NEW[:19]}...: VRMSE 0.1 against 0.2"]  # fmt: skip
    told = (await asyncio.to_thread(nvp, "models", "list", "rain", "--json")).json["rain"]
    assert (told["champion"], told["challenger"], told["share"], told["previous"]) == (NEW, OLD, 0.25, OLD)
    assert [change["by"] for change in told["changes"]] == ["job", "request"]
    unknown = await asyncio.to_thread(nvp, "models", "list", "snow", "--json")
    assert (unknown.status, unknown.json["error"]) == (1, "unknown_model")
    await redis.delete(f"nvp:{{{served}}}:models")
    assert "nothing serves" in (await asyncio.to_thread(nvp, "models", "list")).out
    await redis.hset(f"nvp:{{{served}}}:models", "rain", RECORD.model_dump_json())  # from before changes were kept
    assert (await asyncio.to_thread(nvp, "models", "list")).out == f"rain@champion   {RECORD.digest}\n"


@pytest.mark.parametrize(
    ("words", "model", "share"),
    [
        (("promote", "rain"), "@challenger", None),
        (("promote", "rain", OLD, "--share", "0.1"), OLD, 0.1),
        (("promote", "rain", OLD, "--force"), OLD, None),
        (("rollback", "rain"), "@previous", None),
    ],
)
async def test_what_is_asked_for_is_published_and_the_worker_s_answer_told(
    words, model, share, served, nvp, redis: Redis
) -> None:
    running = asyncio.create_task(asyncio.to_thread(nvp, "models", *words, "--reason", "better fronts"))
    async with asyncio.timeout(20):
        while not (events := await waiting(redis, served, "service")):
            await asyncio.wait({running}, timeout=0.05)
    asked = events[0].payload
    assert (asked.domain, asked.model, asked.share, asked.reason) == ("rain", model, share, "better fronts")
    assert asked.force is ("--force" in words)
    stands = {"challenger": OLD, "share": share} if share else {"previous": OLD}
    reply = ServiceChanged(request_id=events[0].id, domain="rain", champion=NEW, cold=("shadow-1@x",), **stands)
    await emit(redis, served, Completion(replies=(new_event(reply, source="tests", replyto=events[0].id),)))
    first, second, third = (await running).out.splitlines()
    assert first == f"rain: {NEW} serves"
    assert second.strip() == (
        f"{OLD} answers 10% of the requests" if share else f"`nvp models rollback rain` has {OLD} serve again"
    )
    assert third.strip() == "not compiled yet by shadow-1@x: their first answers may wait for that"


async def test_a_refusal_is_told_as_the_error_that_it_is(served, nvp, redis: Redis) -> None:
    running = asyncio.create_task(asyncio.to_thread(nvp, "models", "promote", "rain", "--json"))
    async with asyncio.timeout(20):
        while not (events := await waiting(redis, served, "service")):
            await asyncio.wait({running}, timeout=0.05)
    reply = ServiceChangeRefused(request_id=events[0].id, code="unknown_model", detail="rain has no challenger")
    await emit(redis, served, Completion(replies=(new_event(reply, source="tests", replyto=events[0].id),)))
    told = await running
    assert (told.status, told.json) == (1, {"error": "unknown_model", "detail": "rain has no challenger"})
    whole = await asyncio.to_thread(nvp, "models", "promote", "rain", "--share", "1", "--json")
    assert whole.json["detail"].startswith("share=1.0: input should be less than 1")
