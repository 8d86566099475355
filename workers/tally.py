"""The tally: gathers votes, certifies what a quorum agrees on, abstains where none can form."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from nvp_agentkit.ensemble import (
    Answer,
    Ballots,
    Decision,
    EnsembleRecord,
    KeyRing,
    Signer,
    certify,
    collect,
    decide,
    load_signer,
    question,
)
from nvp_agentkit.errors import DigestMismatch, InvalidField, NvpError, UnknownName
from nvp_agentkit.messages import (
    Event,
    LineageRecorded,
    ObjectRef,
    PredictionAbstained,
    PredictionCertified,
    Reading,
    VoteCast,
    decode,
    new_event,
)
from nvp_agentkit.streams import AWAY, Completion, Delivery, emit, known, names

from . import facts, refusals, registry
from .joules import together
from .process import Role, run_roles
from .requests import body
from .system import System

CASE_TTL_S = 3600
GRACE_MS = 250  # after the deadline, for votes on the way
SWEEP_S = 0.25
log = structlog.get_logger()


@dataclass(frozen=True)
class Case:
    """A quorum request as its votes tell it: what was asked, of which ensemble, and all that was cast."""

    account: str
    request_id: str
    request_digest: str
    record_digest: str
    casts: tuple[VoteCast, ...]
    asked: Event  # any of the votes' events: they carry on the request's subject and trace

    @property
    def energy(self) -> list[Reading]:
        return [cast.energy for cast in self.casts if cast.energy is not None]


class Tally:
    """Decides requests. Holds nothing: votes and deadlines are in Redis, so any tally can finish another's case."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._signer: Signer = load_signer(system.settings.keys_dir, "tally")
        self._keys = KeyRing.read(system.settings.keys_dir)

    async def count(self, delivery: Delivery) -> Completion:
        """Take in one vote; the completion is empty while more are needed, and once the request is decided."""
        cast = body(delivery, VoteCast)
        events = await self._file(delivery.account, cast.request_id, delivery.event)
        if await self._is_decided(delivery.account, cast.request_id):
            return Completion()
        return await self.conclude(delivery.account, cast.request_id, events, closed=False)

    async def conclude(self, account: str, request_id: str, events: Sequence[Event], *, closed: bool) -> Completion:
        """Decide on the votes at hand; ``closed`` when no more are waited for."""
        case = self._case(account, request_id, events)
        record = await registry.ensemble(self._system.redis, account, case.record_digest)
        ballots = collect(
            case.casts, keys=self._keys, record=record, request_id=request_id, request_digest=case.request_digest
        )
        mask = None if record.mask is None else await self._system.artifacts.get_array(record.mask) > 0
        answers = await self._answers(ballots)
        decision = await asyncio.to_thread(decide, record, ballots, answers, mask=mask, closed=closed)
        log.info("votes counted", request=request_id, outcome=decision.outcome, votes=decision.votes)
        if decision.outcome == "pending":
            return Completion()
        if decision.answer is None:
            return self._abstain(case, record, decision)
        return await self._certify(case, record, ballots, decision, decision.answer)

    async def sweep(self, stop: asyncio.Event) -> None:
        """Close the cases whose deadline has passed."""
        while not stop.is_set():
            try:
                for account in await known(self._system.redis):
                    await self._close_due(account)
            except (NvpError, *AWAY) as error:
                log.warning("deadlines not looked at", reason=str(error))
            try:
                await asyncio.wait_for(stop.wait(), SWEEP_S)
            except TimeoutError:
                continue

    async def _close_due(self, account: str) -> None:
        redis, deadlines = self._system.redis, names.key(account, "deadlines")
        due: list[Any] = await redis.zrangebyscore(deadlines, "-inf", facts.now_ms() - GRACE_MS)
        for raw in due:
            request_id = raw.decode()
            events = await self._filed(account, request_id)
            if events and not await self._is_decided(account, request_id):
                await emit(redis, account, await self._last_word(account, request_id, events))
            await redis.zrem(deadlines, raw)

    async def _last_word(self, account: str, request_id: str, events: Sequence[Event]) -> Completion:
        """The decision that the deadline forces. Votes that cannot be judged are none, and hold up no other case."""
        try:
            return await self.conclude(account, request_id, events, closed=True)
        except NvpError as error:
            if error.retryable:
                raise
            log.error("votes cannot be judged", request=request_id, reason=str(error))
            return self._unjudged(self._case(account, request_id, events), error)

    def _case(self, account: str, request_id: str, events: Sequence[Event]) -> Case:
        """What most voters signed is what was asked; before any valid vote, what the first cast says."""
        casts = [cast for cast in (event.payload for event in events) if isinstance(cast, VoteCast)]
        asked = question(casts, keys=self._keys, request_id=request_id)
        request_digest, record_digest = asked or (casts[0].request_digest, casts[0].record)
        return Case(account, request_id, request_digest, record_digest, tuple(casts), events[0])

    async def _is_decided(self, account: str, request_id: str) -> bool:
        return bool(await self._system.redis.exists(names.key(account, refusals.decided(request_id))))

    async def _file(self, account: str, request_id: str, event: Event) -> list[Event]:
        """Put the vote on file and return all there are; twice is once, two different votes are two."""
        case = names.key(account, f"case:{request_id}")
        deadline_s = time.time() + CASE_TTL_S if event.deadline is None else event.deadline.timestamp()
        pipe = self._system.redis.pipeline()
        pipe.hset(case, event.id, event.encode())
        pipe.expire(case, round(max(deadline_s - time.time(), 0)) + CASE_TTL_S)
        pipe.zadd(names.key(account, "deadlines"), {request_id: round(1000 * deadline_s)}, nx=True)
        await pipe.execute()
        return await self._filed(account, request_id)

    async def _filed(self, account: str, request_id: str) -> list[Event]:
        stored = await self._system.redis.hgetall(names.key(account, f"case:{request_id}"))
        return [decode(raw) for _, raw in sorted(stored.items())]

    async def _answers(self, ballots: Ballots) -> dict[str, Answer]:
        """Each vote's arrays; a voter whose arrays are gone or wrong is left out, which `decide` counts as dissent."""
        answers = {}
        for voter, vote in ballots.votes.items():
            try:
                answers[voter] = Answer(
                    await self._system.artifacts.get_array(vote.mean, self._system.settings.max_cells),
                    await self._system.artifacts.get_array(vote.log_var, self._system.settings.max_cells),
                )
            except (DigestMismatch, InvalidField, UnknownName) as error:
                log.warning("a vote's arrays cannot be read", voter=voter, reason=str(error))
        return answers

    async def _certify(
        self, case: Case, record: EnsembleRecord, ballots: Ballots, decision: Decision, answer: Answer
    ) -> Completion:
        units = ballots.votes[decision.agreed[0]].mean.units
        mean = await self._system.artifacts.put_array(answer.mean, units)
        log_var = await self._system.artifacts.put_array(answer.log_var, f"ln ({units})^2")
        energy = together(case.energy)
        raw = certify(
            decision,
            ballots,
            record,
            request_id=case.request_id,
            request_digest=case.request_digest,
            mean=mean,
            log_var=log_var,
            account=case.account,
            energy=energy,
            keys=self._keys,
            tally=self._signer,
        )
        certificate = await self._system.artifacts.put(raw, "application/vnd.in-toto+json")
        reply = PredictionCertified(
            request_id=case.request_id,
            mean=mean,
            log_var=log_var,
            certificate=certificate,
            agreed=decision.agreed,
            dissent=tuple(decision.dissent),
            missing=tuple(decision.missing),
            models={member.voter: member.model_id for member in record.members},
            energy=energy,
        )
        return self._final(case, reply, self._decided(case, record, decision, mean.digest, certificate))

    def _abstain(self, case: Case, record: EnsembleRecord, decision: Decision) -> Completion:
        reply = PredictionAbstained(
            request_id=case.request_id,
            reason=decision.reason,
            votes=decision.votes,
            energy=together(case.energy) if case.energy else None,
        )
        return self._final(case, reply, self._decided(case, record, decision, None, None))

    def _unjudged(self, case: Case, error: NvpError) -> Completion:
        reply = PredictionAbstained(
            request_id=case.request_id,
            reason=f"the votes cannot be judged: {error}",
            energy=together(case.energy) if case.energy else None,
        )
        return self._final(case, reply, facts.unjudged(case.account, case.request_id, reply.reason))

    def _decided(
        self,
        case: Case,
        record: EnsembleRecord,
        decision: Decision,
        value_digest: str | None,
        certificate: ObjectRef | None,
    ) -> LineageRecorded:
        return facts.decided(
            case.account,
            case.request_id,
            record,
            decision,
            tally=self._system.name,
            field_digest=case.request_digest,
            value_digest=value_digest,
            certificate=certificate,
        )

    def _final(self, case: Case, reply: PredictionCertified | PredictionAbstained, fact: LineageRecorded) -> Completion:
        about = partial(
            new_event,
            source=f"nvp:worker:{self._system.name}",
            subject=case.asked.subject,
            traceparent=case.asked.traceparent,
        )
        return Completion(
            replies=(about(reply, replyto=case.request_id),),
            facts=(about(fact),),
            once=refusals.decided(case.request_id),
        )


def forget(system: System, delivery: Delivery, error: NvpError) -> Completion:
    """A vote that cannot be counted is only that vote; the deadline decides without it."""
    log.warning("vote not counted", request=delivery.request_id, reason=str(error))
    return Completion()


async def serve(system: System, stop: asyncio.Event) -> None:
    tally = Tally(system)
    role = Role.each("votes", "tally", VoteCast, partial(Tally.count, tally), forget, unique=False)
    await run_roles(system, stop, [role], beside=[tally.sweep(stop)])
