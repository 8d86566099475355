"""A hindcast is one work, whoever does it and however often it is interrupted: the same parts, paid for once."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from nvp_agentkit.artifacts.content import name_of, uri_of
from nvp_agentkit.cli.hindcast import lines
from nvp_agentkit.cli.hindcast.making import Made, Wanted, make
from nvp_agentkit.ensemble import EnsembleRecord, Member
from nvp_agentkit.errors import Cancelled, ComputeFailed, InvalidInput, NvpError, UnknownName
from nvp_agentkit.fields import FieldMeta, SequenceSet
from nvp_agentkit.fields.writers import write_zarr
from nvp_agentkit.messages import (
    ArrayRef,
    HindcastSpec,
    ImportSpec,
    JobCompleted,
    JobProgressed,
    JobRefused,
    JobRequested,
    LineageRecorded,
    ObjectRef,
    Payload,
    decode,
)
from nvp_agentkit.messages.hindcasts import Manifest
from nvp_agentkit.streams import Delivery, names
from nvp_agentkit.workers import refusals, training
from nvp_agentkit.workers.jobs import hindcasts, parts, plans

from .conftest import DOMAIN, UNITS
from .test_takeover import objects

SIDE, FRAMES, STEPS, TOGETHER = 16, 16, 3, 2
PARTS = 2 * 6  # two trajectories of twelve starts
AMPLE_MJ = 400_000


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "CELLS", TOGETHER * STEPS * SIDE * SIDE)


def waves(units: str = UNITS) -> np.ndarray:
    """Two travelling waves (2, T, H, W), over a corner where nothing is measured."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] * (2 * np.pi / SIDE)
    shown = [[2 + np.sin(x - 0.3 * step + phase) * np.cos(y) for step in range(FRAMES)] for phase in range(2)]
    values = np.float32(shown)
    values[..., :3, :3] = np.nan
    return values


@pytest.fixture
async def archive(bench) -> ObjectRef:
    return await brought(bench, waves())


async def brought(bench, values: np.ndarray, units: str = UNITS) -> ObjectRef:
    file = io.BytesIO()
    np.save(file, values)
    source = await bench.system.artifacts.put(file.getvalue())
    spec = ImportSpec(domain=DOMAIN, source=source, filename="waves.npy", units=units)
    done = await told(bench, bench.delivery(JobRequested(spec=spec), suffix="jobs"))
    assert isinstance(done, JobCompleted)
    assert done.dataset is not None
    return done.dataset


@pytest.fixture
async def ensemble(bench, weights):
    return await bench.serve({f"voter-{place}": weights(place, masked=True) for place in range(3)})


async def told(bench, delivery: Delivery) -> Payload:
    try:
        return bench.said(await training.answer(delivery, bench.system))
    except NvpError as error:
        return bench.said(refusals.job(bench.system, delivery, error))


def asked(bench, data: ObjectRef, budget_mj: int = AMPLE_MJ, **otherwise) -> Delivery:
    spec = HindcastSpec(**{"domain": DOMAIN, "data": data, "steps": STEPS, **otherwise})
    return bench.delivery(JobRequested(spec=spec), suffix="jobs", budget_mj=budget_mj, within_s=300)


def once_more(bench, delivery: Delivery) -> Delivery:
    return bench.delivery(delivery.payload, suffix="jobs", event=delivery.event, attempt=delivery.attempt + 1)


async def manifest(bench, done: Payload) -> Manifest:
    assert isinstance(done, JobCompleted)
    assert done.manifest is not None
    return Manifest.model_validate_json(await bench.system.artifacts.get(done.manifest))


async def left(bench, work: str) -> int:
    """How many parts lie ready for whoever goes on."""
    while True:
        at = await bench.system.redis.hget(names.attempts(bench.account, work), "at")
        if at is None:
            return 0
        with suppress(UnknownName):  # the next one is there already
            raw = await bench.system.artifacts.get(ObjectRef.model_validate_json(at))
            return len(Manifest.model_validate_json(raw).parts)


async def forget(bench, work: str) -> None:
    """Nobody goes on from there any more."""
    await bench.system.redis.delete(names.attempts(bench.account, work))


async def story(bench, delivery: Delivery) -> list[JobProgressed]:
    entries = await bench.system.redis.xrange(names.job(bench.account, delivery.request_id))
    return [decode(fields[b"event"]).payload for _, fields in entries]


async def maps(bench, done: Manifest, part: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (starts, steps, H, W)."""
    shape = (done.place(part).size, done.steps, done.height, done.width)
    refs = [ArrayRef(shape=shape, digest=one, uri=uri_of(one)) for one in (done.parts[part].mean, done.parts[part].std)]
    mean, std = [await bench.system.artifacts.get_array(ref) for ref in refs]
    return mean, std


async def test_an_archive_with_holes_is_no_work_for_who_learnt_from_whole_fields(bench, archive, weights) -> None:
    await bench.serve({f"voter-{place}": weights(place) for place in range(3)})
    failed = await told(bench, asked(bench, archive))
    assert failed.code == "invalid_field"
    assert "cells have no value, and this network learnt from fields that have all" in failed.detail


async def test_a_hindcast_is_a_forecast_from_every_start_scored_recorded_and_paid_for_once(
    bench, archive, ensemble
) -> None:
    before = await bench.balance()
    delivery = asked(bench, archive)
    completion = await training.answer(delivery, bench.system)
    done = bench.said(completion)
    whole = await manifest(bench, done)
    assert (whole.done, len(whole.parts), done.summary["stopped_by"]) == (True, PARTS, "done")
    values = waves()
    for part in range(PARTS):
        trajectory, first, size = whole.place(part)
        mean, std = await maps(bench, whole, part)
        for start in range(size):
            shown = values[trajectory, whole.frame(first + start)]
            for lead in range(STEPS):  # what nobody trained says that nothing changes
                np.testing.assert_allclose(mean[start, lead], shown, rtol=0.1, atol=0.1)
            missing = np.isnan(shown)
            assert np.isnan(std[start, :, missing]).all()
            assert (std[start, :, ~missing] > 0).all()
    assert whole.judged == len(whole.parts) * TOGETHER, "of so few starts each one"
    first, *_, last = whole.skill()
    assert (first.lead, last.lead) == (1, STEPS)
    assert first.over_persistence == pytest.approx(0, abs=0.05)
    assert first.over_best < first.over_persistence
    assert done.summary[f"skill_over_best_{STEPS}"] == last.over_best
    (fact,) = completion.facts
    assert isinstance(fact.payload, LineageRecorded)
    assert {ensemble.champion.model_id, f"dataset:{archive.digest}"} <= {edge.to_id for edge in fact.payload.edges}
    after = await bench.balance()
    assert (after.spent_mj - before.spent_mj, after.reserved_mj) == (done.energy.mj, 0)
    lines = await story(bench, delivery)
    assert {line.phase for line in lines} == {"hindcasting"}
    assert (lines[0].step, lines[-1].step, lines[-1].steps) == (0, PARTS, PARTS)

    again = await told(bench, asked(bench, archive))
    assert (again.energy.mj, again.manifest) == (0, done.manifest)
    assert (await bench.balance()).spent_mj == after.spent_mj


async def test_a_hindcast_whose_child_was_killed_is_ended_by_the_next_attempt_with_the_same_bytes(
    bench, archive, ensemble
) -> None:
    whole = await manifest(bench, await told(bench, asked(bench, archive)))
    await forget(bench, whole.work)
    there, spent_mj = objects(bench), (await bench.balance()).spent_mj
    delivery = asked(bench, archive)
    working = asyncio.create_task(training.answer(delivery, bench.system))
    async with asyncio.timeout(60):
        while await left(bench, whole.work) < 2:
            await asyncio.wait({working}, timeout=0.002)
            assert not working.done()
    os.kill(bench.system.child.pid, signal.SIGKILL)
    with pytest.raises(ComputeFailed, match="signal 9"):
        await working
    kept = await left(bench, whole.work)
    assert 2 <= kept < PARTS

    done = bench.said(await training.answer(once_more(bench, delivery), bench.system))
    assert await manifest(bench, done) == whole
    assert objects(bench) - there == {name_of(await pointed(bench, whole.work)).rpartition("/")[2]}
    lines = await story(bench, delivery)
    (begun,) = [line for line in lines if line.note]
    assert (begun.step, begun.note) == (kept, f"goes on from part {kept}")
    balance = await bench.balance()
    assert (balance.spent_mj - spent_mj, balance.reserved_mj) == (done.energy.mj, 0)


async def pointed(bench, work: str) -> str:
    at = await bench.system.redis.hget(names.attempts(bench.account, work), "at")
    return ObjectRef.model_validate_json(at).digest


async def test_what_time_or_joules_did_not_reach_for_is_gone_on_from_by_another_job_which_pays_for_the_rest(
    bench, archive, ensemble, monkeypatch
) -> None:
    whole = await told(bench, asked(bench, archive))
    await forget(bench, (await manifest(bench, whole)).work)
    with monkeypatch.context() as patch:
        patch.setattr(hindcasts, "SLOWER", 1e6)  # so that no second part would end in time
        first = await told(bench, asked(bench, archive))
    assert (first.summary["stopped_by"], first.summary["parts"]) == ("deadline_exceeded", 1)
    for opening in ("OPENING_CPU_S", "FIT_WINDOWS"):
        monkeypatch.setattr(plans, opening, 0)  # it is compiled and fitted by now
    refused = await told(bench, asked(bench, archive, 1000, partial=True))
    assert isinstance(refused, JobRefused)
    assert refused.code == "budget_too_small"
    assert refused.needed_mj is not None
    budget_mj, jobs = round(1.05 * refused.needed_mj), 0
    while (done := await told(bench, asked(bench, archive, budget_mj, partial=True))).summary["stopped_by"] != "done":
        assert done.summary["stopped_by"] == "budget_exhausted"
        assert done.energy.mj <= budget_mj
        jobs += 1
        assert jobs < PARTS
    assert jobs > 0
    assert done.manifest == whole.manifest


@pytest.fixture
def fresh(bench, archive, ensemble) -> Manifest:
    """A work of which nothing is done."""
    spec = asked(bench, archive).payload.spec
    sides = {"trajectories": 2, "frames": FRAMES, "height": SIDE, "width": SIDE}
    about = {**sides, "units": UNITS, "dt_s": 1.0, "dx_m": 1.0, "start_ms": 0}
    return plans.planned(spec, ensemble, ensemble.champion, about, 2)


def a_part() -> tuple[list[np.ndarray], dict[str, Any], int]:
    return [np.ones((TOGETHER, STEPS, SIDE, SIDE), np.float32)] * 2, {"missed": {}, "spread": []}, 0


async def test_who_was_asleep_before_it_began_takes_no_fence_from_who_does_the_work(bench, archive, fresh) -> None:
    job = asked(bench, archive)
    awake = await parts.attempt(once_more(bench, job), fresh, bench.system)
    with pytest.raises(Cancelled, match="another worker has this job now"):
        await parts.attempt(job, fresh, bench.system)
    await awake.add(*a_part())
    other = await parts.attempt(asked(bench, archive), fresh, bench.system)
    with pytest.raises(Cancelled, match="another worker has this job now"):  # nor from another job that does the same
        await parts.attempt(job, fresh, bench.system)
    await other.add(*a_part())
    assert await left(bench, fresh.work) == 2
    await forget(bench, fresh.work)


async def test_who_was_only_asleep_moves_nothing_once_another_does_the_work(bench, archive, fresh) -> None:
    asleep = await parts.attempt(asked(bench, archive), fresh, bench.system)
    await asleep.add(*a_part())
    awake = await parts.attempt(asked(bench, archive), fresh, bench.system)
    assert len(awake.manifest.parts) == 1
    await awake.add(*a_part())
    there = objects(bench)
    with pytest.raises(Cancelled, match="another job does the same"):
        await asleep.add(*a_part())
    assert (objects(bench), await left(bench, fresh.work)) == (there, 2)
    await forget(bench, fresh.work)


@pytest.mark.parametrize(
    ("otherwise", "code", "said"),
    [
        ({"steps": FRAMES}, "invalid_field", f"trajectories have {FRAMES} frames and the first 2 are shown"),
        ({"domain": "rain"}, "unknown_model", "no model for 'rain'"),
        ({"model": "model:sha256:0"}, "unknown_model", "is no member of an ensemble"),
        ({"model": "@previous"}, "unknown_model", "plasma_physics has no previous"),
    ],
)
async def test_what_cannot_be_forecast_is_refused_and_costs_nothing(
    bench, archive, ensemble, otherwise, code, said
) -> None:
    before = (await bench.balance()).spent_mj
    refused = await told(bench, asked(bench, archive, **otherwise))
    assert isinstance(refused, JobRefused)
    assert refused.code == code
    assert said in refused.detail
    assert (await bench.balance()).spent_mj == before


async def test_a_budget_that_will_not_reach_and_data_in_other_units_are_refused_with_the_figure(
    bench, archive, ensemble
) -> None:
    refused = await told(bench, asked(bench, archive, 5000))
    assert isinstance(refused, JobRefused)
    assert (refused.code, refused.detail.startswith(f"a hindcast, {PARTS} of {PARTS} parts,")) == (
        "budget_too_small", True,
    )  # fmt: skip
    refused = await told(bench, asked(bench, await brought(bench, waves(), "K")))
    assert isinstance(refused, JobRefused)
    assert "data in 'K', and the ensemble of plasma_physics learnt it in 'J'" in refused.detail


def test_more_parts_than_a_manifest_should_name_are_refused() -> None:
    ref = ObjectRef(uri="artifact:x", digest="sha256:" + "0" * 64, bytes=1)
    member = Member(voter="voter-0", model_id="model:x", weights=ref)
    spec, record = HindcastSpec(domain=DOMAIN, data=ref, steps=1), EnsembleRecord(domain=DOMAIN, members=(member,))
    sides = {"trajectories": 2**14, "frames": 3, "height": SIDE, "width": SIDE}
    about = {**sides, "units": UNITS, "dt_s": 1.0, "dx_m": 1.0, "start_ms": 0}
    assert plans.planned(spec, record, member, about, 2).parts_in_all == 2**14
    with pytest.raises(InvalidInput, match="are 16,385 parts, limit 16,384; bring fewer"):
        plans.planned(spec, record, member, about | {"trajectories": 2**14 + 1}, 2)


def test_parts_are_of_one_shape_whatever_the_archive_and_no_larger_than_is_said() -> None:
    for cells, starts in ((100, 7), (100, 900), (20_000, 300), (300_000, 100), (1_000_000, 100), (2**24, 9)):
        some = plans.together(starts, cells)
        assert 1 <= some <= starts
        assert some * cells <= max(plans.CELLS, cells)
        assert some == starts or some % 16 == 0 or some in (1, 2, 4, 8), "a batch is filled"


ASKED = {"domain": DOMAIN, "steps": STEPS, "every": 2, "model": None, "partial": False}


@pytest.fixture
async def worker(bench) -> AsyncIterator[None]:
    stop = asyncio.Event()
    serving = asyncio.create_task(training.serve(bench.system, stop))
    yield
    stop.set()
    await serving


@pytest.fixture
def x_zarr(tmp_path: Path) -> Path:
    values = waves()
    there = np.isfinite(values)
    meta = FieldMeta(DOMAIN, UNITS, dt_s=60.0, dx_m=500.0, start_ms=1_560_000_000_000)
    write_zarr(SequenceSet(np.where(there, values, np.float32(0)), there, meta), tmp_path / "X.zarr")
    return tmp_path / "X.zarr"


@pytest.fixture
def nvp_hindcast(bench, x_zarr: Path):
    """Start the command, writing to ``out``."""
    settings = bench.system.settings
    place = {"NVP_DATA_DIR": settings.data_dir, "NVP_REDIS_URL": settings.redis_url, "NVP_ACCOUNT": bench.account,
             "NVP_ARTIFACTS_URL": settings.artifacts_url}  # fmt: skip
    environment = {name: one for name, one in os.environ.items() if not name.startswith("NVP_")}

    async def start(out: Path) -> asyncio.subprocess.Process:
        words = ["--data", x_zarr, "--out", out, "--domain", DOMAIN, "--steps", STEPS, "--every", 2, "--json"]
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "nvp_agentkit.cli", "hindcast", *map(str, words),
            env=environment | {name: str(one) for name, one in place.items()},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    return start


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


async def begun(bench) -> None:
    """A hindcast has told of itself."""
    async with asyncio.timeout(60):
        pattern = names.job(bench.account, "hindcast-*").replace("{", r"\{").replace("}", r"\}")
        while not [key async for key in bench.system.redis.scan_iter(match=pattern, count=1000)]:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_command_that_was_killed_is_given_again_and_ends_with_the_bytes_of_one_that_was_not(
    bench, ensemble, worker, x_zarr, nvp_hindcast, tmp_path
) -> None:
    killed = await nvp_hindcast(tmp_path / "Y.zarr")
    await begun(bench)
    killed.kill()
    await killed.wait()
    assert not (tmp_path / "Y.zarr").exists()
    again = await nvp_hindcast(tmp_path / "Y.zarr")
    out, err = await again.communicate()
    assert again.returncode == 0, err.decode()
    told = json.loads(out)
    assert (told["whole"], told["stopped_by"], told["model"]) == (True, "done", ensemble.champion.model_id)
    assert [one["lead"] for one in told["skill"]] == [1, 2, 3]

    wanted = Wanted.of(str(x_zarr), tmp_path / "Z.zarr", ASKED, {"units": "1"}, budget_j=200, deadline_s=60)
    made = await make(bench.system.settings, bench.account, wanted)
    assert (made.whole, made.mj) == (True, 0), "it is there, nothing is paid for twice"
    assert files(tmp_path / "Y.zarr") == files(tmp_path / "Z.zarr")
    assert [path.name for path in sorted(tmp_path.glob("*.zarr*"))] == ["X.zarr", "Y.zarr", "Z.zarr"]
    assert (await make(bench.system.settings, bench.account, wanted)).job_id is None, "whole: nothing is asked for"

    with xr.open_zarr(tmp_path / "Y.zarr", consolidated=False) as found:
        values, starts = waves(), np.arange(1, 13, 2)
        assert found["mean"].dims == found["std"].dims == ("trajectory", "start", "lead", "y", "x")
        np.testing.assert_array_equal(found["start"], starts)
        np.testing.assert_array_equal(
            found["reference_time"], np.datetime64("2019-06-08T13:20") + starts * np.timedelta64(60, "s")
        )
        np.testing.assert_array_equal(found["x"], 500.0 * np.arange(SIDE))
        assert (found["mean"].attrs["units"], found.attrs["nvp_work"]) == (UNITS, told["work"])
        np.testing.assert_allclose(found["mean"][:, :, 0], values[:, starts], rtol=0.1, atol=0.1)
        assert found["skill_over_best"].values.tolist() == [one["over_best"] for one in told["skill"]]
    other = Wanted.of(
        str(x_zarr), tmp_path / "Y.zarr", ASKED | {"every": 1}, {"units": "1"}, budget_j=200, deadline_s=60
    )
    with pytest.raises(InvalidInput, match="is a hindcast with every=2, and every=1 is asked for"):
        await make(bench.system.settings, bench.account, other)


async def test_what_was_stopped_lies_beside_its_place_until_the_same_command_has_ended_it(
    bench, ensemble, worker, x_zarr, tmp_path, monkeypatch
) -> None:
    async def made(out: str) -> Made:
        wanted = Wanted.of(str(x_zarr), tmp_path / out, ASKED, {"units": "1"}, budget_j=200, deadline_s=60)
        return await make(bench.system.settings, bench.account, wanted)

    with monkeypatch.context() as patch:
        patch.setattr(hindcasts, "SLOWER", 1e6)  # so that no second part would end in time
        stopped = await made("Y.zarr")
    assert (stopped.whole, stopped.stopped_by, stopped.parts_in_all) == (False, "deadline_exceeded", 6)
    assert lines(stopped)[0].startswith(f"deadline_exceeded: {stopped.parts} of 6 parts are done")
    assert [path.name for path in sorted(tmp_path.glob("Y*"))] == ["Y.zarr.partial"]
    ended = await made("Y.zarr")
    assert (ended.whole, ended.parts) == (True, 6)
    assert ended.mj > 0
    assert lines(ended)[-1].startswith(f"wrote {tmp_path / 'Y.zarr'}: 6 parts by {ensemble.champion.model_id}")
    assert (await made("Z.zarr")).mj == 0
    assert files(tmp_path / "Y.zarr") == files(tmp_path / "Z.zarr")
