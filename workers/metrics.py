"""What a worker counts and measures, by the conventions of Prometheus. docs/operating.md has the table."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from redis.asyncio import Redis

from nvp_agentkit import __version__
from nvp_agentkit.observability.pulse import Pulse
from nvp_agentkit.streams import Consumer, Delivery, Handle, Outcome, RedisError
from nvp_agentkit.streams.health import TTL_S
from nvp_agentkit.streams.lag import Lag, lags

from .rounds import every

SAMPLE_S = 5.0
SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
BY_GROUP = ("stream", "group")
BY_STREAM = ("account", "stream")
log = structlog.get_logger()


class Metrics:
    """The figures of one worker process: counted where it happens, gathered when somebody asks."""

    def __init__(self, worker: str = "", instance: str = "") -> None:
        self.pulse = Pulse(word_s=TTL_S)
        self.registry = CollectorRegistry()
        self._who = (worker, instance, __version__)
        self._consumers: Sequence[tuple[str, str, Consumer]] = ()
        self._lags: Sequence[Lag] = ()
        self._child_starts: Callable[[], int] = lambda: 0
        ProcessCollector(registry=self.registry)
        self.charged = Counter(
            "nvp_charged_joules", "Joules settled at the ledger by this worker.", registry=self.registry
        )
        self._handler = Histogram(
            "nvp_handler_seconds",
            "Time that a message was in its handler; a fact, with the batch it came in.",
            BY_GROUP,
            buckets=SECONDS,
            registry=self.registry,
        )
        self.registry.register(self)

    def watch(self, consumers: Sequence[tuple[str, str, Consumer]], child_starts: Callable[[], int]) -> None:
        """From now on these (stream, group, consumer) are what is counted."""
        self._consumers, self._child_starts = consumers, child_starts

    def timed(self, stream: str, group: str, handle: Handle) -> Handle:
        """``handle``, measured."""
        measured = self._handler.labels(stream, group)

        async def timed(deliveries: list[Delivery]) -> Sequence[Outcome]:
            began = time.perf_counter()
            try:
                return await handle(deliveries)
            finally:
                seconds = time.perf_counter() - began
                for _ in deliveries:
                    measured.observe(seconds)

        return timed

    async def keep_sampling(self, redis: Redis, stop: asyncio.Event) -> None:
        """Look at the lag of this worker's streams again and again."""
        mine = {(stream, group) for stream, group, _ in self._consumers}
        suffixes = sorted({stream for stream, _ in mine})
        async for _ in every(SAMPLE_S, stop):
            try:
                self._lags = [one for one in await lags(redis, suffixes) if (one.suffix, one.group) in mine]
            except RedisError as error:
                log.warning("lag not measured", reason=str(error))

    def collect(self) -> Iterator[Metric]:
        """All that is not counted by the library itself; called in the thread of whoever asks."""
        info = GaugeMetricFamily("nvp_worker_info", "Always 1; who this is.", labels=("worker", "instance", "version"))
        info.add_metric(self._who, 1)
        yield info
        yield GaugeMetricFamily("nvp_ready", "1 while /ready says so.", value=0 if self.pulse.why_not_ready() else 1)
        yield GaugeMetricFamily(
            "nvp_event_loop_stuck_seconds", "How long the event loop has not turned.", value=self.pulse.stuck_s
        )
        yield CounterMetricFamily(
            "nvp_compute_child_restarts",
            "Compute children started after the first.",
            value=max(self._child_starts() - 1, 0),
        )
        yield from self._of_consumers()
        yield from self._of_streams()

    def _of_consumers(self) -> Iterator[Metric]:
        messages = CounterMetricFamily(
            "nvp_messages", "Messages ended: done, or dead-lettered.", labels=(*BY_GROUP, "outcome")
        )
        for stream, group, consumer in self._consumers:
            for outcome in ("done", "dead"):
                messages.add_metric((stream, group, outcome), consumer.counts[outcome])
        yield messages
        for count, name, what in (
            ("lost", "nvp_leases_lost", "Messages that another worker had taken over before they were done here."),
            ("retried", "nvp_retries", "Messages sent round again after an error that may pass."),
            ("recovered", "nvp_recoveries", "Times that the stream server was away or had lost a stream."),
        ):
            family = CounterMetricFamily(name, what, labels=BY_GROUP)
            for stream, group, consumer in self._consumers:
                family.add_metric((stream, group), consumer.counts[count])
            yield family
        in_flight = GaugeMetricFamily("nvp_messages_in_flight", "Messages in this worker's hands.", labels=BY_GROUP)
        oldest = GaugeMetricFamily(
            "nvp_oldest_in_flight_seconds", "How long the oldest of them has been there.", labels=BY_GROUP
        )
        for stream, group, consumer in self._consumers:
            held_s = consumer.in_flight_s
            in_flight.add_metric((stream, group), len(held_s))
            oldest.add_metric((stream, group), max(held_s, default=0.0))
        yield from (in_flight, oldest)

    def _of_streams(self) -> Iterator[Metric]:
        lag = GaugeMetricFamily("nvp_stream_lag", "Entries that wait for the group.", labels=(*BY_STREAM, "group"))
        pending = GaugeMetricFamily(
            "nvp_stream_pending", "Entries in the hands of the group's workers.", labels=(*BY_STREAM, "group")
        )
        oldest = GaugeMetricFamily(
            "nvp_stream_oldest_seconds", "Age of the oldest entry not done with: the watermark.", labels=BY_STREAM
        )
        dead = GaugeMetricFamily("nvp_dead_letters", "Dead letters of the stream.", labels=BY_STREAM)
        for one in self._lags:
            lag.add_metric((one.account, one.suffix, one.group), one.waiting)
            pending.add_metric((one.account, one.suffix, one.group), one.pending)
        for account, suffix, oldest_s, letters in {(o.account, o.suffix, o.oldest_s, o.dead) for o in self._lags}:
            oldest.add_metric((account, suffix), oldest_s)
            dead.add_metric((account, suffix), letters)
        yield from (lag, pending, oldest, dead)


def table() -> str:
    """The table in docs/operating.md: ``python -m nvp_agentkit.workers.metrics``."""
    rows = ["| metric | kind | labels | what |", "|---|---|---|---|"]
    for family in Metrics().registry.collect():
        if family.name.startswith("nvp_"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = ", ".join(f"`{label}`" for label in _labels(family))
            rows.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return "\n".join(rows)


def _labels(family: Metric) -> Sequence[str]:
    return getattr(family, "_labelnames", BY_GROUP if family.type == "histogram" else ())


if __name__ == "__main__":
    print(table())
