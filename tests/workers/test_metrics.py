"""/live, /ready and /metrics say what is so, also while a worker's event loop says nothing."""

from __future__ import annotations

import asyncio
import socket
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nvp_agentkit import __version__
from nvp_agentkit.errors import PortTaken, StoreUnavailable
from nvp_agentkit.messages import PredictionRequested
from nvp_agentkit.observability import pulse
from nvp_agentkit.streams import Completion, publish
from nvp_agentkit.streams.health import workers
from nvp_agentkit.workers import joules, main, metrics, refusals
from nvp_agentkit.workers.compute.cost import Cost
from nvp_agentkit.workers.metrics import table
from nvp_agentkit.workers.process import Role, run_roles

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operating.md"


class Figures:
    """What /metrics said; called with a name and some labels it is the sum of what fits."""

    def __init__(self, said: str) -> None:
        self._samples = [one for family in text_string_to_metric_families(said) for one in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        fits = [one.value for one in self._samples if one.name == name and labels.items() <= one.labels.items()]
        return sum(fits)


class Ears:
    """A worker that answers probes, with a handler of the test's own."""

    def __init__(self, bench: Any, port: int) -> None:
        self.bench, self.port = bench, port
        self.system = bench.system
        self.does: Callable[[Any], Any] = lambda delivery: Completion()

    async def handle(self, delivery: Any) -> Completion:
        return await asyncio.sleep(0, self.does(delivery))

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as said:
                return said.status, said.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    async def ask(self, path: str) -> tuple[int, str]:
        return await asyncio.to_thread(self.get, path)

    async def figures(self) -> Figures:
        return Figures((await self.ask("/metrics"))[1])

    async def until(self, name: str, value: float, **labels: str) -> Figures:
        """The figures, once one of them is so."""
        async with asyncio.timeout(20):
            while (figures := await self.figures())(name, **labels) != value:  # noqa: ASYNC110  as a scraper does
                await asyncio.sleep(0.05)
        return figures

    async def request(self, request_of: Any) -> str:
        delivery = self.bench.delivery(request_of())
        await publish(self.system.redis, self.bench.account, "predict", delivery.event)
        return delivery.request_id


@pytest.fixture
async def ears(bench, own_child, free_port, monkeypatch) -> AsyncIterator[Ears]:
    monkeypatch.setattr(metrics, "SAMPLE_S", 0.1)
    made = Ears(bench, free_port)
    settings = bench.system.settings.model_copy(update={"metrics_port": free_port, "instance": bench.account})
    object.__setattr__(bench.system, "settings", settings)
    role = Role.each("predict", "inference", PredictionRequested, made.handle, refusals.prediction)
    stop = asyncio.Event()
    async with main.observed(settings, bench.system.metrics):
        running = asyncio.create_task(run_roles(bench.system, stop, [role]))
        yield made
        stop.set()
        await running
        assert (await made.ask("/ready"))[0] == 503


async def test_ready_is_what_the_heartbeat_says(ears, redis) -> None:
    async with asyncio.timeout(20):
        while (await ears.ask("/ready")) != (200, "ok\n"):  # noqa: ASYNC110  asked as an engine does
            await asyncio.sleep(0.02)
    assert {one.instance: one.state for one in await workers(redis)}[ears.bench.account] == "ready"
    assert (await ears.figures())("nvp_ready") == 1
    ears.system.metrics.pulse._taken_at -= 11
    assert (await ears.ask("/ready"))[1].startswith("the stream server has not taken a heartbeat for 1")
    ears.system.metrics.pulse.says("starting", "the graph is away")
    assert (await ears.ask("/ready")) == (503, "starting the graph is away\n")
    assert (await ears.ask("/live")) == (200, "ok\n")
    assert (await ears.ask("/else"))[0] == 404


async def test_a_handler_that_stops_the_event_loop_is_seen_while_it_does(ears, request_of, monkeypatch) -> None:
    monkeypatch.setattr(pulse, "STUCK_S", 0.2)
    monkeypatch.setattr(pulse, "DEAD_S", 2.0)
    seen = []

    def blocks(_: Any) -> Completion:
        for limit_s in (0.2, 2.0):
            while ears.system.metrics.pulse.stuck_s < limit_s:
                time.sleep(0.01)
            seen.append((ears.get("/live")[0], ears.get("/ready")))
        return Completion()

    ears.does = blocks
    await ears.request(request_of)
    figures = await ears.until("nvp_messages_total", 1, outcome="done")
    assert [live for live, _ in seen] == [200, 503]
    for _, (status, why) in seen:
        assert (status, why.partition(" for ")[0]) == (503, "the event loop has stood still")
    assert figures("nvp_handler_seconds_count", stream="predict", group="inference") == 1
    assert figures("nvp_handler_seconds_bucket", le="0.3") == 0
    assert figures("nvp_event_loop_stuck_seconds") < 2.0


async def test_what_happens_to_messages_is_counted_by_stream_and_group(ears, request_of) -> None:
    tries: list[str] = []

    def fails_first(delivery: Any) -> Completion:
        tries.append(delivery.request_id)
        if len(tries) == 1:
            raise StoreUnavailable("for a moment")
        if tries[-1] == dying:
            raise ZeroDivisionError
        return Completion()

    ears.does, dying = fails_first, ""
    await ears.request(request_of)
    await ears.until("nvp_messages_total", 1, outcome="done")
    dying = await ears.request(request_of)
    await ears.until("nvp_messages_total", 1, outcome="dead")
    account = ears.bench.account
    figures = await ears.until("nvp_dead_letters", 1, account=account, stream="predict")
    assert figures("nvp_retries_total", stream="predict") == 1
    assert figures("nvp_leases_lost_total", stream="predict") == 0
    assert figures("nvp_messages_in_flight", stream="predict") == 0
    assert figures("nvp_stream_lag", account=account, stream="predict", group="inference") == 0
    assert figures("nvp_compute_child_restarts_total") == 0
    assert figures("nvp_worker_info", version=__version__) == 1
    assert figures("nvp_stream_oldest_seconds", account=account) == 0


async def test_joules_are_counted_as_they_are_settled_and_once(bench, request_of) -> None:
    async with joules.window(bench.system, bench.delivery(request_of()), part="voter-0", parts=1) as energy:
        for cpu_s in (0.1, 0.1, 0.25):
            energy.spent(Cost(cpu_s=cpu_s, wall_s=cpu_s, rss_gb=0.0))
            await energy.settle()
    spent_mj = (await bench.balance()).spent_mj
    assert bench.system.metrics.charged._value.get() * 1000 == pytest.approx(spent_mj)
    assert spent_mj > 900


async def test_a_port_that_is_taken_is_named_with_its_variable(settings, bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        at = settings.model_copy(update={"metrics_port": taken.getsockname()[1]})
        with pytest.raises(PortTaken, match=r"127\.0\.0\.1:\d+ for /live.*change NVP_METRICS_PORT"):
            async with main.observed(at, bench.system.metrics):
                pass


def test_the_page_has_every_metric_as_the_code_has_it() -> None:
    assert table() in PAGE.read_text(), "docs/operating.md: paste what `python -m nvp_agentkit.workers.metrics` prints"


def test_names_are_those_of_prometheus() -> None:
    rows = [row.split("|")[1:] for row in table().splitlines()[2:]]
    for name, kind, _, what in ((cell.strip() for cell in row[:4]) for row in rows):
        assert name.strip("`").startswith("nvp_")
        assert name.endswith("_total`") == (kind == "counter")
        assert what.endswith(".")
