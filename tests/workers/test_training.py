"""Training: refused before it costs anything, or ended within its joules with something to show for them."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import psutil
import pytest

from nvp_agentkit.ensemble import EnsembleRecord
from nvp_agentkit.errors import NvpError
from nvp_agentkit.messages import (
    ImportSpec,
    JobCompleted,
    JobProgressed,
    JobRefused,
    JobRequested,
    LineageRecorded,
    ObjectRef,
    Payload,
    PredictionCompleted,
    TrainSpec,
    decode,
)
from nvp_agentkit.model import ModelBundle, NVPConfig, load_model, model_bytes
from nvp_agentkit.model.state import initial_variables
from nvp_agentkit.streams import Completion, Delivery, names
from nvp_agentkit.workers import inference, refusals, training
from nvp_agentkit.workers.rounds import every
from nvp_agentkit.workers.serving import registry, switching
from nvp_agentkit.workers.serving.forecasting import ModelHost

from .conftest import alive

DOMAIN = "waves"


def waves(frames: int, size: int = 16) -> bytes:
    """A travelling wave in a file, 4 x ``frames`` of it."""
    y, x = np.mgrid[0:size, 0:size] * (2 * np.pi / size)
    shown = [[2 + np.sin(x - 0.3 * step + phase) * np.cos(y) for step in range(frames)] for phase in range(4)]
    file = io.BytesIO()
    np.save(file, np.float32(shown))
    return file.getvalue()


@pytest.fixture
async def dataset(bench) -> ObjectRef:
    return await brought(bench, waves(10))


async def brought(bench, data: bytes) -> ObjectRef:
    spec = ImportSpec(domain=DOMAIN, source=await bench.system.artifacts.put(data), filename="waves.npy", units="m")
    done = await told(bench, bench.delivery(JobRequested(spec=spec), suffix="jobs"))
    assert isinstance(done, JobCompleted)
    assert done.dataset is not None
    return done.dataset


async def told(bench, delivery: Delivery) -> Payload:
    try:
        return bench.said(await training.answer(delivery, bench.system))
    except NvpError as error:
        return bench.said(refusals.job(bench.system, delivery, error))


def asked(bench, data: ObjectRef, budget_mj: int, parent: str | None = None) -> Delivery:
    spec = TrainSpec(domain=DOMAIN, data=data, members=1, parent=parent)
    return bench.delivery(JobRequested(spec=spec), suffix="jobs", budget_mj=budget_mj, within_s=300)


async def test_a_budget_that_buys_no_useful_epoch_is_refused_with_the_figure_and_costs_nothing(bench, dataset) -> None:
    before = (await bench.balance()).spent_mj
    refused = await told(bench, asked(bench, dataset, 2000))
    assert isinstance(refused, JobRefused)
    assert refused.code == "budget_too_small"
    assert refused.needed_mj is not None
    assert f"{refused.needed_mj / 1000:,.1f}"[:3] in refused.detail
    balance = await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj) == (before, 0)


async def test_more_members_than_voters_have_keys_are_refused_before_they_are_trained(bench, dataset) -> None:
    spec = TrainSpec(domain=DOMAIN, data=dataset, members=4)
    before = (await bench.balance()).spent_mj
    refused = await told(bench, bench.delivery(JobRequested(spec=spec), suffix="jobs", budget_mj=900_000))
    assert isinstance(refused, JobRefused)
    assert refused.code == "invalid_input"
    assert refused.detail == (
        "4 members, and 3 voters have keys in this deployment (voter-0, voter-1, voter-2): "
        "ask for members=3 or fewer"
    )
    assert (await bench.balance()).spent_mj == before


async def test_data_that_cannot_be_parted_is_refused_and_costs_nothing(bench) -> None:
    short = await brought(bench, waves(2))
    before = (await bench.balance()).spent_mj
    refused = await told(bench, asked(bench, short, 100_000))
    assert isinstance(refused, JobRefused)
    assert refused.code == "invalid_field"
    assert (await bench.balance()).spent_mj == before


async def test_a_parent_that_cannot_be_gone_on_from_is_refused_and_costs_nothing(bench, dataset, weights) -> None:
    record = await bench.serve({f"voter-{place}": weights(place) for place in range(3)})
    before = (await bench.balance()).spent_mj
    for parent, said in (
        ("model:sha256:0", f"parent 'model:sha256:0' is no ensemble of account {bench.account}"),
        (record.members[1].model_id, f"is voter-1 of an ensemble; give the ensemble, {record.digest}, or its champion"),
    ):
        refused = await told(bench, asked(bench, dataset, 100_000, parent))
        assert isinstance(refused, JobRefused)
        assert refused.code == "unknown_model"
        assert said in refused.detail
    assert (await bench.balance()).spent_mj == before


async def test_the_starter_is_a_parent_of_every_account_and_the_child_knows_its_file(bench, dataset) -> None:
    refused = await told(bench, asked(bench, dataset, 10_000, "starter"))
    assert isinstance(refused, JobRefused)
    assert refused.code == "budget_too_small", "after the parent was read"


@pytest.fixture
async def warm_voter(bench) -> AsyncIterator[None]:
    """A voter that says of whatever is about to serve that it has it compiled, and computes nothing for that."""
    system = replace(bench.system, name="inference")

    async def say(stop: asyncio.Event) -> None:
        async for _ in every(0.1, stop):
            if change := await registry.under_way(system.redis, bench.account, DOMAIN):
                await switching.say(system, bench.account, change.token)

    async with alive(system, "inference") as stop:
        saying = asyncio.create_task(say(stop))
        yield
    await saying


async def test_training_ends_within_its_joules_by_the_kernels_own_count_and_serves_what_it_learnt(
    bench, dataset, warm_voter
) -> None:
    record = await bench.serve({"voter-0": model_bytes(ModelBundle(NVPConfig(), initial_variables(NVPConfig(), 0)))})
    parent, incumbent = record.champion.model_id, record.model_copy(update={"domain": DOMAIN})
    await bench.complete(Completion(fields=registry.registration(incumbent)))
    refused = await told(bench, asked(bench, dataset, 2000))
    granted_mj = round(1.5 * refused.needed_mj)
    before = await bench.balance()
    child = psutil.Process(bench.system.child.pid)
    used_s = sum(child.cpu_times()[:2])
    delivery = asked(bench, dataset, granted_mj, parent)
    completion = await training.answer(delivery, bench.system)
    used_s = sum(child.cpu_times()[:2]) - used_s
    done = bench.said(completion)
    assert isinstance(done, JobCompleted)

    # The ground truth: CPU-seconds that the kernel counted for the child, at 4 W a core.
    assert 4000 * used_s <= granted_mj
    assert 4000 * used_s <= done.energy.mj + 100  # nothing was left off the bill; the kernel's clock ticks in 10 ms
    assert done.energy.mj <= granted_mj
    after = await bench.balance()
    assert (after.spent_mj - before.spent_mj, after.reserved_mj, after.overdraft_mj) == (done.energy.mj, 0, 0)

    # Most of what was granted went into steps; the story tells them.
    assert done.energy.mj > 0.6 * granted_mj
    (member,) = done.members
    assert member.steps >= 4
    entries = await bench.system.redis.xrange(names.job(bench.account, delivery.request_id))
    story = [decode(fields[b"event"]).payload for _, fields in entries]
    assert all(isinstance(line, JobProgressed) and line.granted_mj == granted_mj for line in story)
    assert {line.phase for line in story} >= {"baselines", "validating", "training", "judging"}
    assert [line.used_mj for line in story] == sorted(line.used_mj for line in story)

    # Where it came from is on record.
    fact, placed = completion.facts
    assert isinstance(fact.payload, LineageRecorded)
    (stage,) = (node for node in placed.payload.nodes if node.label == "Assertion")
    assert f"of who serves on one held-out trajectory; 1 workers had it compiled over {incumbent.digest}" in (
        stage.properties["reason"])  # fmt: skip
    assert {"Run", "ModelVersion", "DatasetVersion", "MetricSeries", "Config"} <= {n.label for n in fact.payload.nodes}
    assert {"WAS_DERIVED_FROM", "EVALUATES", "WAS_GENERATED_BY"} <= {edge.type for edge in fact.payload.edges}
    descent = [(edge.type, edge.from_id) for edge in fact.payload.edges if edge.to_id == parent]
    assert ("WAS_DERIVED_FROM", member.model_id) in descent
    assert "USED" in dict(descent)
    assert load_model(await bench.system.artifacts.get(member.model)).recipe["parent"] == parent

    # It is better than who served, so from the moment of its completion it answers.
    assert done.summary["service"] == "champion"
    assert done.summary["vrmse_champion"] == pytest.approx(member.vrmse)
    assert done.summary["vrmse_in_service"] > member.vrmse
    assert (await registry.ensemble(bench.system.redis, bench.account, DOMAIN)) == incumbent
    await bench.complete(completion)
    record = await registry.ensemble(bench.system.redis, bench.account, DOMAIN)
    assert isinstance(record, EnsembleRecord)
    assert record.champion.model_id == member.model_id
    await _asked_for_a_forecast(bench, dataset)


async def _asked_for_a_forecast(bench, dataset: ObjectRef) -> None:
    from nvp_agentkit.artifacts import inline_array
    from nvp_agentkit.messages import PredictionRequested

    path = await bench.system.artifacts.local_path(dataset)
    values = await asyncio.to_thread(_frames, path)
    request = PredictionRequested(domain=DOMAIN, field=inline_array(values))
    models = ModelHost("voter-0", bench.system)
    answer = bench.said(await inference.answer(bench.delivery(request), models, bench.system))
    assert isinstance(answer, PredictionCompleted)
    mean = await bench.system.artifacts.get_array(answer.mean)
    assert np.abs(mean - values[-1]).max() < 1.5  # a wave of amplitude 1, one step on


def _frames(path) -> np.ndarray:
    from nvp_agentkit.fields.storage import open_sequences

    return np.array(open_sequences(path).values[0, :2])
