"""Jobs that are wanted no more: answered where they wait, stopped where they run, cut off where they do not stop."""

from __future__ import annotations

import asyncio
import os
import signal

import psutil
import pytest

from nvp_agentkit.client.job import Job
from nvp_agentkit.errors import Cancelled, DeadlineExceeded
from nvp_agentkit.messages import JobCancelRequested, JobFailed, JobRefused
from nvp_agentkit.streams import Delivery, answer, names, publish
from nvp_agentkit.streams.queue import waiting
from nvp_agentkit.workers import refusals, training
from nvp_agentkit.workers.jobs import cancelling

from .test_jobs import at_work, work


@pytest.fixture
def endless(bench) -> Delivery:
    return bench.simulation(trajectories=16, frames=4000, budget_mj=900_000)


def handle(bench, job: Delivery) -> Job:
    return Job(bench.system.redis, bench.account, job.request_id, job.deadline.timestamp())


async def taken_back(bench, job: Delivery, reason: str | None = None) -> None:
    """Cancel as an agent does, and let the worker that reads the stream see it."""
    await handle(bench, job).cancel(reason)
    event = (await waiting(bench.system.redis, bench.account, "cancel"))[-1]
    asked = bench.delivery(event.payload, suffix="cancel", event=event)
    await bench.complete(await cancelling.take_back(asked, bench.system))


async def test_an_agent_takes_a_job_back_that_a_worker_is_at(bench, endless) -> None:
    stop = asyncio.Event()
    serving = asyncio.create_task(training.serve(bench.system, stop))
    job = handle(bench, endless)
    await publish(bench.system.redis, bench.account, "jobs", endless.event)
    async for line in job:
        if line.step == 1:
            await job.cancel()
    with pytest.raises(Cancelled, match="cancelled by its asker; stopped at"):
        await job.result()
    stop.set()
    await serving
    balance = await bench.balance()
    assert balance.spent_mj > 0
    assert balance.reserved_mj == 0


async def test_a_job_at_work_stops_at_its_next_step_and_pays_what_it_used_and_no_more(bench, endless) -> None:
    working = await at_work(bench, endless)
    await taken_back(bench, endless, "wrong data")
    with pytest.raises(Cancelled, match=r"cancelled by its asker: wrong data; stopped at \d+\.\d J") as caught:
        await working
    told = refusals.job(bench.system, endless, caught.value)
    failed = bench.said(told)
    assert isinstance(failed, JobFailed)
    assert failed.code == "cancelled"
    balance = await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj) == (failed.energy.mj, 0)
    assert 0 < failed.energy.mj < 100_000
    (run,) = (node for node in told.facts[0].payload.nodes if node.label == "Run")
    assert (run.properties["outcome"], run.properties["reason"][:22]) == ("failed", "cancelled: cancelled b")
    assert (await work(bench, bench.simulation())).kind == "simulate"  # the child was not ended


async def test_a_step_that_hangs_is_cut_off_with_its_process(bench, endless, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancelling, "PATIENCE_S", 0.3)
    working = await at_work(bench, endless)
    hanging = bench.system.child.pid
    os.kill(hanging, signal.SIGSTOP)
    await taken_back(bench, endless)
    with pytest.raises(Cancelled, match=r"by its asker; its step did not end within 0.3 s and was cut off") as caught:
        await working
    assert not psutil.pid_exists(hanging)
    assert caught.value.energy.mj == (await bench.balance()).spent_mj > 0


async def test_a_job_that_waits_is_answered_at_once_and_never_begun(bench, endless) -> None:
    await taken_back(bench, endless, "too late")
    reply = await answer(bench.system.redis, bench.account, endless.request_id, ["nvp.job.refused.v1"])
    assert (reply.payload.code, reply.payload.detail) == (
        "cancelled", "cancelled by its asker: too late, before it began")  # fmt: skip
    with pytest.raises(Cancelled, match="too late"):
        await handle(bench, endless).result()
    # The worker that reaches it finds the mark, does nothing, and says the same.
    started = bench.system.child.generation
    for delivery in (endless, bench.delivery(endless.payload, suffix="jobs", event=endless.event, attempt=2)):
        refused = await work(bench, delivery)
        assert isinstance(refused, JobRefused)
        assert (refused.code, refused.detail) == (reply.payload.code, reply.payload.detail)
    assert bench.system.child.generation == started
    balance = await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj) == (0, 0)
    # One that reaches it after its deadline says nothing more.
    await bench.complete(refusals.job(bench.system, endless, DeadlineExceeded("an hour in the queue")))
    assert await bench.system.redis.xlen(names.replies(bench.account)) == 1


async def test_what_has_ended_stays_as_it_ended(bench) -> None:
    job = bench.simulation(trajectories=1, frames=4)
    await bench.complete(await training.answer(job, bench.system))
    late = bench.simulation()
    await bench.complete(refusals.job(bench.system, late, DeadlineExceeded("before anybody took it")))
    for one in (job, late):
        await taken_back(bench, one)
    assert (await handle(bench, job).result()).kind == "simulate"
    with pytest.raises(DeadlineExceeded, match="before anybody took it"):
        await handle(bench, late).result()
    assert await bench.system.redis.xlen(names.replies(bench.account)) == 2


async def test_nobody_cancels_the_job_of_another_account(bench, endless) -> None:
    asked = bench.delivery(JobCancelRequested(job_id=endless.request_id), suffix="cancel")
    foreign = Delivery("test-other", names.key("test-other", "cancel"), "1-0", asked.event, 1)
    await cancelling.take_back(foreign, bench.system)
    await cancelling.require_wanted(endless, bench.system)
    await bench.system.redis.delete(names.cancelled("test-other", endless.request_id))
