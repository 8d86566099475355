"""Workers as processes: one dies and another goes on, stores come late, and a signal ends all that was started."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from redis.asyncio import Redis
from structlog.contextvars import get_contextvars, merge_contextvars
from structlog.testing import capture_logs

from nvp_agentkit.artifacts import inline_array
from nvp_agentkit.client import AgentClient
from nvp_agentkit.embedded import children, lock, place
from nvp_agentkit.embedded import valkey as embedded_valkey
from nvp_agentkit.errors import InvalidInput, StoreUnavailable
from nvp_agentkit.messages import (
    JobCompleted,
    JobProgressed,
    JobRequested,
    PredictionCompleted,
    PredictionRequested,
    decode,
)
from nvp_agentkit.messages.envelope import TYPE_OF
from nvp_agentkit.settings import Settings, child_environment
from nvp_agentkit.streams import Completion, Delivery, ReplyReader, names, publish
from nvp_agentkit.streams.health import WorkerState, workers
from nvp_agentkit.streams.verdict import Rules
from nvp_agentkit.workers import inference, main, refusals
from nvp_agentkit.workers.process import Role, run_roles
from nvp_agentkit.workers.system import System

WORKER = [sys.executable, "-m", "nvp_agentkit.workers"]
PATIENCE_S = 60.0


@pytest.fixture
async def start(settings: Settings) -> AsyncIterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts worker processes; they and all they started are gone at the end."""
    running: list[subprocess.Popen[bytes]] = []
    logs = settings.data_dir / "logs"
    logs.mkdir()

    def launch(name: str, at: Settings = settings) -> subprocess.Popen[bytes]:
        log = logs / f"{name}.log"
        running.append(children.launch([*WORKER, name], env=child_environment(at), log=log, folder=settings.data_dir))
        return running[-1]

    yield launch
    await asyncio.gather(*(children.end(process, grace_s=5.0) for process in running))
    assert lock.left_over(settings.data_dir) == []


async def seen(redis: Redis, name: str, detail: str = "") -> WorkerState:
    """The worker's heartbeat, once it is ready and says ``detail``."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            for one in await workers(redis):
                if (one.name, one.state) == (name, "ready") and detail in one.detail:
                    return one
            await asyncio.sleep(0.02)


async def holder(redis: Redis, stream: str, group: str) -> str:
    """The worker that has an entry of the stream in its hands."""
    async with asyncio.timeout(PATIENCE_S):
        while not (pending := (await redis.xpending(stream, group))["consumers"]):  # noqa: ASYNC110  it happens in Redis
            await asyncio.sleep(0.005)
    return pending[0]["name"].decode().partition("@")[0]


async def test_a_request_whose_worker_is_killed_is_finished_by_another(bench, redis, start, weights) -> None:
    record = await bench.serve({"voter-0": weights(0)})
    started = {name: start(name) for name in ("inference-1", "inference-2")}
    for name in started:
        await seen(redis, name, "1 model")
    # Of a shape that nobody has compiled yet, so that there is time to die in the middle of it.
    field = inline_array(np.ones((2, 48, 80), np.float16), "J")
    asked = bench.delivery(PredictionRequested(domain="plasma_physics", field=field), budget_mj=30_000).event
    await publish(redis, bench.account, "predict", asked)
    victim = await holder(redis, names.key(bench.account, "predict"), "inference")
    (compute,) = psutil.Process(started[victim].pid).children()
    os.kill(started[victim].pid, signal.SIGKILL)
    async with ReplyReader(redis, bench.account) as replies:
        kinds = [TYPE_OF[PredictionCompleted]]
        reply = (await replies.wait(asked.id, kinds, timeout_s=PATIENCE_S)).payload
    assert reply.model_id == record.champion.model_id
    survivor = ({*started} - {victim}).pop()
    assert started[survivor].poll() is None
    psutil.wait_procs([compute], timeout=5)
    assert not compute.is_running()  # it goes with its front, whatever way that ends
    balance = await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj) == (reply.energy.mj, 0)


async def test_a_job_whose_worker_is_killed_is_done_once_by_the_one_that_is_started_again(bench, redis, start) -> None:
    victim = start("training")
    asked = bench.simulation(trajectories=8, frames=40).event
    await publish(redis, bench.account, "jobs", asked)
    await steps_done(redis, bench.account, asked.id)
    os.kill(victim.pid, signal.SIGKILL)
    await children.gone(victim, within_s=5.0)
    start("training")
    async with ReplyReader(redis, bench.account) as replies:
        done = (await replies.wait(asked.id, [TYPE_OF[JobCompleted]], timeout_s=PATIENCE_S)).payload
    assert len(await redis.xrange(names.replies(bench.account))) == 1
    (fact,) = await redis.xrange(names.key(bench.account, "lineage"))
    nodes = {node.label: node for node in decode(fact[1][b"event"]).payload.nodes}
    assert (nodes["Run"].properties["attempt"], nodes["DatasetVersion"].id) == (2, f"dataset:{done.dataset.digest}")
    grant = await bench.system.ledger.grant(bench.account, asked.id)
    balance = await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj, balance.overdraft_mj) == (grant.paid_mj, 0, 0)
    # The second one begins with what the first one told, and used since at most: it errs high, never above the grant.
    first, second = (line.used_mj for line in await story(redis, bench.account, asked.id) if line.step == 0)
    assert first < second < grant.paid_mj == done.energy.mj < grant.granted_mj


async def steps_done(redis: Redis, account: str, job_id: str) -> None:
    """Wait until the job tells of a step."""
    async with asyncio.timeout(PATIENCE_S):
        while not any(line.step for line in await story(redis, account, job_id)):  # noqa: ASYNC110  it happens in Redis
            await asyncio.sleep(0.01)


async def story(redis: Redis, account: str, job_id: str) -> list[JobProgressed]:
    """All that the job has told of itself."""
    told = await redis.xrange(names.job(account, job_id))
    return [decode(fields[b"event"]).payload for _, fields in told]


async def test_a_front_that_wakes_after_another_has_done_its_job_changes_nothing(
    bench, redis, start: Callable[..., subprocess.Popen[bytes]], settings: Settings
) -> None:
    asleep = start("training")
    asked = bench.simulation(trajectories=8, frames=40).event
    await publish(redis, bench.account, "jobs", asked)
    await steps_done(redis, bench.account, asked.id)
    to_all(asleep, signal.SIGSTOP)
    try:
        start("training", settings.model_copy(update={"instance": "awake"}))
        async with ReplyReader(redis, bench.account) as replies:
            done = (await replies.wait(asked.id, [TYPE_OF[JobCompleted]], timeout_s=PATIENCE_S)).payload
        before, made = await everything(redis, bench.account), objects(settings)
    finally:
        to_all(asleep, signal.SIGCONT)
    log = settings.data_dir / "logs" / "training.log"
    async with asyncio.timeout(PATIENCE_S):
        while b"was not ours any more: nothing completed" not in log.read_bytes():
            assert await everything(redis, bench.account) == before
            await asyncio.sleep(0.02)
    assert asleep.poll() is None
    assert (await everything(redis, bench.account), objects(settings)) == (before, made)
    assert before[names.replies(bench.account)][0] == before[names.key(bench.account, "lineage")][0] == 1
    grant, balance = await bench.system.ledger.grant(bench.account, asked.id), await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj, balance.overdraft_mj) == (grant.paid_mj, 0, 0)
    assert grant.paid_mj == done.energy.mj


def to_all(front: subprocess.Popen[bytes], what: signal.Signals) -> None:
    """To a worker's front, then to what it has started."""
    worker = psutil.Process(front.pid)
    for process in (worker, *worker.children(recursive=True)):
        process.send_signal(what)


async def everything(redis: Redis, account: str) -> dict[str, Any]:
    """All that is kept of an account, but for who has read its streams; of a stream also how long it ever was."""
    found: dict[str, Any] = {}
    for pattern in (f"nvp:{{{account}}}:*", f"nvp:{{ledger}}:*{account}*"):
        async for key in redis.scan_iter(match=pattern, count=1000):
            if await redis.type(key) == b"stream":
                said = await redis.xinfo_stream(key)
                found[key.decode()] = (said["entries-added"], await redis.xrange(key))
            else:
                found[key.decode()] = await redis.dump(key)
    return found


def objects(settings: Settings) -> set[str]:
    """What the artifact store holds."""
    return {path.name for path in Path(str(settings.artifacts_url)).rglob("*") if path.is_file()}


async def test_a_worker_told_to_end_signs_off_and_takes_its_child_along(redis, start) -> None:
    process = start("inference")
    await seen(redis, "inference")
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    process.send_signal(signal.SIGTERM)
    assert await children.gone(process, within_s=8.0)
    assert process.returncode == 0
    assert not psutil.wait_procs(family, timeout=5)[1]
    assert "inference" not in {one.name for one in await workers(redis)}


async def test_a_worker_told_to_end_goes_on_no_longer_than_its_setting_says(
    bench, redis, start: Callable[..., subprocess.Popen[bytes]], settings: Settings
) -> None:
    process = start("training", settings.model_copy(update={"drain_timeout_s": 0.5}))
    asked = bench.simulation(trajectories=8, frames=4000, within_s=600.0).event
    await publish(redis, bench.account, "jobs", asked)
    await steps_done(redis, bench.account, asked.id)
    process.send_signal(signal.SIGTERM)
    assert await children.gone(process, within_s=8.0)  # 10 s are what it has by default
    assert process.returncode == 0
    (entry,) = await redis.xpending_range(names.key(bench.account, "jobs"), "training", "-", "+", 10)
    assert (entry["times_delivered"], entry["time_since_delivered"] >= 2000) == (0, True)  # anybody's, at once


async def test_a_worker_with_nothing_in_hand_does_not_wait_for_what_it_does_beside_its_messages(bench) -> None:
    stop = asyncio.Event()
    role = Role.each("predict", "inference", PredictionRequested, inference.answer, refusals.prediction)

    async def load() -> None:
        stop.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(PATIENCE_S):
        await run_roles(bench.system, stop, [role], beside=[load()])


async def test_a_second_signal_ends_a_worker_at_once_and_its_child_with_it(bench, redis, start) -> None:
    process = start("training")
    asked = bench.simulation(trajectories=8, frames=4000, within_s=600.0).event  # far longer than a drain lasts
    await publish(redis, bench.account, "jobs", asked)
    await steps_done(redis, bench.account, asked.id)
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(PATIENCE_S):
        while "training" in {one.name for one in await workers(redis)}:  # noqa: ASYNC110  it happens in Redis
            await asyncio.sleep(0.02)
    assert process.poll() is None  # it signed off, and its job goes on
    process.send_signal(signal.SIGTERM)
    assert await children.gone(process, within_s=2.0)
    assert process.returncode == -signal.SIGTERM
    assert not psutil.wait_procs(family, timeout=5)[1]


async def test_a_stream_server_that_comes_late_is_waited_for_and_the_client_says_what_is_missing(
    settings: Settings, start, tmp_path: Path
) -> None:
    folder, port = tmp_path / "late", place.free_port()
    password = place.password_in(folder / "password")
    at = settings.model_copy(update={"redis_url": f"redis://:{password}@127.0.0.1:{port}/0"})
    with pytest.raises(StoreUnavailable, match=rf"127\.0\.0\.1:{port} does not answer .* `nvp doctor` tells more"):
        await AgentClient.connect("anybody", settings=at).__aenter__()
    start("tally", at)
    log = settings.data_dir / "logs" / "tally.log"
    async with asyncio.timeout(PATIENCE_S):
        while b"waiting for a store" not in log.read_bytes():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    server = await embedded_valkey.start(folder, port=port, appendfsync="no")
    try:
        async with Redis.from_url(embedded_valkey.url(server), socket_timeout=None) as redis:
            await seen(redis, "tally")
    finally:
        await server.stop()


async def test_the_ids_of_a_message_go_with_every_line_that_is_logged_about_it(bench, request_of) -> None:
    bound = []

    async def answer(delivery: Delivery) -> Completion:
        await asyncio.sleep(0)  # the other one's turn
        bound.append(get_contextvars())
        return Completion()

    role = Role.each("predict", "inference", PredictionRequested, answer, refusals.prediction)
    asked = [bench.delivery(request_of()) for _ in range(2)]
    await role.handle(asked)
    assert bound == [{"account": bench.account, "request": one.request_id} for one in asked]
    assert get_contextvars() == {}


async def test_a_job_that_ends_badly_is_logged_as_that_job(bench) -> None:
    delivery = bench.simulation()
    rules = Rules(partial(refusals.job, bench.system), (JobRequested,), 5, "training")
    with capture_logs(processors=[merge_contextvars]) as said:
        rules.conclude(delivery, InvalidInput("no use"))
    (line,) = said
    assert (line["event"], line["account"], line["job"]) == ("job ends badly", bench.account, delivery.request_id)
    assert "request" not in line


async def test_a_store_that_goes_away_under_one_of_a_workers_tasks_ends_no_worker(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = []

    async def serve(system: System, stop: asyncio.Event) -> None:
        times.append(system.name)
        if len(times) > 1:
            stop.set()
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(3600))
            group.create_task(away())

    async def away() -> None:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(main, "RETRY_S", 0.0)
    async with asyncio.timeout(20):
        await main.work("tally", settings, serve)
    assert times == ["tally", "tally"]


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        ([], {}, "usage: python -m workers NAME"),
        (["chef"], {}, "no worker 'chef'; there are training, inference, shadow, tally, recorder"),
        (["tally"], {"NVP_LEASE_S": "-1"}, "NVP_LEASE_S='-1'"),
        (["tally"], {"NVP_LEASE_S": "inf"}, "NVP_LEASE_S='inf'"),
        (["tally"], {}, "no stream server is known"),
    ],
)
def test_a_worker_that_cannot_start_says_why_in_a_line(
    arguments: list[str], environment: dict[str, str], words: str
) -> None:
    ended = subprocess.run(
        [*WORKER, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("name", "words"), [("tally", "has no key 'tally'"), ("recorder", "no lineage graph is named")]
)
def test_a_worker_does_not_wait_for_what_will_not_come(
    name: str, words: str, settings: Settings, tmp_path: Path
) -> None:
    bare = settings.model_copy(update={"data_dir": tmp_path / "bare", "neo4j_uri": None})
    ended = subprocess.run(
        [*WORKER, name], env=child_environment(bare), capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, words in ended.stderr) == (1, True), ended.stderr
    assert len(ended.stderr.splitlines()) == 2, ended.stderr  # that it starts, and why it cannot
