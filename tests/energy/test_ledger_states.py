"""The ledger against a model of it: any order of calls that Hypothesis thinks of, each redelivered at will."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import fakeredis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nvp_agentkit.energy.accounts import Balance
from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.errors import ConflictingFact, InsufficientJoules, InvalidInput, NvpError, UnknownName

ACCOUNT = "ace-1"
ids = st.sampled_from([f"r{i}" for i in range(3)])
part_names = st.sampled_from(["a", "b", "c"])
amounts = st.integers(1, 60)
times = st.integers(1, 20)


@dataclass
class PartModel:
    used: int
    paid: int
    seq: int
    final: bool = False
    rest: int | None = None  # the fence under which it was said that nobody is at work


@dataclass
class ReservationModel:
    granted: int
    parts: int
    expires: int
    state: str
    seen: dict[str, PartModel] = field(default_factory=dict)
    fences: dict[str, int] = field(default_factory=dict)

    @property
    def share(self) -> int:
        return self.granted // self.parts

    @property
    def paid(self) -> int:
        unseen = self.parts - len(self.seen) if self.state == "reaped" else 0
        return sum(part.paid for part in self.seen.values()) + unseen * self.share

    @property
    def held(self) -> int:
        return self.granted - self.paid if self.state == "open" else 0

    @property
    def overdraft(self) -> int:
        return sum(max(0, part.used - part.paid) for part in self.seen.values())


class LedgerMachine(RuleBasedStateMachine):
    """One account. The model keeps whole reservations and adds them up; the ledger keeps running totals."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.ledger = Ledger(fakeredis.FakeAsyncRedis())
        self.limit = 100
        self.reservations: dict[str, ReservationModel] = {}
        self.delivered: list[Callable[[], Awaitable[object]]] = []
        self.loop.run(self.ledger.create(ACCOUNT, self.limit))

    def teardown(self) -> None:
        self.loop.close()

    def call(self, request: Callable[[], Awaitable[object]]) -> type[NvpError] | None:
        async def run() -> type[NvpError] | None:
            try:
                await request()
            except NvpError as error:
                return type(error)
            return None

        return self.loop.run(run())

    def expected(self) -> Balance:
        open_or_closed = [r for r in self.reservations.values() if r.state != "refused"]
        return Balance(
            ACCOUNT,
            limit_mj=self.limit,
            spent_mj=sum(r.paid for r in open_or_closed),
            reserved_mj=sum(r.held for r in open_or_closed),
            overdraft_mj=sum(r.overdraft for r in open_or_closed),
        )

    @rule(mj=amounts)
    def top_up(self, mj: int) -> None:
        id = f"t{self.limit}"
        self.deliver(lambda: self.ledger.top_up(ACCOUNT, mj, id=id), None)
        self.limit += mj

    @rule(id=ids, mj=amounts, parts=st.integers(1, 3), expires=times)
    def reserve(self, id: str, mj: int, parts: int, expires: int) -> None:
        self.reserve_model(id, mj, parts, expires)

    @rule(id=ids, beyond=st.integers(-1, 1), expires=times)
    def reserve_about_all_there_is(self, id: str, beyond: int, expires: int) -> None:
        self.reserve_model(id, max(1, self.expected().free_mj + beyond), 1, expires)

    def reserve_model(self, id: str, mj: int, parts: int, expires: int) -> None:
        expected: type[NvpError] | None = None
        before = self.reservations.get(id)
        if before is None:
            refused = mj > self.expected().free_mj
            self.reservations[id] = ReservationModel(mj, parts, expires, "refused" if refused else "open")
            expected = InsufficientJoules if refused else None
        elif (before.granted, before.parts) != (mj, parts):
            expected = ConflictingFact
        elif before.state == "refused":
            expected = InsufficientJoules
        elif before.state == "open":
            before.expires = max(before.expires, expires)
        self.deliver(lambda: self.ledger.reserve(ACCOUNT, id, mj, parts=parts, expires_ms=expires), expected)

    @precondition(lambda self: self.reservations)
    @rule(data=st.data(), part=part_names)
    def begin(self, data: st.DataObject, part: str) -> None:
        id = data.draw(st.sampled_from(sorted(self.reservations)))
        known = self.reservations[id]
        asked = {"parts": known.parts, "part": part, "expires_ms": known.expires}
        expected = self.begin_model(known, part)
        assert self.call(lambda: self.ledger.reserve(ACCOUNT, id, known.granted, **asked)) == expected

    def begin_model(self, known: ReservationModel, name: str) -> type[NvpError] | None:
        if known.state == "refused":
            return InsufficientJoules
        if known.state not in ("open", "settled"):
            return None
        if name not in known.seen and len(known.seen) == known.parts:
            return UnknownName
        if known.state == "settled" and known.granted - known.paid > self.expected().free_mj:
            return InsufficientJoules
        known.state = "open"
        known.fences[name] = known.fences.get(name, 0) + 1
        if name in known.seen:
            known.seen[name].final = False
        return None

    @rule(id=ids, part=part_names, mj=st.integers(0, 60), late=st.booleans(), rest=st.booleans())
    def settle_under_a_fence(self, id: str, part: str, mj: int, late: bool, rest: bool) -> None:
        known = self.reservations.get(id)
        fence = (known.fences.get(part, 0) if known else 0) - late
        if known and known.state != "refused" and fence != known.fences.get(part):
            expected = None
        else:
            expected = self.settle_model(known, part, mj, 7, False, fence if rest else None)
        call = partial(self.ledger.settle, ACCOUNT, id, part, mj, seq=7, fence=fence, rest=rest)
        assert self.call(call) == expected

    @rule(id=ids, part=part_names, mj=st.integers(0, 60), seq=st.integers(0, 6), final=st.booleans())
    def settle(self, id: str, part: str, mj: int, seq: int, final: bool) -> None:
        expected = self.settle_model(self.reservations.get(id), part, mj, seq, final)
        self.deliver(lambda: self.ledger.settle(ACCOUNT, id, part, mj, seq=seq, final=final), expected)

    def settle_model(
        self, reservation: ReservationModel | None, name: str, mj: int, seq: int, final: bool, rest: int | None = None
    ) -> type[NvpError] | None:
        if reservation is None or reservation.state == "refused":
            return UnknownName
        part = reservation.seen.get(name)
        if part is not None and (part.final or seq <= part.seq):
            return None
        if part is None and len(reservation.seen) == reservation.parts:
            return UnknownName
        if part is not None and mj < part.used:
            return InvalidInput
        charged_when_reaped = reservation.share if reservation.state == "reaped" else 0
        paid = part.paid if part else charged_when_reaped
        if reservation.state == "open":
            paid = min(mj, reservation.share)
        reservation.seen[name] = PartModel(mj, paid, seq, final, rest)
        finals = [part for part in reservation.seen.values() if part.final]
        if reservation.state == "open" and len(finals) == reservation.parts:
            reservation.state = "settled"
        return None

    @rule(id=ids)
    def release(self, id: str) -> None:
        reservation = self.reservations.get(id)
        if reservation is not None and reservation.state == "open":
            reservation.state = "released"
        self.call(lambda: self.ledger.release(ACCOUNT, id))

    @rule(now=times)
    def reap(self, now: int) -> None:
        for reservation in self.reservations.values():
            if reservation.state == "open" and reservation.expires <= now:
                reservation.state = "reaped"
                for name, part in reservation.seen.items():
                    at_rest = part.rest is not None and part.rest == reservation.fences.get(name)
                    part.paid = part.paid if part.final or at_rest else reservation.share
        assert self.call(lambda: self.ledger.reap(now)) is None

    @precondition(lambda self: self.delivered)
    @rule(data=st.data())
    def redeliver(self, data: st.DataObject) -> None:
        self.call(data.draw(st.sampled_from(self.delivered)))

    def deliver(self, request: Callable[[], Awaitable[object]], expected: type[NvpError] | None) -> None:
        assert self.call(request) == expected
        if expected in (None, InsufficientJoules):
            self.delivered.append(request)

    @invariant()
    def the_ledger_is_the_model_and_never_overruns(self) -> None:
        balance = self.loop.run(self.ledger.balance(ACCOUNT))
        assert balance == self.expected()
        assert balance.spent_mj + balance.reserved_mj <= balance.limit_mj
        assert min(balance.spent_mj, balance.reserved_mj, balance.overdraft_mj) >= 0

    @invariant()
    def every_reservation_is_as_in_the_model(self) -> None:
        for id, model in self.reservations.items():
            grant = self.loop.run(self.ledger.grant(ACCOUNT, id))
            if model.state == "refused":
                assert grant is None
                continue
            assert grant is not None
            assert (grant.state, grant.held_mj, grant.expires_ms) == (model.state, model.held, model.expires)
            assert grant.fences == model.fences


LedgerMachine.TestCase.settings = settings(
    max_examples=80, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


class TestLedgerStates(LedgerMachine.TestCase):  # type: ignore[name-defined,misc]  # made by Hypothesis
    """Found by pytest under this name."""
