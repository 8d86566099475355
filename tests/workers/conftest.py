"""A system as workers have it, on real stores: an account that can pay, requests in hand, an ensemble in service."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nvp_agentkit.artifacts import inline_array
from nvp_agentkit.energy.accounts import Balance
from nvp_agentkit.ensemble import (
    AgreementRule,
    EnsembleRecord,
    KeyRing,
    Member,
    Vote,
    init_keys,
    load_signer,
    open_vote,
)
from nvp_agentkit.messages import (
    ArrayRef,
    Event,
    JobRequested,
    Payload,
    PredictionRequested,
    SimulateSpec,
    VoteCast,
    decode,
    new_event,
)
from nvp_agentkit.settings import Settings, compute_environment
from nvp_agentkit.streams import Completion, Delivery, emit, names, register
from nvp_agentkit.streams.health import announce, keep_announcing
from nvp_agentkit.workers import shadow
from nvp_agentkit.workers.compute.front import ComputeChild
from nvp_agentkit.workers.serving import registry
from nvp_agentkit.workers.serving.forecasting import ModelHost
from nvp_agentkit.workers.system import System, bootstrap
from nvp_agentkit.workers.tally import Tally
from tests.relay import Relay
from tests.workers.machine import machine  # noqa: F401  a fixture of these tests

DOMAIN, UNITS = "plasma_physics", "J"
CONTEXT, SIDE = 2, 32
VOTERS = ("voter-0", "voter-1", "voter-2")
LIMIT_MJ = 1_000_000
LATER_THAN_ALL = "9999999999999-0"  # an entry that was published after whatever has come into service
# Honest members here are untrained ones: persistence plus the little that random weights add.
RULE = AgreementRule(units=UNITS, spread=1.0, limit=0.5, peak_limit=2.0, variance_limit=1.0, budget_limit=0.5,
                     quantile=0.99, margin=1.5, pairs=9)  # fmt: skip

Weights = Callable[..., bytes]


@pytest.fixture
def settings(settings: Settings, compile_cache: Path) -> Settings:
    """As everywhere, with a deployment's keys, and what another test has compiled."""
    settings.data_dir.mkdir()
    (settings.data_dir / "compile-cache").symlink_to(compile_cache)
    init_keys(settings.keys_dir, (*VOTERS, "tally"))
    return settings.model_copy(update={"lease_s": 2.0})


@pytest.fixture(scope="session")
async def shared_child(compile_cache: Path) -> AsyncIterator[ComputeChild]:
    """A compute child for all tests, which knows what earlier ones compiled; where a test ends it another comes."""
    child = ComputeChild(compute_environment(Settings(data_dir=compile_cache.parent)))
    yield child
    await child.close()


@pytest.fixture
async def system(
    settings: Settings, shared_child: ComputeChild, request: pytest.FixtureRequest
) -> AsyncIterator[System]:
    """Connected, with the shared child; a test that asks for `own_child` has one that nobody has started."""
    async with bootstrap("tester", settings) as connected:
        yield connected if "own_child" in request.fixturenames else replace(connected, child=shared_child)


@pytest.fixture
def own_child() -> None:
    """A compute child of this test's own."""


@dataclass(frozen=True)
class Bench:
    """One account's side of a system."""

    system: System
    account: str

    def delivery(
        self,
        payload: Payload,
        *,
        suffix: str = "predict",
        budget_mj: int | None = 5000,
        within_s: float = 60.0,
        attempt: int = 1,
        event: Event | None = None,
    ) -> Delivery:
        """``payload`` as a worker is handed it; with ``event`` that very request once more."""
        deadline = datetime.now(UTC) + timedelta(seconds=within_s)
        event = event or new_event(payload, source="nvp:agent:tests", deadline=deadline, budget_mj=budget_mj)
        return Delivery(self.account, names.key(self.account, suffix), LATER_THAN_ALL, event, attempt)

    def simulation(
        self,
        *,
        domain: str = DOMAIN,
        variant: str | None = None,
        trajectories: int = 4,
        frames: int = 8,
        **options: Any,
    ) -> Delivery:
        spec = SimulateSpec(domain=domain, variant=variant, trajectories=trajectories, frames=frames, size=SIDE)
        return self.delivery(JobRequested(spec=spec), suffix="jobs", **{"budget_mj": 60_000, **options})

    async def balance(self) -> Balance:
        return await self.system.ledger.balance(self.account)

    async def complete(self, completion: Completion) -> None:
        """Let the effects happen, as the consumer would."""
        await emit(self.system.redis, self.account, completion)

    async def serve(self, members: dict[str, bytes], *, mask: np.ndarray | None = None) -> EnsembleRecord:
        """Put an ensemble of these weights into service."""
        artifacts = self.system.artifacts
        record = EnsembleRecord(
            domain=DOMAIN,
            members=tuple(
                [
                    Member(voter=voter, model_id=model_id(data), weights=await artifacts.put(data))
                    for voter, data in members.items()
                ]
            ),
            rule=RULE if len(members) > 2 else None,
            mask=None if mask is None else await artifacts.put_array(mask.astype(np.float32)),
            frames=(CONTEXT, SIDE, SIDE),
        )
        await self.complete(Completion(fields=registry.registration(record)))
        return record

    @staticmethod
    def said(completion: Completion) -> Payload:
        """The one reply of a completion."""
        (reply,) = completion.replies
        return reply.payload


def model_id(data: bytes) -> str:
    return "model:sha256:" + hashlib.sha256(data).hexdigest()


@pytest.fixture
async def bench(system: System, account: str) -> Bench:
    await register(system.redis, account, owner="tests")
    await system.ledger.create(account, LIMIT_MJ)
    return Bench(system, account)


@pytest.fixture(scope="session")
def weights() -> Weights:
    """``weights(seed)``: a network nobody trained, which is persistence; with ``wrong`` its forecast is noise.

    ``masked``: it knows of holes. ``parts``: more of the bundle, such as ``novelty`` and ``calibration``.
    """
    from jax.tree_util import tree_map

    from nvp_agentkit.model.bundle import ModelBundle, Normalization
    from nvp_agentkit.model.config import NVPConfig
    from nvp_agentkit.model.state import initial_variables
    from nvp_agentkit.model.storage import model_bytes

    def made(seed: int, *, wrong: bool = False, offset: float = 0.0, masked: bool = False, **parts: Any) -> bytes:
        config = NVPConfig(latent_dim=8, encoder_features=(8, 8), masked=masked)
        variables, rng = initial_variables(config, seed), np.random.default_rng(seed)
        if wrong:
            variables = tree_map(lambda leaf: np.float32(leaf + rng.normal(size=np.shape(leaf))), variables)
        return model_bytes(ModelBundle(config, variables, Normalization(offset), domain=DOMAIN, **parts))

    return made


@pytest.fixture
def field() -> np.ndarray:
    """(K, H, W) of smooth positive values, other ones in each test run's place but the same each time."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] * (2 * np.pi / SIDE)
    return np.stack([2 + np.sin(x + 0.1 * step) * np.cos(y) for step in range(CONTEXT)]).astype(np.float32)


@pytest.fixture
def three(field: np.ndarray) -> np.ndarray:
    """Three frames of a drift, so that there is something to foretell; positive, periodic."""
    return np.stack([np.roll(field[0], 2 * step, 1) for step in range(3)])


@pytest.fixture
def models(system: System) -> ModelHost:
    """The champion's."""
    return ModelHost("voter-0", system)


@pytest.fixture
def request_of(field: np.ndarray) -> Callable[..., PredictionRequested]:
    """A valid prediction request; give what shall be otherwise."""

    def made(**otherwise: Any) -> PredictionRequested:
        return PredictionRequested(**{"domain": DOMAIN, "field": inline_array(field, UNITS), **otherwise})

    return made


@pytest.fixture
def raw_array() -> Callable[..., ArrayRef]:
    """A reference whose bytes are whatever the test says: shape and digest may lie."""

    def made(values: np.ndarray, **lies: Any) -> ArrayRef:
        raw = values.astype("<f4").tobytes()
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        facts = {"shape": values.shape, "digest": digest, "inline": base64.b64encode(raw).decode(), "units": UNITS}
        return ArrayRef(**{**facts, **lies})

    return made


@asynccontextmanager
async def alive(system: System, kind: str) -> AsyncIterator[asyncio.Event]:
    """The heartbeat of a worker of that kind; ends, as whatever else listens to the event, with the block."""
    stop, at = asyncio.Event(), (system.redis, system.name, system.settings.instance, kind)
    await announce(*at, "ready")
    beating = asyncio.create_task(keep_announcing(*at, lambda: ("ready", ""), stop))
    try:
        yield stop
    finally:
        stop.set()
        await beating


class Court:
    """Three voters and a tally around one account, with the streams between them left out."""

    def __init__(self, bench) -> None:
        self.bench = bench
        self.system = bench.system
        self.hosts = {voter: ModelHost(voter, bench.system) for voter in VOTERS}
        self.tally = Tally(bench.system)
        self.keys = KeyRing.read(bench.system.settings.keys_dir)

    def asked(self, request, **options) -> Delivery:
        return self.bench.delivery(request, suffix="ensemble", **options)

    async def votes(self, asked: Delivery, voters: Sequence[str] = VOTERS) -> list[Completion]:
        return [await self.vote(asked, voter) for voter in voters]

    async def vote(self, asked: Delivery, voter: str) -> Completion:
        signer = load_signer(self.system.settings.keys_dir, voter)
        return await shadow.vote(asked, self.hosts[voter], signer, self.system)

    def cast(self, voted: Completion) -> Event:
        ((stream, event),) = voted.forwards
        assert stream == "votes"
        return event

    def signed(self, voted: Completion) -> Vote:
        cast = self.cast(voted).payload
        assert isinstance(cast, VoteCast)
        return open_vote(cast.envelope or "", self.keys)

    async def count(self, *casts: Event) -> Completion:
        """Hand the tally these votes, and let what it says of each happen. The last thing it said."""
        said = Completion()
        for event in casts:
            said = await self.tally.count(self.bench.delivery(event.payload, suffix="votes", event=event))
            await self.bench.complete(said)
        return said

    async def replies(self, asked: Delivery) -> list[object]:
        """All that the asker was told, in order."""
        entries = await self.system.redis.xrange(names.replies(self.bench.account))
        return [decode(f[b"event"]).payload for _, f in entries if f[b"replyto"].decode() == asked.request_id]

    @asynccontextmanager
    async def deadlines_kept(self):
        """The tally's sweep, running."""
        stop = asyncio.Event()
        sweeping = asyncio.create_task(self.tally.sweep(stop))
        yield
        stop.set()
        await sweeping

    async def told(self, asked: Delivery) -> object:
        """The first answer, once there is one."""
        async with asyncio.timeout(20):
            while not (found := await self.replies(asked)):  # noqa: ASYNC110  it happens in Redis
                await asyncio.sleep(0.02)
        return found[0]


@pytest.fixture
def court(bench) -> Court:
    return Court(bench)


@pytest.fixture
def seated(bench, weights) -> Callable[..., object]:
    """Put an ensemble of three in service, of whom some are wrong."""

    async def serve(*wrong: str):
        return await bench.serve({voter: weights(k, wrong=voter in wrong) for k, voter in enumerate(VOTERS)})

    return serve


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def relay() -> Callable[[int, str], AbstractAsyncContextManager[None]]:
    """``async with relay(port, uri)``: meanwhile the server of ``uri`` is to be found at ``port``."""

    @asynccontextmanager
    async def relaying(port: int, uri: str) -> AsyncIterator[None]:
        there = Relay(uri, port)
        await there.mend()
        yield
        await there.cut()

    return relaying
