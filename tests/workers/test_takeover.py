"""A training goes on where a dead worker left it, to the bit; one that was only asleep changes nothing any more."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from nvp_agentkit.errors import Cancelled, ComputeFailed, InvalidInput, NvpError
from nvp_agentkit.messages import JobCompleted, JobFailed, JobProgressed, JobRequested, ObjectRef, TrainSpec, decode
from nvp_agentkit.streams import Completion, Delivery, names
from nvp_agentkit.streams.progress import report
from nvp_agentkit.workers import joules, training
from nvp_agentkit.workers.jobs import checkpoints

from .test_training import DOMAIN, brought, waves

STEPS = 100  # 60 of them the champion's; a checkpoint every 20 or so
AMPLE_MJ, ENOUGH_MJ = 600_000, 130_000


def asked(bench, data: ObjectRef, budget_mj: int) -> Delivery:
    spec = TrainSpec(domain=DOMAIN, data=data, members=2, steps=STEPS)
    return bench.delivery(JobRequested(spec=spec), suffix="jobs", budget_mj=budget_mj, within_s=300)


def once_more(bench, delivery: Delivery) -> Delivery:
    return bench.delivery(delivery.payload, suffix="jobs", event=delivery.event, attempt=delivery.attempt + 1)


async def left(bench, delivery: Delivery) -> dict[str, Any]:
    """What lies ready for the job's next attempt."""
    at = await bench.system.redis.hget(names.attempts(bench.account, delivery.request_id), "at")
    return {"models": [], "run": None} if at is None else json.loads(at)


async def story(bench, delivery: Delivery) -> list[JobProgressed]:
    entries = await bench.system.redis.xrange(names.job(bench.account, delivery.request_id))
    return [decode(fields[b"event"]).payload for _, fields in entries]


def objects(bench) -> set[str]:
    """What the artifact store holds."""
    root = Path(str(bench.system.settings.artifacts_url))
    return {path.name for path in root.rglob("*") if path.is_file()}


async def second_member_begun(bench, delivery: Delivery, working: asyncio.Task[Completion]) -> None:
    """Wait until the first member is put away, and a checkpoint of the second."""
    async with asyncio.timeout(240):
        while (at := await left(bench, delivery))["run"] is None or not at["models"]:
            await asyncio.wait({working}, timeout=0.02)
            assert not working.done()


async def test_a_training_whose_child_was_killed_is_ended_by_the_next_attempt_as_if_nothing_had_been(bench) -> None:
    data = await brought(bench, waves(10))
    whole = bench.said(await training.answer(asked(bench, data, AMPLE_MJ), bench.system))
    assert isinstance(whole, JobCompleted)
    before, spent_mj = objects(bench), (await bench.balance()).spent_mj
    delivery = asked(bench, data, ENOUGH_MJ)
    working = asyncio.create_task(training.answer(delivery, bench.system))
    await second_member_begun(bench, delivery, working)
    os.kill(bench.system.child.pid, signal.SIGKILL)
    with pytest.raises(ComputeFailed, match="signal 9"):
        await working

    done = bench.said(await training.answer(once_more(bench, delivery), bench.system))
    assert isinstance(done, JobCompleted)
    assert [member.model_id for member in done.members] == [member.model_id for member in whole.members]
    assert done.summary == whole.summary  # the ensemble's digest, and with it the rule by which its members agree
    assert objects(bench) == before
    # No step was taken twice but those since the last checkpoint, and all of both attempts is on the bill.
    lines = await story(bench, delivery)
    (again,) = (place for place, line in enumerate(lines) if line.phase == "baselines" and place)
    assert lines[again].note == f"goes on from step {lines[again].step}"
    assert lines[again].step > done.members[0].steps == 60
    assert lines[again - 1].used_mj < lines[again].used_mj < done.energy.mj <= ENOUGH_MJ
    balance = await bench.balance()
    assert (balance.spent_mj - spent_mj, balance.reserved_mj, balance.overdraft_mj) == (done.energy.mj, 0, 0)


@pytest.fixture
def job(bench) -> Delivery:
    return bench.simulation()


def texts(*paths: str) -> list[str]:
    return [Path(path).read_text() for path in paths]


async def test_a_worker_that_was_asleep_moves_no_checkpoint_and_tells_and_records_nothing(bench, job, tmp_path) -> None:
    model, early, later, late = (tmp_path / name for name in ("model", "early", "later", "too late"))
    for path in (model, early, later, late):
        path.write_text(path.name)
    async with checkpoints.attempt(job, bench.system) as asleep:
        await asleep.put_away({"models": [str(model)], "run": str(early)})
        async with checkpoints.attempt(once_more(bench, job), bench.system) as awake:
            found = await awake.found()
            assert texts(*found["models"], found["run"]) == ["model", "early"]
            await awake.put_away(found | {"run": str(later)})
            there, at = objects(bench), await left(bench, job)
            assert len(there) == 2  # a checkpoint takes the place of the one before
            await asleep.put_away({"models": [str(model)], "run": str(late)})
            assert (objects(bench), await left(bench, job)) == (there, at)

    reply = bench.system.event(JobFailed(job_id=job.request_id, code="x", detail="y"), job, reply=True)
    answers, facts = (names.key(bench.account, suffix) for suffix in (f"reply:{job.request_id}", "lineage"))
    line = JobProgressed(job_id=job.request_id, phase="x", step=1, used_mj=1, granted_mj=2, method="modelled")
    for attempt, told in ((asleep, 0), (awake, 1)):
        fence = (job.request_id, attempt.fence)
        event = bench.system.event(line, job)
        await report(bench.system.redis, bench.account, job.request_id, event, fence=attempt.fence)
        assert len(await story(bench, job)) == told
        await bench.complete(Completion(replies=(reply,), facts=(reply,), fence=fence))
        assert await bench.system.redis.exists(answers) == told
        assert await bench.system.redis.xlen(facts) == told


async def test_a_worker_that_was_asleep_before_it_began_takes_no_fence_from_the_one_that_has_the_job(
    bench, job, tmp_path
) -> None:
    (tmp_path / "run").write_text("some steps")
    async with joules.window(bench.system, job, part=training.PART, parts=1):  # and then its front is stopped
        later = once_more(bench, job)
        async with checkpoints.attempt(later, bench.system) as awake:
            before = await bench.system.redis.hgetall(names.attempts(bench.account, job.request_id))
            with pytest.raises(Cancelled, match="another worker has this job now"):
                await checkpoints.attempt(job, bench.system).__aenter__()
            assert await bench.system.redis.hgetall(names.attempts(bench.account, job.request_id)) == before
            await awake.put_away({"models": [], "run": str(tmp_path / "run")})
            assert (await left(bench, job))["run"] is not None
        async with checkpoints.attempt(later, bench.system) as again:  # handed back uncounted, say
            assert again.fence == awake.fence + 1


async def test_a_job_that_ended_for_good_leaves_no_checkpoint(bench, job, tmp_path) -> None:
    (tmp_path / "run").write_text("some steps")

    async def ends_with(error: NvpError) -> None:
        async with checkpoints.attempt(job, bench.system) as attempt:
            await attempt.put_away({"models": [], "run": str(tmp_path / "run")})
            raise error

    for error, kept in ((ComputeFailed("died"), 1), (InvalidInput("no"), 0)):
        with pytest.raises(type(error)):
            await ends_with(error)
        assert len(objects(bench)) == kept


async def test_a_checkpoint_that_is_gone_makes_the_next_attempt_begin_anew(bench, job, tmp_path) -> None:
    (tmp_path / "run").write_text("some steps")
    async with checkpoints.attempt(job, bench.system) as attempt:
        await attempt.put_away({"models": [], "run": str(tmp_path / "run")})
    await bench.system.artifacts.remove(ObjectRef.model_validate((await left(bench, job))["run"]))
    async with checkpoints.attempt(job, bench.system) as attempt:
        assert await attempt.found() == {"models": [], "run": None}
