"""The tally: gathers votes, certifies what a quorum agrees on, abstains where none can form."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import structlog
from structlog.contextvars import bound_contextvars

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
from nvp_agentkit.errors import DeadlineExceeded, DigestMismatch, InvalidField, InvalidMessage, NvpError, UnknownName
from nvp_agentkit.messages import (
    Event,
    LineageRecorded,
    ObjectRef,
    Payload,
    PredictionAbstained,
    PredictionCertified,
    PredictionRequested,
    VoteCast,
    new_event,
)
from nvp_agentkit.messages.envelope import MAX_ID, TYPE_OF
from nvp_agentkit.observability.tracing import current
from nvp_agentkit.streams import Completion, Delivery, RedisError, emit, known
from nvp_agentkit.streams.handling import defect
from nvp_agentkit.streams.replies import answer

from . import facts, refusals
from .cases import Case, Cases
from .joules import together
from .process import Role, run_roles
from .requests import body, log_variance_units
from .rounds import every
from .serving import registry
from .system import System

SWEEP_S = 0.25
UNANSWERABLE = (DeadlineExceeded, InvalidMessage)
log = structlog.get_logger()


class Tally:
    """Decides requests. Holds nothing: votes and deadlines are in Redis, so any tally can finish another's case."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._signer: Signer = load_signer(system.settings.keys_dir, "tally")
        self._keys = KeyRing.read(system.settings.keys_dir)
        self._cases = Cases(system.redis)

    async def open(self, delivery: Delivery) -> Completion:
        """Put a request on file, so that its deadline brings an answer whatever its voters do."""
        body(delivery, PredictionRequested)
        await self._cases.open(delivery.account, delivery.event)
        return Completion()

    async def count(self, delivery: Delivery) -> Completion:
        """Take in one vote; the completion is empty while more are needed."""
        account, cast = delivery.account, body(delivery, VoteCast)
        if not 1 <= len(cast.request_id) <= MAX_ID:
            raise InvalidMessage(f"request_id of {len(cast.request_id)} characters; a request's id has 1 to {MAX_ID}")
        await self._cases.add(account, cast.request_id, delivery.event)
        case = await self._cases.read(account, cast.request_id)
        if case is None:
            return Completion()
        if await self._cases.is_decided(account, cast.request_id):
            return await self._judge_late(case, cast.voter)
        return await self.conclude(case, closed=False)

    async def conclude(self, case: Case, *, closed: bool) -> Completion:
        """Decide on the votes at hand; ``closed`` when no more are waited for."""
        case = self._with_question(case)
        record, ballots, decision = await self._decide(case, closed=closed)
        log.info("votes counted", request=case.request_id, outcome=decision.outcome, votes=decision.votes)
        if decision.outcome == "pending":
            return Completion()
        if decision.answer is None:
            return self._abstain(case, record, decision)
        return await self._certify(case, record, ballots, decision, decision.answer)

    async def _decide(self, case: Case, *, closed: bool) -> tuple[EnsembleRecord, Ballots, Decision]:
        record = await registry.ensemble(self._system.redis, case.account, case.record_digest)
        ballots = collect(
            case.casts,
            keys=self._keys,
            record=record,
            request_id=case.request_id,
            request_digest=case.request_digest,
        )
        mask = None if record.mask is None else await self._system.artifacts.get_array(record.mask) > 0
        answers = await self._answers(ballots)
        return record, ballots, await asyncio.to_thread(decide, record, ballots, answers, mask=mask, closed=closed)

    async def _judge_late(self, case: Case, voter: str) -> Completion:
        """A vote after the decision changes nothing in it, but is on record as agreeing or not: so a fault is found.

        One that is counted at the very moment of the decision may stay without a verdict.
        """
        reply = await answer(self._system.redis, case.account, case.request_id, (TYPE_OF[PredictionCertified],))
        if reply is None or not isinstance(certified := reply.payload, PredictionCertified):
            return Completion()
        record, ballots, decision = await self._decide(self._with_question(case), closed=True)
        if record.rule is None or voter not in ballots.votes or voter in (*certified.agreed, *certified.dissent):
            return Completion()
        pairs = [(min(voter, other), max(voter, other)) for other in certified.agreed]
        agrees = all(pair in decision.pairs and decision.pairs[pair].within(record.rule) for pair in pairs)
        return Completion(facts=(self._event(case, facts.judged(case.account, case.request_id, voter, not agrees)),))

    async def sweep(self, stop: asyncio.Event) -> None:
        """Close the cases whose deadline has passed."""
        async for _ in every(SWEEP_S, stop):
            await self._close_due()

    async def _close_due(self) -> None:
        try:
            due = await self._cases.due(await known(self._system.redis))
        except RedisError as error:
            log.warning("deadlines not looked at", reason=str(error))
            return
        for account, request_id in due:
            try:
                await self._close(account, request_id)
            except (NvpError, RedisError) as error:  # one case's trouble is not the others'
                log.warning("a case stays open", account=account, request=request_id, reason=str(error))

    async def _close(self, account: str, request_id: str) -> None:
        case = await self._cases.read(account, request_id)
        if case is not None and not await self._cases.is_decided(account, request_id):
            with bound_contextvars(**case.ids):
                await emit(self._system.redis, account, await self._last_word(case))
        await self._cases.close(account, request_id)

    async def _last_word(self, case: Case) -> Completion:
        """The decision that the deadline forces. Votes that cannot be judged are none, and hold up no other case."""
        if not case.casts:
            return self._unjudged(case, "no voter answered by the deadline; `nvp status` shows which are ready")
        try:
            return await self.conclude(case, closed=True)
        except RedisError:
            raise
        except Exception as error:  # one that nobody foresaw would end the tally, each time it starts
            reason = error if isinstance(error, NvpError) else defect(error, f"{case.account}/{case.request_id}")
            if reason.retryable:
                raise
            log.error("votes cannot be judged", reason=str(reason))
            return self._unjudged(case, f"the votes cannot be judged: {reason}")

    def _with_question(self, case: Case) -> Case:
        """What most voters signed is what was asked; before any valid vote, what the first cast says."""
        first = case.casts[0]
        asked = question(case.casts, keys=self._keys, request_id=case.request_id)
        request_digest, record_digest = asked or (first.request_digest, first.record)
        return replace(case, request_digest=request_digest, record_digest=record_digest)

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
        log_var = await self._system.artifacts.put_array(answer.log_var, log_variance_units(units))
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

    def _unjudged(self, case: Case, reason: str) -> Completion:
        energy = together(case.energy) if case.energy else None
        reply = PredictionAbstained(request_id=case.request_id, reason=reason, energy=energy)
        return self._final(case, reply, facts.unjudged(case.account, case.request_id, reason))

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
        told, recorded = self._event(case, reply, replyto=case.request_id), self._event(case, fact)
        return refusals.final(case.request_id, case.asked.deadline, told, recorded)

    def _event(self, case: Case, payload: Payload, *, replyto: str | None = None) -> Event:
        return new_event(
            payload,
            source=f"nvp:worker:{self._system.name}",
            subject=case.asked.subject,
            replyto=replyto,
            traceparent=current() or case.asked.traceparent,
        )


def forget(system: System, delivery: Delivery, error: NvpError) -> Completion:
    """A vote that cannot be counted is only that vote; the deadline decides without it."""
    log.warning("vote not counted", reason=str(error))
    return Completion()


def refuse(system: System, delivery: Delivery, error: NvpError) -> Completion:
    """Of a request the tally refuses what is late or cannot be read; all else is the voters' to refuse."""
    return refusals.prediction(system, delivery, error) if isinstance(error, UNANSWERABLE) else Completion()


async def serve(system: System, stop: asyncio.Event) -> None:
    tally = Tally(system)
    roles = [
        Role.each("ensemble", "tally", PredictionRequested, tally.open, refuse),
        Role.each("votes", "tally", VoteCast, tally.count, forget, unique=False),
    ]
    await run_roles(system, stop, roles, beside=[tally.sweep(stop)])
