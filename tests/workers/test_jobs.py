"""Jobs that make data: simulated or brought, kept under their digest, on record, paid for."""

from __future__ import annotations

import asyncio
import io
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from benchmarks import sample_files
from nvp_agentkit.errors import Cancelled, ComputeFailed, DeadlineExceeded, InvalidInput, InvalidMessage, NvpError
from nvp_agentkit.messages import (
    ImportSpec,
    JobCompleted,
    JobFailed,
    JobProgressed,
    JobRefused,
    JobRequested,
    LineageRecorded,
    ObjectRef,
    Payload,
    PredictionAbstained,
    Reading,
    SimulateSpec,
    TrainSpec,
    decode,
)
from nvp_agentkit.streams import Delivery, names
from nvp_agentkit.workers import refusals, training
from nvp_agentkit.workers.jobs import keeping


async def work(bench, delivery: Delivery) -> Payload:
    """What the asker is told in the end."""
    try:
        return bench.said(await training.answer(delivery, bench.system))
    except NvpError as error:
        return bench.said(refusals.job(bench.system, delivery, error))


async def story(bench, delivery: Delivery) -> list[JobProgressed]:
    """The job's progress as a client would read it."""
    entries = await bench.system.redis.xrange(names.job(bench.account, delivery.request_id))
    return [decode(fields[b"event"]).payload for _, fields in entries]


async def brought(bench, data: bytes, **otherwise: Any) -> Delivery:
    """The job of importing a file with these bytes."""
    spec = ImportSpec(**{"domain": "user_field", "source": await bench.system.artifacts.put(data),
                         "filename": "field.npz", "units": "mm/h", **otherwise})  # fmt: skip
    return bench.delivery(JobRequested(spec=spec), suffix="jobs")


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.fixture
def rain() -> np.ndarray:
    return np.random.default_rng(0).gamma(2.0, size=(12, 16, 20)).astype(np.float32)


async def test_a_simulation_becomes_a_dataset_that_is_on_record_and_paid_for(bench) -> None:
    delivery = bench.simulation()
    with capture_logs() as logged:
        completion = await training.answer(delivery, bench.system)
    done = bench.said(completion)
    assert isinstance(done, JobCompleted)
    assert [line["event"] for line in logged] == ["job begins", "job done"]
    assert logged[1]["mj"] == done.energy.mj
    assert done.dataset is not None
    assert len(await bench.system.artifacts.get(done.dataset)) == done.dataset.bytes
    assert {name: done.summary[name] for name in ("trajectories", "frames", "height", "width")} == {
        "trajectories": 4, "frames": 8, "height": 32, "width": 32}  # fmt: skip
    balance = await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj) == (done.energy.mj, 0)
    lines = await story(bench, delivery)
    assert [line.used_mj for line in lines] == sorted(line.used_mj for line in lines)
    assert {line.phase for line in lines} == {"simulating"}
    (fact,) = completion.facts
    assert fact.deadline is None  # what happened stays true, however late it is recorded
    facts = fact.payload
    assert isinstance(facts, LineageRecorded)
    assert {node.label for node in facts.nodes} == {
        "Run", "Agent", "CodeVersion", "Environment", "EnergyReading", "EnergyAccount", "Config", "DatasetVersion",
        "MetricSeries",
    }  # fmt: skip
    assert {edge.type for edge in facts.edges} >= {"WAS_GENERATED_BY", "METERED", "CHARGED_TO", "USED"}


async def test_a_variant_is_simulated_when_it_is_asked_for_and_the_dataset_says_which(bench) -> None:
    delivery = bench.simulation(domain="turbulence_2d", variant="forced", trajectories=1, frames=4)
    completion = await training.answer(delivery, bench.system)
    assert bench.said(completion).summary["variant"] == "forced"
    (data,) = (node for node in completion.facts[0].payload.nodes if node.label == "DatasetVersion")
    assert data.properties["variant"] == "forced"


async def test_a_variant_that_is_not_there_is_refused_naming_those_that_are_and_costs_nothing(bench) -> None:
    with capture_logs() as logged:
        refused = await work(bench, bench.simulation(domain="turbulence_2d", variant="wild"))
    assert [line["event"] for line in logged] == ["job begins", "job ends badly"]
    assert isinstance(refused, JobRefused)
    assert (refused.code, refused.detail) == (
        "invalid_input", "turbulence_2d has no variant 'wild'; there are decaying, forced")  # fmt: skip
    assert (await bench.balance()).spent_mj == 0


async def test_a_file_of_ones_own_becomes_a_dataset_and_nan_its_mask(bench, rain: np.ndarray) -> None:
    rain[:, :4] = np.nan
    done = await work(bench, await brought(bench, npz(rain=rain, time=np.arange(12))))
    assert isinstance(done, JobCompleted)
    assert (done.summary["frames"], done.summary["units"], done.summary["masked_cells"]) == (12, "mm/h", 12 * 4 * 20)


@pytest.mark.parametrize("name", ["netcdf4", "zarr3", "well"])
async def test_a_file_that_says_what_it_means_becomes_a_dataset_that_means_it(bench, tmp_path: Path, name: str) -> None:
    sample_files.FORMATS[name](tmp_path / "x")
    delivery = await brought(bench, (tmp_path / "x").read_bytes(), array="rain", units="1", dx_m=1500.0)
    done = await work(bench, delivery)
    assert isinstance(done, JobCompleted), done
    climate = name != "well"
    assert (done.summary["units"], done.summary["dt_s"]) == (("mm h-1", 21600) if climate else ("1", 0.25))
    assert (done.summary["frames"], done.summary["dx_m"], done.summary["masked_cells"] > 0) == (4, 1500, True)


async def test_no_name_of_a_file_is_too_long_or_strange_to_import_it(bench, rain: np.ndarray) -> None:
    done = await work(bench, await brought(bench, npz(rain=rain), filename="x." + 250 * "y" + "/.."))
    assert isinstance(done, JobCompleted)


def header(shape: tuple[int, ...]) -> bytes:
    """The beginning of a .npy that promises an array of ``shape``, and then ends."""
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head


HOSTILE: dict[str, tuple[Callable[[np.ndarray], bytes], str]] = {
    "garbage": (lambda _: b"\x00garbage" * 99, "give a .npy or .npz"),
    "a header that promises 100,000 x 100,000": (lambda _: header((4, 100_000, 100_000)), "needs 160,000,000,000"),
    "a pickle": (lambda _: npy(np.array([{"a": 1}], dtype=object)), "nothing is unpickled"),
    "a bare pickle": (lambda _: pickle.dumps([1]), "give a .npy or .npz"),
    "infinite values": (lambda rain: npy(np.where(rain > 1, np.inf, rain)), "limit 1e"),
    "nothing observed": (lambda rain: npy(rain * np.nan), "every value is NaN"),
    "one frame": (lambda rain: npy(rain[0]), "give (T, H, W)"),
    "no rows": (lambda rain: npy(rain[:, :0]), "no axis empty"),
    "cut short": (lambda rain: npy(rain)[:-100], "copy it again"),
    "several arrays": (lambda rain: npz(a=rain, b=rain), "Name one"),
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_a_hostile_file_is_refused_in_words_and_costs_nothing(bench, rain: np.ndarray, what: str) -> None:
    make, words = HOSTILE[what]
    refused = await work(bench, await brought(bench, make(rain)))
    assert isinstance(refused, JobRefused)
    assert refused.code == "invalid_file"
    assert words in refused.detail
    balance = await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj) == (0, 0)


async def test_what_is_not_there_or_not_what_it_says_is_refused(bench) -> None:
    gone = ObjectRef(uri=f"artifact:sha256/ab/{'c' * 62}", digest=f"sha256:ab{'c' * 62}", bytes=3)
    outside = ObjectRef(uri="file:///etc/passwd", digest=gone.digest, bytes=3)
    other = (await bench.system.artifacts.put(b"something")).model_copy(update={"bytes": 3})
    for ref, code in ((gone, "unknown_name"), (outside, "invalid_input"), (other, "digest_mismatch")):
        for spec in (ImportSpec(domain="x", source=ref, filename="x.npy"), TrainSpec(domain="x", data=ref)):
            refused = await work(bench, bench.delivery(JobRequested(spec=spec), suffix="jobs"))
            assert isinstance(refused, JobRefused), spec
            assert refused.code == code
    assert (await bench.balance()).spent_mj == 0


async def test_an_unknown_domain_is_refused_naming_the_known_ones(bench) -> None:
    spec = SimulateSpec(domain="alchemy")
    refused = await work(bench, bench.delivery(JobRequested(spec=spec), suffix="jobs"))
    assert isinstance(refused, JobRefused)
    assert (refused.code, "plasma_physics" in refused.detail) == ("unknown_domain", True)
    assert (await bench.balance()).reserved_mj == 0


async def test_a_job_that_names_no_budget_is_refused(bench) -> None:
    with pytest.raises(InvalidInput, match="no budget"):
        await training.answer(bench.simulation(budget_mj=None), bench.system)


async def test_a_budget_that_does_not_even_pay_for_the_beginning_is_refused_with_the_figure(bench) -> None:
    refused = await work(bench, bench.simulation(budget_mj=4000))
    assert isinstance(refused, JobRefused)
    assert refused.code == "budget_too_small"
    assert refused.needed_mj == 8000
    assert "4.0 J" in refused.detail
    assert (await bench.balance()).spent_mj == 0


async def test_a_simulation_that_does_not_fit_its_budget_stops_and_is_charged_no_more_than_that(bench) -> None:
    failed = await work(bench, bench.simulation(trajectories=16, frames=400, budget_mj=12_000))
    assert isinstance(failed, JobFailed)
    assert failed.code == "budget_exhausted"
    assert "simulating plasma_physics: stopped at" in failed.detail  # by itself, between two steps
    assert "raise `budget_j`" in failed.detail
    balance = await bench.balance()
    assert 0 < balance.spent_mj <= 12_000
    assert balance.overdraft_mj == 0


async def test_a_job_is_ended_at_its_deadline_and_pays_what_it_used(bench) -> None:
    await bench.system.child.start()
    failed = await work(bench, bench.simulation(trajectories=16, frames=4000, within_s=2.5, budget_mj=900_000))
    assert isinstance(failed, JobFailed)
    assert failed.code == "deadline_exceeded"
    balance = await bench.balance()
    assert 0 < balance.spent_mj < 900_000
    assert failed.energy.mj == balance.spent_mj
    assert balance.reserved_mj == 0


async def at_work(bench, delivery: Delivery) -> asyncio.Task[Payload]:
    """The job, once its first line of progress is out."""
    working = asyncio.create_task(training.answer(delivery, bench.system))
    async with asyncio.timeout(60):
        while not await story(bench, delivery):
            await asyncio.wait({working}, timeout=0.02)
            assert not working.done()
    return working


async def test_a_job_whose_child_was_killed_is_done_by_the_next_attempt_within_the_same_grant(bench) -> None:
    delivery = bench.simulation(trajectories=12, frames=24)
    working = await at_work(bench, delivery)
    os.kill(bench.system.child.pid, signal.SIGKILL)
    with pytest.raises(ComputeFailed, match="signal 9"):
        await working
    paid = await bench.balance()
    assert paid.spent_mj > 0
    assert paid.spent_mj + paid.reserved_mj == 60_000
    again = await work(bench, bench.delivery(delivery.payload, suffix="jobs", event=delivery.event, attempt=2))
    assert isinstance(again, JobCompleted)
    balance = await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj) == (again.energy.mj, 0)
    assert again.energy.mj > paid.spent_mj  # the bill is of both attempts


@pytest.fixture
def full(bench) -> Iterator[Path]:
    """The artifact store takes nothing until this file is gone."""
    root = Path(str(bench.system.settings.artifacts_url))
    root.write_text("in the way")
    yield root
    if root.is_file():
        root.unlink()


async def test_a_result_that_cannot_be_kept_at_once_is_kept_later_and_not_computed_again(
    bench, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_room() -> Iterator[float]:
        full.unlink()
        yield 0.0

    monkeypatch.setattr(keeping, "KEEP_WAITS_S", make_room())
    done = await work(bench, bench.simulation())
    assert isinstance(done, JobCompleted)
    assert await bench.system.artifacts.get(done.dataset)
    assert (await bench.balance()).spent_mj == done.energy.mj


async def test_a_result_that_can_never_be_kept_is_paid_once_and_not_computed_again(
    bench, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "KEEP_WAITS_S", (0.0,))
    with pytest.raises(NvpError, match=r"done, but the result cannot be kept: .* make room there") as caught:
        await training.answer(bench.simulation(), bench.system)
    assert not caught.value.retryable
    balance = await bench.balance()
    assert balance.spent_mj > 0
    assert balance.reserved_mj == 0


async def test_a_job_that_another_worker_took_over_stops_at_its_next_step(bench) -> None:
    delivery = bench.simulation(trajectories=16, frames=4000, budget_mj=900_000)
    working = await at_work(bench, delivery)
    async with asyncio.timeout(20):
        while not (await bench.balance()).spent_mj:  # noqa: ASYNC110  charged as it goes, should its worker die
            await asyncio.sleep(0.01)
    delivery.lost.set()
    with pytest.raises(Cancelled, match="another worker has this job now"):
        await working
    assert (await bench.balance()).spent_mj < 900_000


async def test_a_job_that_made_nothing_is_on_record_with_what_it_used(bench, rain: np.ndarray) -> None:
    hostile = await brought(bench, npy(rain[0]))
    too_long = bench.simulation(trajectories=16, frames=400, budget_mj=12_000)
    for delivery, outcome, labels in (
        (hostile, "refused", {"Run", "Agent", "CodeVersion"}),
        (too_long, "failed", {"Run", "Agent", "CodeVersion", "EnergyReading", "EnergyAccount"}),
    ):
        with pytest.raises(NvpError) as caught:
            await training.answer(delivery, bench.system)
        (fact,) = refusals.job(bench.system, delivery, caught.value).facts
        nodes = {node.label: node for node in fact.payload.nodes}
        assert set(nodes) == labels
        run = nodes["Run"].properties
        assert (run["outcome"], run["kind"]) == (outcome, delivery.payload.spec.kind)
        assert run["reason"] == f"{caught.value.code}: {caught.value}"
        assert run["started_ms"] <= run["ended_ms"]
    assert nodes["EnergyReading"].properties["mj"] == (await bench.balance()).spent_mj


def test_a_job_that_failed_after_an_attempt_was_paid_says_failed_and_not_refused(bench) -> None:
    """`JobRefused` promises that nothing was spent."""
    delivery = bench.simulation(attempt=2)
    assert isinstance(bench.said(refusals.job(bench.system, delivery, InvalidInput("late"))), JobFailed)
    late = InvalidInput("late")
    late.energy = Reading(mj=1, lo_mj=1, hi_mj=1, method="modelled", sensor="cpu-time")
    first = bench.simulation()
    failed = bench.said(refusals.job(bench.system, first, late))
    assert isinstance(failed, JobFailed)
    assert failed.energy == late.energy
    assert isinstance(bench.said(refusals.job(bench.system, first, InvalidInput("early"))), JobRefused)
    for begun in (DeadlineExceeded("late"), NvpError("a defect"), ComputeFailed("five times")):
        assert isinstance(bench.said(refusals.job(bench.system, first, begun)), JobFailed)


async def test_what_is_no_job_is_refused_with_one_word_however_often_it_was_delivered(bench) -> None:
    nonsense = PredictionAbstained(request_id="r", reason="no job at all")
    for attempt in (1, 2):
        taken = bench.delivery(nonsense, suffix="jobs", attempt=attempt)
        assert isinstance(bench.said(refusals.job(bench.system, taken, InvalidMessage("no job"))), JobRefused)
