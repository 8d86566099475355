"""Who answers a request: a member of the account's ensemble, the starter model, or a trivial forecaster."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

import nvp_agentkit
from nvp_agentkit.ensemble import EnsembleRecord, Member
from nvp_agentkit.ensemble.service import Standing, alias_of
from nvp_agentkit.errors import UnknownModel
from nvp_agentkit.fields.edges import guessed_edges
from nvp_agentkit.messages import STARTER, PredictionRequested
from nvp_agentkit.messages.predictions import names_ensemble
from nvp_agentkit.messages.values import digest_of
from nvp_agentkit.settings import VOTERS
from nvp_agentkit.streams import Delivery

from ..system import System
from . import registry
from .trivial import Trivial
from .warm import LOAD_LIMIT_S, Shipped

STARTER_FILE = Path(nvp_agentkit.__file__).parent / "model" / "starter.safetensors"
Frames = NDArray[np.float32]


@dataclass(frozen=True)
class Served:
    """The model that answers: this voter's member of an account's ensemble."""

    record: EnsembleRecord
    member: Member
    account: str
    stands: bool = True  # in service, on trial or just replaced: kept ready at nobody's cost

    @property
    def model_id(self) -> str:
        return self.member.model_id

    def model(self, frames: Frames) -> Member:
        """What the child has to load for ``frames``."""
        return self.member

    def fitted(self, frames: Frames) -> Frames:
        """As many frames as the model looks at: older ones change nothing, missing ones are the oldest again.

        Neither is a shape of its own, to be compiled at the cost of who asks.
        """
        if self.record.frames is None:
            return frames
        context = self.record.frames[0]
        missing = np.repeat(frames[:1], max(context - len(frames), 0), axis=0)
        return np.concatenate([missing, frames[-context:]])


@dataclass(frozen=True)
class Starter:
    """The model that nobody had to train (docs/starter.md): weights of the package's, made for the fields at hand."""

    account: str  # who asks
    record: ClassVar[None] = None  # it belongs to no ensemble
    LOOKS_AT: ClassVar[int] = 3  # frames: two to forecast from, and with three it tries itself on the last

    @property
    def model_id(self) -> str:
        return _starter_id()

    def model(self, frames: Frames) -> Shipped:
        """As `Served.model`; edges and sign are guessed, for a request does not say them."""
        return Shipped(guessed_edges(frames), bool(frames.min() >= 0), tried=len(frames) == self.LOOKS_AT)

    def fitted(self, frames: Frames) -> Frames:
        """The newest frames that it looks at."""
        return frames[-self.LOOKS_AT :]


@cache
def _starter_id() -> str:
    """Of its weights, as their descendants name them in the graph."""
    return f"model:{digest_of(STARTER_FILE.read_bytes())}"


def voter_of(worker: str) -> str:
    """Of a worker that votes: ``shadow-2`` is ``voter-2``, ``inference`` the first one."""
    place = worker.partition("-")[2]
    return f"voter-{place}" if place else VOTERS[0]


class Resolver:
    """Knows what requests mean to this voter."""

    def __init__(self, voter: str, system: System) -> None:
        self.voter = voter
        self._system = system
        self._simulated: frozenset[str] | None = None  # domains, once the child has been asked

    async def single(self, delivery: Delivery, request: PredictionRequested) -> Served | Starter | Trivial:
        """Who answers a request for one forecast: as `vote`, or what needs no training, where its name is given.

        The best trivial forecaster stands in for an ensemble still to be trained, in a domain that a simulator of ours
        knows.

        Raises:
            UnknownModel: as `vote`, in a domain that nobody knows.
        """
        if request.model == STARTER:
            return Starter(delivery.account)
        named = request.model is not None and names_ensemble(request.model)
        if not named and (trivial := Trivial.asked_for(request.model)):
            return trivial
        try:
            return await self.vote(delivery, request)
        except UnknownModel:
            account = delivery.account
            if request.model is not None or request.domain in await registry.domains(self._system.redis, account):
                raise
            known = await self._domains_simulated()
            if request.domain not in known:
                raise registry.no_model(account, request.domain, known) from None
            return Trivial()

    async def vote(self, delivery: Delivery, request: PredictionRequested) -> Served:
        """The member that answers ``request``, by what stood when it was published: the same for all voters.

        Raises:
            UnknownModel: the account has no ensemble for the domain, or none with that model.
        """
        redis, account, domain = self._system.redis, delivery.account, request.domain
        standing = (await registry.service_of(redis, account, domain)).at(registry.asked_at(delivery))
        if standing.champion is None:
            raise registry.no_model(account, domain, await registry.domains(redis, account))
        if request.model is None:
            record = await registry.ensemble(redis, account, standing.of(delivery.request_id) or standing.champion)
            if request.assurance == "quorum" and record.rule is None:  # on trial, and too few to vote
                record = await registry.ensemble(redis, account, standing.champion)
            return self._served(record, account)
        if not names_ensemble(request.model):
            return await self._member(delivery, request.model, standing)
        record = await registry.ensemble(redis, account, self._digest(request.model, domain, standing))
        if record.domain != domain:
            raise UnknownModel(f"{request.model} is an ensemble of {record.domain}; ask for that domain")
        return replace(self._served(record, account), stands=record.digest in _standing(standing))

    async def _member(self, delivery: Delivery, model_id: str, standing: Standing) -> Served:
        members: list[Member] = []
        for digest in _standing(standing):
            record = await registry.ensemble(self._system.redis, delivery.account, digest)
            for member in record.members:
                if member.model_id == model_id:
                    return Served(record, member, delivery.account)
            members += record.members
        raise UnknownModel(
            f"model {model_id!r} is not in service for {delivery.account}/{record.domain}; "
            f"in service: {', '.join(member.model_id for member in members)}"
        )

    def _digest(self, model: str, domain: str, standing: Standing) -> str:
        if (alias := alias_of(model, domain)) is None:
            return model
        if (digest := standing.called(alias)) is None:
            raise UnknownModel(f"{domain} has no {alias}; `nvp models list` shows what there is")
        return digest

    def _served(self, record: EnsembleRecord, account: str) -> Served:
        return Served(record, self.mine(record) or record.champion, account)

    def mine(self, record: EnsembleRecord) -> Member | None:
        """This voter's member."""
        return next((member for member in record.members if member.voter == self.voter), None)

    async def _domains_simulated(self) -> frozenset[str]:
        if self._simulated is None:
            told = await self._system.child.call("simulated", {}, deadline=time.time() + LOAD_LIMIT_S)
            self._simulated = frozenset(told.values["domains"])
        return self._simulated


def _standing(standing: Standing) -> list[str]:
    """Digests of all that can be asked for by a model's id, who serves first."""
    return [one for one in (standing.champion, standing.challenger, standing.previous) if one is not None]
