"""A job: its progress for whoever looks, its end for whoever waits."""

from __future__ import annotations

import time

import pytest

from nvp_agentkit.client import AgentClient, Job
from nvp_agentkit.errors import BudgetExhausted, BudgetTooSmall, ComputeFailed, DeadlineExceeded
from nvp_agentkit.messages import (
    JobCompleted,
    JobFailed,
    JobProgressed,
    JobRefused,
    JobSuspended,
    ObjectRef,
    Reading,
    SimulateSpec,
    new_event,
)
from nvp_agentkit.streams import names
from nvp_agentkit.streams.progress import report

READING = Reading(mj=900, lo_mj=500, hi_mj=3000, method="modelled", sensor="cpu-time")


async def tell(desk, job: Job, step: int) -> None:
    line = JobProgressed(job_id=job.id, phase="training", step=step, used_mj=100 * step, granted_mj=5000,
                         method="modelled")  # fmt: skip
    await report(desk.redis, desk.account, job.id, new_event(line, source="nvp:worker:training"))


async def simulated(nvp: AgentClient, **options: float) -> Job:
    return await nvp.simulate("plasma_physics", budget_j=5, trajectories=3, **options)


async def test_progress_comes_as_it_is_told_and_then_the_result(nvp, desk) -> None:
    job = await simulated(nvp)
    lines = aiter(job)
    for step in (1, 2):
        await tell(desk, job, step)
        assert (await anext(lines)).step == step  # live: the next line does not exist yet
    await desk.answer(JobCompleted(job_id=job.id, kind="simulate", energy=READING, seconds=1.0), job.id)
    assert [line async for line in lines] == []
    assert (await job.result()).energy == READING


async def test_a_late_reader_sees_it_all_and_a_second_one_too(nvp, desk) -> None:
    job = await simulated(nvp)
    for step in (1, 2, 3):
        await tell(desk, job, step)
    await desk.answer(JobCompleted(job_id=job.id, kind="simulate", energy=READING, seconds=1.0), job.id)
    for _ in range(2):
        assert [line.step async for line in job] == [1, 2, 3]
    assert (await job.result()) is (await job.result())


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (lambda job: JobRefused(job_id=job, code="budget_too_small", detail="83 J or more"), BudgetTooSmall),
        (lambda job: JobFailed(job_id=job, code="compute_failed", detail="83 J or more"), ComputeFailed),
        (lambda job: JobSuspended(job_id=job, reason="83 J or more", energy=READING), BudgetExhausted),
    ],
)
async def test_a_job_that_ends_badly_raises_its_class_from_its_result(nvp, desk, reply, error) -> None:
    job = await simulated(nvp)
    await desk.answer(reply(job.id), job.id)
    assert [line async for line in job] == []
    with pytest.raises(error, match="83 J or more"):
        await job.result()


async def test_a_budget_that_is_too_small_comes_back_with_the_one_that_would_do(nvp, desk) -> None:
    job = await simulated(nvp)
    await desk.answer(JobRefused(job_id=job.id, code="budget_too_small", detail="8 J", needed_mj=8000), job.id)
    with pytest.raises(BudgetTooSmall) as caught:
        await job.result()
    assert caught.value.needed_mj == 8000


async def test_a_result_is_there_for_whoever_comes_after_the_deadline(nvp, desk) -> None:
    job = await simulated(nvp)
    await tell(desk, job, 1)
    await desk.answer(JobCompleted(job_id=job.id, kind="simulate", energy=READING, seconds=1.0), job.id)
    late = Job(nvp._redis, nvp.account, job.id, time.time() - 600)
    assert [line.step async for line in late] == [1]
    assert (await late.result()).energy == READING


async def test_that_a_job_was_ended_at_its_deadline_is_heard_a_moment_after_it(nvp, desk) -> None:
    job = Job(nvp._redis, nvp.account, (await simulated(nvp)).id, time.time() - 0.1)
    lines = aiter(job)
    await tell(desk, job, 1)
    assert (await anext(lines)).step == 1  # it listens, and its deadline is over
    await desk.answer(JobFailed(job_id=job.id, code="deadline_exceeded", detail="ended at its deadline"), job.id)
    assert [line async for line in lines] == []
    with pytest.raises(DeadlineExceeded, match="ended at its deadline"):
        await job.result()


async def test_a_job_submitted_again_with_its_id_is_the_same_job(nvp, desk) -> None:
    jobs = [
        await nvp.submit(SimulateSpec(domain="plasma_physics"), 5.0, deadline_s=0.2, request_id="j-1") for _ in range(2)
    ]
    assert [job.id for job in jobs] == ["j-1", "j-1"]
    assert (await desk.received("jobs")).id == "j-1"
    with pytest.raises(DeadlineExceeded) as caught:
        await jobs[0].result()
    assert caught.value.request_id == "j-1"


async def test_a_job_nobody_does_is_not_waited_for_beyond_its_deadline(nvp, desk) -> None:
    began = time.monotonic()
    job = await simulated(nvp, deadline_s=0.5)
    await tell(desk, job, 1)
    with pytest.raises(DeadlineExceeded, match="no final reply within"):
        await job.result()
    assert time.monotonic() - began < 5


async def test_two_jobs_at_once_do_not_hear_each_other(nvp, desk) -> None:
    first, second = await simulated(nvp), await simulated(nvp)
    await tell(desk, second, 7)
    for job in (first, second):
        await desk.answer(JobCompleted(job_id=job.id, kind="simulate", energy=READING, seconds=1.0), job.id)
    assert [line.step async for line in first] == []
    assert [line.step async for line in second] == [7]


async def test_a_named_job_is_asked_for_twice_and_is_one_unless_it_ended_badly(nvp, desk) -> None:
    spec = SimulateSpec(domain="plasma_physics")
    first, second = [await nvp.submit(spec, 5, name="shard") for _ in range(2)]
    assert first.id == second.id
    await desk.answer(JobRefused(job_id=first.id, code="insufficient_joules", detail="2 J left"), first.id)
    third = await nvp.submit(spec, 5, name="shard")
    assert third.id != first.id
    await desk.answer(JobCompleted(job_id=third.id, kind="simulate", energy=READING, seconds=1.0), third.id)
    assert (await (await nvp.submit(spec, 5, name="shard")).result()).job_id == third.id


async def test_a_hindcast_is_followed_while_it_is_under_way_and_asked_for_anew_once_it_has_ended(nvp, desk) -> None:
    data = ObjectRef(uri="file:///data", digest=f"sha256:{'0' * 64}", bytes=1)
    wanted = {"domain": "rain", "steps": 4, "budget_j": 20}
    first, second = [await nvp.hindcast(data, **wanted) for _ in range(2)]
    other = await nvp.hindcast(data, **wanted | {"steps": 5})
    assert first.id == second.id != other.id
    done = JobCompleted(job_id=first.id, kind="hindcast", energy=READING, seconds=1.0)
    await desk.answer(done, first.id)
    assert await second.result() == done
    assert (await nvp.hindcast(data, **wanted)).id not in (first.id, other.id)


async def test_an_urgent_job_goes_to_the_stream_that_is_read_first(nvp, desk) -> None:
    data = ObjectRef(uri="file:///data", digest=f"sha256:{'0' * 64}", bytes=1)
    await nvp.submit(SimulateSpec(domain="plasma_physics"), 5, urgent=True)
    await nvp.train("plasma_physics", data=data, budget_j=5, urgent=True)
    await nvp.train("plasma_physics", data=data, budget_j=5)
    lengths = [await desk.redis.xlen(names.key(desk.account, suffix)) for suffix in ("urgent", "jobs")]
    assert lengths == [2, 1]
