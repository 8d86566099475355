"""The recorder: facts from the lineage streams into the graph, in batches; and the bookkeeper of orphaned joules."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import structlog

from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.errors import NvpError, StoreUnavailable
from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.messages import LineageRecorded
from nvp_agentkit.streams import Completion, Delivery, Outcome, RedisError

from .facts import now_ms
from .process import Role, run_roles
from .requests import body
from .rounds import every
from .system import System

BATCH = 100
REAP_EVERY_S = 5.0
RETRY_S = 1.0
log = structlog.get_logger()


class Recorder:
    """Writes batches of facts. ``state`` says whether the graph was there when it was last needed."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.state: tuple[str, str] = ("starting", "")

    async def record(self, deliveries: list[Delivery]) -> Sequence[Outcome]:
        """Write a batch of facts; they are acknowledged after the graph's commit.

        The graph away, the batch stays in hand under its leases and the stream is the buffer: facts never run
        out of attempts, however often the recorder dies meanwhile. A fact that can never be written becomes a dead
        letter.
        """
        bundles = [body(delivery, LineageRecorded) for delivery in deliveries]
        while True:
            try:
                wrong = await self._graph.write_each(bundles)
            except StoreUnavailable as error:
                self.state = ("starting", f"{len(bundles)} facts wait: {error}")
                log.warning("graph away, facts wait", waiting=len(bundles), reason=str(error))
                await asyncio.sleep(RETRY_S)
            else:
                self.state = ("ready", "")
                return [Completion() if error is None else NvpError(f"{error.code}: {error}") for error in wrong]

    async def keep_ready(self, stop: asyncio.Event) -> None:
        """Ask for the graph until it is there, so that readiness is true before the first fact comes."""
        async for _ in every(RETRY_S, stop):
            if self.state[0] == "ready":
                return
            try:
                await self._graph.ready()
                self.state = ("ready", "")
            except StoreUnavailable as error:
                self.state = ("starting", str(error))
                log.warning("graph not there yet", reason=str(error))


def refuse(system: System, delivery: Delivery, error: NvpError) -> Completion:
    """Nobody waits for an answer to a fact; a wrong one is a defect, loud in the log and kept in the dead letters."""
    log.error("fact not recorded", entry=delivery.entry_id, reason=str(error))
    return Completion()


async def reap(ledger: Ledger, stop: asyncio.Event) -> None:
    """Charge in full what crashed workers reserved and never settled."""
    async for _ in every(REAP_EVERY_S, stop):
        try:
            for (account, reservation), mj in (await ledger.reap(now_ms())).items():
                log.warning("orphan charged", account=account, reservation=reservation, mj=mj)
        except (NvpError, RedisError) as error:
            log.warning("reservations not looked at", reason=str(error))


async def serve(system: System, stop: asyncio.Event) -> None:
    async with Graph.connect(system.settings) as graph:
        recorder = Recorder(graph)
        role = Role(
            "lineage",
            "recorder",
            LineageRecorded,
            recorder.record,
            refuse,
            batch=BATCH,
            unique=False,
            max_deliveries=math.inf,
        )
        beside = [recorder.keep_ready(stop), reap(system.ledger, stop)]
        await run_roles(system, stop, [role], beside=beside, readiness=lambda: recorder.state)
