"""A server that forgets, is full, fails over or stalls under load: what is kept and lost, and what callers are told."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from nvp_agentkit.embedded import valkey as embedded_valkey
from nvp_agentkit.embedded.server import Server
from nvp_agentkit.errors import DeadlineExceeded, StoreUnavailable
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import ReplyReader, connect, register
from tests.relay import Relay

ACCOUNT, ANSWERED = "tests", "nvp.prediction.abstained.v1"
LEASE_S = 0.4


class Servers:
    """Servers with one password, and an address that leads to any of them."""

    def __init__(self, folder: Path, program: str) -> None:
        self._folder, self._program = folder, program
        self.running: list[Server] = []
        self.relays: list[Relay] = []
        self._address = Relay("")

    async def start(self, name: str, *, appendfsync: str = "no") -> Server:
        """Start the server ``name``, perhaps once more."""
        folder = self._folder / name
        if self.running and not folder.exists():
            folder.mkdir()
            shutil.copy(next(self._folder.glob("*/password")), folder)
        started = await embedded_valkey.start(folder, appendfsync=appendfsync, program=self._program)
        self.running.append(started)
        return started

    async def through(self, server: Server) -> Relay:
        """A relay to ``server``."""
        self.relays.append(Relay(embedded_valkey.url(server)))
        await self.relays[-1].mend()
        return self.relays[-1]

    async def move(self, server: Server) -> str:
        """Let the one address lead to ``server`` from now on; the URL of it."""
        if self._address.port:
            await self._address.cut()
        self._address = Relay(embedded_valkey.url(server), self._address.port)
        await self._address.mend()
        return at(server, self._address.port)

    async def end(self) -> None:
        if self._address.port:
            await self._address.cut()
        for relay in self.relays:
            await relay.cut()
        for server in self.running:
            await server.stop()


def at(server: Server, port: int) -> str:
    return embedded_valkey.url(server).replace(f":{server.port}/", f":{port}/")


async def kill(server: Server) -> None:
    os.kill(server.process.pid, signal.SIGKILL)
    await asyncio.to_thread(server.process.wait)


@pytest.fixture
async def servers(tmp_path: Path, redis_program: str) -> AsyncIterator[Servers]:
    servers = Servers(tmp_path, redis_program)
    yield servers
    await servers.end()


@pytest.fixture
async def work_on(servers: Servers, bench_at: Any) -> AsyncIterator[Callable[[str], Awaitable[Any]]]:
    """``await work_on(url)``: a `Bench` there, whose account is known."""
    benches: list[Any] = []

    async def begin(url: str) -> Any:
        redis = await connect(Settings(redis_url=url))
        await register(redis, ACCOUNT, owner="tests")
        benches.append(bench_at(redis, ACCOUNT))
        return benches[-1]

    yield begin
    for bench in benches:
        for stop, _ in bench.stops:
            stop.set()
    await asyncio.gather(*(task for bench in benches for _, task in bench.stops))
    for bench in benches:
        await bench.redis.aclose()


async def test_functions_that_are_flushed_under_load_are_told_again_and_nothing_is_done_twice(servers, work_on):
    bench = await work_on(embedded_valkey.url(await servers.start("one")))
    runs = []

    async def handle(delivery):
        runs.append(delivery.request_id)
        await bench.redis.script_flush()
        return bench.answered(delivery)

    asked = [await bench.ask() for _ in range(12)]
    bench.each(handle, batch=3, lease_s=15.0)  # a busy machine is no silent worker
    for event in asked:
        await bench.reply(event)
    assert sorted(runs) == sorted(event.id for event in asked)


async def test_what_a_flush_took_under_load_is_done_when_it_is_asked_again(servers, work_on):
    bench = await work_on(embedded_valkey.url(await servers.start("one")))
    flushed = asyncio.Event()

    async def handle(delivery):
        if not flushed.is_set():
            flushed.set()
            await bench.redis.flushall()
        return bench.answered(delivery)

    asked = [await bench.ask() for _ in range(3)]
    consumer = bench.each(handle)
    await bench.eventually(lambda: asyncio.sleep(0, consumer.counts["lost"]))
    await register(bench.redis, bench.account, owner="tests")
    async with ReplyReader(bench.redis, bench.account) as replies:
        with pytest.raises(DeadlineExceeded, match="no reply within"):
            await replies.wait(asked[0].id, [ANSWERED], timeout_s=0.2)
    for event in asked:
        await bench.ask(event)
        await bench.reply(event)
        assert await bench.replies(event) == [ANSWERED.encode()]


async def test_a_server_without_memory_refuses_what_is_asked_and_keeps_what_it_has_taken(servers, work_on):
    bench = await work_on(embedded_valkey.url(await servers.start("one")))
    runs = []

    async def handle(delivery):
        runs.append(delivery.attempt)
        await bench.redis.config_set("maxmemory", 1)
        return bench.answered(delivery)

    event = await bench.ask()
    consumer = bench.each(handle, lease_s=LEASE_S)
    await bench.eventually(lambda: asyncio.sleep(0, "recovering" in consumer.detail))
    assert consumer.state == "starting"
    with pytest.raises(StoreUnavailable, match="used memory > 'maxmemory'"):
        await bench.ask()
    assert await bench.replies(event) == []
    await bench.redis.config_set("maxmemory", 0)
    await bench.reply(event)
    assert (runs, await bench.replies(event)) == ([1], [ANSWERED.encode()])


async def test_a_worker_that_starts_at_a_server_without_memory_says_so_until_there_is_room(servers, work_on):
    bench = await work_on(embedded_valkey.url(await servers.start("one")))
    await bench.redis.config_set("maxmemory", 1)
    consumer = bench.consumer()
    said = []

    async def told_again():
        said.append(consumer.state)
        return consumer.counts["recovered"] > 1

    bench.run(consumer)
    await bench.eventually(told_again)
    assert "used memory > 'maxmemory'" in consumer.detail
    await bench.redis.config_set("maxmemory", 0)
    await bench.reply(await bench.ask())
    assert (set(said), consumer.state, consumer.detail) == ({"starting"}, "ready", "")


async def test_a_second_between_syncs_is_lost_with_a_full_disk_and_the_next_write_is_refused(servers, work_on):
    """`everysec` answers the write that finds the disk full; `always` would have ended before its answer."""
    first = await servers.start("one", appendfsync="everysec")
    bench = await work_on(embedded_valkey.url(first))
    kept = await bench.ask()

    async def written():
        told = await bench.redis.info("persistence")
        return told["aof_buffer_length"] == told["aof_pending_bio_fsync"] == 0

    await bench.eventually(written)
    grown = max(file.stat().st_size for file in first.log.parent.rglob("appendonly*") if file.is_file())
    resource.prlimit(first.process.pid, resource.RLIMIT_FSIZE, (grown, resource.RLIM_INFINITY))
    lost = [await bench.ask()]

    async def more():
        while len(lost) < 100:  # as many as come before that write has failed
            lost.append(await bench.ask())

    with pytest.raises(StoreUnavailable):
        await more()
    assert await bench.redis.xlen(bench.stream) == 1 + len(lost)
    await kill(first)
    bench = await work_on(embedded_valkey.url(await servers.start("one")))
    ((_, fields),) = await bench.redis.xrange(bench.stream)
    assert fields[b"event"] == kept.encode()


async def followed(servers: Servers, first: Server, second: Server) -> Relay:
    """Let ``second`` be a replica of ``first``, through the relay that is returned, once it has all of it."""
    link = await servers.through(first)
    async with Redis.from_url(embedded_valkey.url(first)) as redis:
        await redis.config_set("repl-diskless-sync-delay", 0)  # 5 s, for more replicas to come
    async with Redis.from_url(embedded_valkey.url(second)) as redis:
        await redis.config_set("masterauth", first.password)
        await redis.replicaof("127.0.0.1", link.port)
        async with asyncio.timeout(20):
            while (await redis.info("replication"))["master_link_status"] != "up":  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    return link


async def failed_over(servers: Servers, first: Server, second: Server) -> None:
    await kill(first)
    async with Redis.from_url(embedded_valkey.url(second)) as redis:
        await redis.replicaof("NO", "ONE")
    await servers.move(second)


async def test_after_a_failover_work_in_hand_is_completed_once_and_new_requests_are_served(servers, work_on):
    first, second = await servers.start("one"), await servers.start("two")
    bench = await work_on(await servers.move(first))
    await followed(servers, first, second)
    runs = []

    async def handle(delivery):
        runs.append(delivery.attempt)
        if len(runs) == 1:
            assert await bench.redis.execute_command("WAIT", 1, 5000) == 1
            await failed_over(servers, first, second)
        return bench.answered(delivery)

    event = await bench.ask()
    bench.each(handle)
    await bench.reply(event)
    await bench.reply(await bench.ask())
    assert runs == [1, 1]
    assert await bench.replies(event) == [ANSWERED.encode()]


async def test_what_a_lagging_replica_had_not_is_lost_and_done_when_it_is_asked_again(servers, work_on):
    first, second = await servers.start("one"), await servers.start("two")
    bench = await work_on(await servers.move(first))
    kept = await bench.ask()
    link = await followed(servers, first, second)
    await link.cut()
    lost = await bench.ask()  # acknowledged, and on no other server
    assert await bench.redis.execute_command("WAIT", 1, 100) == 0
    await failed_over(servers, first, second)
    bench.start()
    await bench.reply(kept)
    async with ReplyReader(bench.redis, bench.account) as replies:
        with pytest.raises(DeadlineExceeded):
            await replies.wait(lost.id, [ANSWERED], timeout_s=0.2)
    await bench.ask(lost)
    await bench.reply(lost)


async def test_a_worker_whose_network_stalls_loses_its_lease_and_completes_nothing(servers, work_on):
    server = await servers.start("one")
    bench = await work_on(embedded_valkey.url(server))
    slow = await servers.through(server)
    behind = await work_on(at(server, slow.port))

    async def stalled(delivery):
        slow.flows.clear()
        return bench.answered(delivery, "from behind the stall")

    victim = behind.each(stalled, lease_s=LEASE_S)
    event = await bench.ask()
    await bench.eventually(lambda: asyncio.sleep(0, not slow.flows.is_set()))
    bench.start(lease_s=LEASE_S)
    assert (await bench.reply(event)).data["reason"] == "done"
    slow.flows.set()
    await bench.eventually(lambda: asyncio.sleep(0, victim.counts["lost"]))
    assert await bench.replies(event) == [ANSWERED.encode()]
