"""The tally: gathers votes, certifies what a quorum agrees on, abstains where none can form."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import structlog

from nvp_agentkit.energy.meter import add
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
)
from nvp_agentkit.errors import DigestMismatch, InvalidField, NvpError, UnknownName
from nvp_agentkit.messages import (
    Event,
    LineageRecorded,
    PredictionAbstained,
    PredictionCertified,
    Reading,
    VoteCast,
    decode,
    new_event,
)
from nvp_agentkit.streams import AWAY, Completion, Delivery, emit, known, names

from . import facts, refusals, registry
from .process import Role, run_roles
from .requests import body
from .system import System

CASE_TTL_S = 3600
GRACE_MS = 250  # after the deadline, for votes on the way
SWEEP_S = 0.25
log = structlog.get_logger()


class Tally:
    """Decides requests. Holds nothing: votes and deadlines are in Redis, so any tally can finish another's case."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._signer: Signer = load_signer(system.settings.keys_dir, "tally")
        self._keys = KeyRing.read(system.settings.keys_dir)

    async def count(self, delivery: Delivery) -> Completion:
        """Take in one vote; the completion is empty while more are needed."""
        cast = body(delivery, VoteCast)
        events = await self._file(delivery.account, cast.request_id, delivery.event)
        return await self.conclude(delivery.account, cast.request_id, events, closed=False)

    async def conclude(self, account: str, request_id: str, events: Sequence[Event], *, closed: bool) -> Completion:
        """Decide on the votes at hand; ``closed`` when no more are waited for."""
        casts = [cast for cast in (event.payload for event in events) if isinstance(cast, VoteCast)]
        first, asked = casts[0], events[0]
        record = await registry.ensemble(self._system.redis, account, first.record)
        ballots = collect(
            casts, keys=self._keys, record=record, request_id=request_id, request_digest=first.request_digest
        )
        mask = None if record.mask is None else await self._system.artifacts.get_array(record.mask) > 0
        answers = await self._answers(ballots)
        decision = await asyncio.to_thread(decide, record, ballots, answers, mask=mask, closed=closed)
        log.info("votes counted", request=request_id, outcome=decision.outcome, votes=decision.votes)
        if decision.outcome == "pending":
            return Completion()
        energy = [cast.energy for cast in casts if cast.energy is not None]
        if decision.answer is None:
            return self._abstain(account, asked, record, decision, first, energy)
        return await self._certify(account, asked, record, ballots, decision, first, add(energy))

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
            if not await redis.exists(names.key(account, refusals.decided(request_id))):
                events = await self._filed(account, request_id)
                if events:
                    await emit(redis, account, await self.conclude(account, request_id, events, closed=True))
            await redis.zrem(deadlines, raw)

    async def _file(self, account: str, request_id: str, event: Event) -> list[Event]:
        """Put the vote on file and return all there are; twice is once, two different votes are two."""
        case = names.key(account, f"case:{request_id}")
        deadline_s = time.time() + CASE_TTL_S if event.deadline is None else event.deadline.timestamp()
        pipe = self._system.redis.pipeline()
        pipe.hset(case, event.id, event.encode())
        pipe.expire(case, CASE_TTL_S)
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
        self,
        account: str,
        asked: Event,
        record: EnsembleRecord,
        ballots: Ballots,
        decision: Decision,
        first: VoteCast,
        energy: Reading,
    ) -> Completion:
        assert decision.answer is not None and record.rule is not None  # noqa: PT018 - accepted means both
        units = record.rule.units
        mean = await self._system.artifacts.put_array(decision.answer.mean, units)
        log_var = await self._system.artifacts.put_array(decision.answer.log_var, f"ln ({units})^2")
        raw = certify(
            decision,
            ballots,
            record,
            request_id=first.request_id,
            request_digest=first.request_digest,
            mean=mean,
            log_var=log_var,
            account=account,
            energy=energy,
            keys=self._keys,
            tally=self._signer,
        )
        certificate = await self._system.artifacts.put(raw, "application/vnd.in-toto+json")
        reply = PredictionCertified(
            request_id=first.request_id,
            mean=mean,
            log_var=log_var,
            certificate=certificate,
            agreed=decision.agreed,
            dissent=tuple(decision.dissent),
            missing=tuple(decision.missing),
            models={member.voter: member.model_id for member in record.members},
            energy=energy,
        )
        fact = facts.decided(
            account,
            first.request_id,
            record,
            decision,
            tally=self._system.name,
            field_digest=first.request_digest,
            value_digest=mean.digest,
            certificate=certificate,
        )
        return self._final(first.request_id, asked, reply, fact)

    def _abstain(
        self,
        account: str,
        asked: Event,
        record: EnsembleRecord,
        decision: Decision,
        first: VoteCast,
        energy: list[Reading],
    ) -> Completion:
        reply = PredictionAbstained(
            request_id=first.request_id,
            reason=decision.reason,
            votes=decision.votes,
            energy=add(energy) if energy else None,
        )
        fact = facts.decided(
            account,
            first.request_id,
            record,
            decision,
            tally=self._system.name,
            field_digest=first.request_digest,
            value_digest=None,
            certificate=None,
        )
        return self._final(first.request_id, asked, reply, fact)

    def _final(
        self,
        request_id: str,
        asked: Event,
        reply: PredictionCertified | PredictionAbstained,
        fact: LineageRecorded,
    ) -> Completion:
        about = partial(
            new_event,
            source=f"nvp:worker:{self._system.name}",
            subject=asked.subject,
            traceparent=asked.traceparent,
        )
        return Completion(
            replies=(about(reply, replyto=request_id),),
            facts=(about(fact),),
            once=refusals.decided(request_id),
        )


def forget(system: System, delivery: Delivery, error: NvpError) -> Completion:
    """A vote that cannot be counted is only that vote; the deadline decides without it."""
    log.warning("vote not counted", request=delivery.request_id, reason=str(error))
    return Completion()


async def serve(system: System, stop: asyncio.Event) -> None:
    tally = Tally(system)
    role = Role.each("votes", "tally", VoteCast, partial(Tally.count, tally), forget)
    await run_roles(system, stop, [role], beside=[tally.sweep(stop)])
