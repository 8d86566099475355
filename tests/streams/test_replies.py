"""Being answered: at once, late, twice, after a reconnect, or told in time that nothing comes."""

from __future__ import annotations

import asyncio
import time

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from nvp_agentkit.errors import DeadlineExceeded, InvalidInput, StackNotRunning, StoreUnavailable, UnknownAccount
from nvp_agentkit.messages import JobProgressed, new_event
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import Completion, ReplyReader, connect, emit, known, names, publish, register, require
from nvp_agentkit.streams.health import announce, keep_announcing, workers
from nvp_agentkit.streams.progress import follow, report

ANSWERED = "nvp.prediction.abstained.v1"
TYPES = ("nvp.prediction.completed.v1", ANSWERED)


async def test_a_waiting_client_is_answered_within_milliseconds(bench):
    bench.start()
    async with ReplyReader(bench.redis, bench.account) as replies:
        for command in ("xreadgroup", "xread"):  # the worker waits, and so does the reader
            await bench.eventually(lambda command=command: bench.blocked(command))
        events = [bench.request() for _ in range(20)]
        began = time.monotonic()
        waiting = [asyncio.create_task(replies.wait(event.id, TYPES, timeout_s=20)) for event in events]
        for event in events:
            await bench.ask(event)
        found = await asyncio.gather(*waiting)
        assert [reply.replyto for reply in found] == [event.id for event in events]
        assert time.monotonic() - began < 3  # a missed wake-up would cost 5 s


async def test_more_requests_than_connections_wait_for_their_turn(bench, valkey):
    bench.start(batch=100)
    redis = await connect(Settings(redis_url=valkey))
    async with redis, ReplyReader(redis, bench.account) as replies:
        events = [bench.request() for _ in range(300)]
        waiting = [asyncio.create_task(replies.wait(event.id, TYPES, timeout_s=30)) for event in events]
        await asyncio.gather(*(publish(redis, bench.account, "predict", event) for event in events))
        assert len(await asyncio.gather(*waiting)) == 300


async def test_a_late_client_still_finds_its_answer(bench):
    bench.start()
    event = await bench.ask()
    await bench.reply(event)
    async with ReplyReader(bench.redis, bench.account) as replies:
        assert (await replies.wait(event.id, TYPES, timeout_s=5)).replyto == event.id


async def test_a_reply_of_another_type_does_not_end_the_wait(bench):
    bench.start()
    event = await bench.ask()
    async with ReplyReader(bench.redis, bench.account) as replies:
        with pytest.raises(DeadlineExceeded, match=r"no reply within 0\.5 s"):
            await replies.wait(event.id, TYPES[:1], timeout_s=0.5)


async def test_nobody_answers_and_the_client_is_told_at_its_deadline(bench):
    async with ReplyReader(bench.redis, bench.account) as replies:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="`nvp status`"):
            await replies.wait("r-none", TYPES, timeout_s=0.4)
        assert 0.4 <= time.monotonic() - began < 1.0


async def test_a_server_that_hangs_does_not_hold_a_client_past_its_deadline(account):
    async def silent(reader, writer):
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with (
        Redis(port=port, socket_timeout=None, retry=Retry(NoBackoff(), 0)) as redis,
        ReplyReader(redis, account) as replies,
    ):
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"away after 0\.5 s"):
            await replies.wait("r-1", TYPES, timeout_s=0.5)
        assert time.monotonic() - began < 1.5
        with pytest.raises(DeadlineExceeded):
            async for _ in follow(redis, account, "job-1", finals=TYPES, timeout_s=0.5):
                pass
    server.close()
    await server.wait_closed()


async def looks(redis: Redis) -> int:
    """How often the server was asked for answers."""
    return (await redis.info("commandstats")).get("cmdstat_hmget", {"calls": 0})["calls"]


async def test_a_reply_that_the_stream_has_lost_is_found_all_the_same(bench, monkeypatch):
    monkeypatch.setattr("nvp_agentkit.streams.replies.LOOK_S", 0.2)
    event = bench.request()
    async with ReplyReader(bench.redis, bench.account) as replies:
        before = await looks(bench.redis)
        waiting = asyncio.create_task(replies.wait(event.id, TYPES, timeout_s=10))

        async def looked() -> bool:
            return await looks(bench.redis) > before

        await bench.eventually(looked)  # in vain
        await bench.redis.hset(names.answers(bench.account, event.id), ANSWERED, event.encode())
        await bench.redis.expire(names.answers(bench.account, event.id), 60)
        assert (await asyncio.wait_for(waiting, 5)).id == event.id


async def test_an_answer_is_taken_from_the_stream_that_brings_it(bench):
    event = bench.request()
    brought = {"event": event.encode(), "replyto": event.id, "type": ANSWERED}
    async with ReplyReader(bench.redis, bench.account) as replies:
        waiting = asyncio.create_task(replies.wait(event.id, TYPES, timeout_s=10))
        while not waiting.done():  # until the reader has begun
            await bench.redis.xadd(names.replies(bench.account), brought)
            await asyncio.wait([waiting], timeout=0.05)
        assert (await waiting).id == event.id
        assert not await bench.redis.exists(names.answers(bench.account, event.id))


async def test_a_job_s_story_is_told_from_its_first_line_to_its_final_reply(bench):
    def line(step: int):
        told = JobProgressed(job_id="j-1", phase="train", step=step, used_mj=1, granted_mj=2, method="modelled")
        return new_event(told, source="training")

    seen = []

    async def listen():
        async for event in follow(bench.redis, bench.account, "j-1", finals=TYPES, timeout_s=20):
            seen.append(event.data.get("step", "final"))

    await report(bench.redis, bench.account, "j-1", line(1))
    listening = asyncio.create_task(listen())
    await bench.eventually(lambda: asyncio.sleep(0, seen == [1]))
    await report(bench.redis, bench.account, "j-1", line(2))
    await report(bench.redis, bench.account, "j-1", line(3))
    final = new_event(bench.request().payload, source="training", replyto="j-1").model_copy(update={"type": ANSWERED})
    began = time.monotonic()
    await emit(bench.redis, bench.account, Completion(replies=(final,)))
    await asyncio.wait_for(listening, 10)
    assert seen == [1, 2, 3, "final"]
    assert time.monotonic() - began < 0.5  # woken by the reply, not by the end of a blocked read


async def test_an_account_is_known_once_registered_and_its_first_owner_stays(redis, account):
    with pytest.raises(UnknownAccount, match=f"nvp account create {account}"):
        await require(redis, account)
    await register(redis, account, owner="first")
    await register(redis, account, owner="second")
    await require(redis, account)
    assert account in await known(redis)
    assert b"first" in await redis.hget(names.ACCOUNTS, account)
    groups = [group["name"].decode() for group in await redis.xinfo_groups(names.key(account, "ensemble"))]
    assert sorted(groups) == sorted(names.GROUPS["ensemble"])


@pytest.mark.parametrize("name", ["", "Ace", "a}b", "a:b", "-a", "a" * 64])
async def test_a_name_that_could_reach_other_keys_is_no_account(redis, name):
    with pytest.raises(ValueError, match="a name has 1 to 63"):
        await register(redis, name, owner="tests")


async def test_no_server_is_a_clear_error_that_keeps_the_password_to_itself(unused_tcp_port):
    with pytest.raises(StackNotRunning, match="`nvp up`"):
        await connect(Settings())
    with pytest.raises(StoreUnavailable) as raised:
        await connect(Settings(redis_url=f"redis://:secret@127.0.0.1:{unused_tcp_port}/0"))
    assert f"127.0.0.1:{unused_tcp_port}" in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("url", ["rubbish", "redis://:secret@127.0.0.1:port", "redis://:secret@[::1", "redis://h:99999"])
async def test_an_address_that_is_none_is_refused_with_the_form_of_one(url):
    with pytest.raises(InvalidInput, match=r"NVP_REDIS_URL cannot be read.*; write redis://") as raised:
        await connect(Settings(redis_url=url))
    assert "secret" not in str(raised.value)


async def test_a_wrong_password_is_a_clear_error(valkey):
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await connect(Settings(redis_url=valkey, account="ace", account_password="wrong"))


async def test_publishing_to_a_server_that_is_away_is_our_error(unused_tcp_port, bench):
    async with Redis(port=unused_tcp_port, retry=Retry(NoBackoff(), 0)) as redis:
        with pytest.raises(StoreUnavailable):
            await publish(redis, bench.account, "predict", bench.request())


async def test_workers_are_seen_while_they_announce_themselves_and_gone_when_they_sign_off(bench):
    redis, account = bench.redis, bench.account

    async def seen():
        return [worker for worker in await workers(redis) if worker.name == account]

    said = ["starting"]
    stop = asyncio.Event()
    beating = asyncio.create_task(keep_announcing(redis, account, "here", "inference", lambda: (said[0], "why"), stop))
    try:
        await bench.eventually(seen)
        said[0] = "ready"

        async def ready():
            return [worker for worker in await seen() if worker.state == "ready"]

        (worker,) = await bench.eventually(ready, within_s=1.5)  # a change is said at once, not at the next beat
        assert (worker.kind, worker.detail) == ("inference", "why")
        assert 0 < await redis.ttl(names.worker(account, "here")) <= 10
    finally:
        stop.set()
        await beating
    assert await seen() == []
    for instance, state in (("here", "draining"), ("there", "ready")):
        await announce(redis, account, instance, "inference", state)
    assert [(worker.instance, worker.state) for worker in await seen()] == [("here", "draining"), ("there", "ready")]
    await redis.delete(names.worker(account, "here"), names.worker(account, "there"))


async def test_a_heartbeat_that_the_server_refuses_ends_no_worker(bench, caplog):
    redis, name, stop = bench.redis, bench.account, asyncio.Event()
    key = names.worker(name, "here")
    await redis.set(key, "no hash", ex=60)
    beating = asyncio.create_task(keep_announcing(redis, name, "here", "tally", lambda: ("ready", ""), stop))
    await bench.eventually(lambda: asyncio.sleep(0, f"heartbeat of {name} not sent" in caplog.text))
    await redis.delete(key)

    async def seen():
        return await redis.hget(key, "state")

    assert await bench.eventually(seen) == b"ready"
    stop.set()
    await beating
