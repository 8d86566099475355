"""Joules around a piece of work: reserved before, settled after, whatever happens in between."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisAway
from structlog.testing import capture_logs

from nvp_agentkit.energy.accounts import Grant
from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.errors import (
    BudgetExhausted,
    BudgetTooSmall,
    ComputeFailed,
    ConflictingFact,
    InsufficientJoules,
    InvalidField,
    NvpError,
    ResultNotKept,
    StoreUnavailable,
)
from nvp_agentkit.messages import JobRequested, Reading, SimulateSpec, new_event
from nvp_agentkit.workers import joules
from nvp_agentkit.workers.compute.cost import Cost
from nvp_agentkit.workers.patience import patiently
from nvp_agentkit.workers.system import System

GRANTED_MJ = 10_000
A_SECOND = Cost(cpu_s=1.0)  # 4 J at 4 W a core


@pytest.fixture
def window(bench):
    """``window(...)`` around an attempt at one and the same request of this account."""
    deadline = datetime.now(UTC) + timedelta(seconds=60)

    def opened(
        budget_mj: int = GRANTED_MJ, *, part: str = "job", parts: int = 1, system: System = bench.system
    ) -> AbstractAsyncContextManager[joules.Window]:
        asked = JobRequested(spec=SimulateSpec(domain="plasma_physics"))
        event = new_event(asked, source="tests", id="request-1", deadline=deadline, budget_mj=budget_mj)
        return joules.window(system, bench.delivery(asked, event=event), part=part, parts=parts)

    return opened


async def attempt(window, cost: Cost, end: BaseException) -> None:
    """Work that costs ``cost`` and ends so."""
    async with window() as energy:
        energy.charge(cost)
        raise end


async def grant(bench) -> Grant:
    found = await bench.system.ledger.grant(bench.account, "request-1")
    assert found is not None
    return found


async def test_work_that_is_done_pays_what_it_used_and_frees_the_rest(bench, window) -> None:
    async with window() as energy:
        assert (await bench.balance()).reserved_mj == GRANTED_MJ
        assert energy.charge(A_SECOND).mj == 4000
    balance = await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj) == (4000, 0)


@pytest.mark.parametrize("refusal", [InvalidField("NaN"), BudgetTooSmall("too small", needed_mj=1)])
async def test_a_refusal_costs_nothing(bench, window, refusal) -> None:
    with pytest.raises(type(refusal)):
        await attempt(window, Cost(cpu_s=0.01), refusal)  # finding out takes a little, and that is ours
    balance = await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj) == (0, 0)


async def test_an_account_that_cannot_pay_is_refused_before_the_work(bench, window) -> None:
    with pytest.raises(InsufficientJoules, match=r"2,000\.0 J asked, 1,000\.0 J left"):
        async with window(2_000_000):
            pytest.fail("work was begun")


@pytest.mark.parametrize(
    ("end", "code"), [(BudgetExhausted("half way"), "budget_exhausted"), (ZeroDivisionError("by zero"), "internal")]
)
async def test_work_that_fails_for_good_pays_what_it_used_until_then_and_says_so(bench, window, end, code) -> None:
    with pytest.raises(NvpError, match=str(end)) as caught:
        await attempt(window, A_SECOND, end)
    assert (caught.value.code, caught.value.retryable) == (code, False)
    assert caught.value.energy.mj == 4000
    balance = await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj) == (4000, 0)


@pytest.mark.parametrize("end", [ComputeFailed("killed"), StoreUnavailable("away"), RedisAway("away")])
async def test_work_that_will_be_tried_again_keeps_its_reservation(bench, window, end) -> None:
    with pytest.raises(type(end)):
        await attempt(window, Cost(), end)
    balance = await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj) == (0, GRANTED_MJ)


async def test_work_that_failed_and_is_not_tried_again_pays_what_it_used_and_not_its_share(bench, window) -> None:
    with pytest.raises(StoreUnavailable):
        await attempt(window, A_SECOND, StoreUnavailable("away, and the last attempt"))
    await bench.system.ledger.reap((await grant(bench)).expires_ms)
    balance = await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj, (await grant(bench)).state) == (4000, 0, "reaped")


async def test_an_attempt_that_died_after_one_that_ended_in_order_pays_its_share(bench, window) -> None:
    with pytest.raises(StoreUnavailable):
        await attempt(window, A_SECOND, StoreUnavailable("away"))
    await window().__aenter__()  # and nothing more is heard of it
    await bench.system.ledger.reap((await grant(bench)).expires_ms)
    assert (await bench.balance()).spent_mj == GRANTED_MJ


async def test_a_cancelled_attempt_pays_what_it_used_and_keeps_the_rest_of_its_reservation(bench, window) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        async with window() as energy:
            energy.charge(A_SECOND)
            begun.set()
            await asyncio.Event().wait()

    cancelled = asyncio.create_task(work())
    await begun.wait()
    cancelled.cancel()
    with suppress(asyncio.CancelledError):
        await cancelled
    balance = await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj) == (4000, GRANTED_MJ - 4000)


async def test_what_the_watch_sees_is_settled_while_the_work_goes_on_once_it_has_begun(
    bench, window, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def settled(mj: float) -> None:
        async with asyncio.timeout(20):
            while (await bench.balance()).spent_mj != mj:  # noqa: ASYNC110  it happens in Redis
                await asyncio.sleep(0.01)

    monkeypatch.setattr(joules, "UNSEEN_S", 0.02)
    async with (
        window(2 * GRANTED_MJ, part="first", parts=2) as energy, energy.kept_settled(),
        window(2 * GRANTED_MJ, part="second", parts=2) as other, other.kept_settled(),
    ):  # fmt: skip
        assert not energy.too_much(A_SECOND)
        for mj in (100, 200, 300):  # of the other alone: the first may still be refused, and a refusal costs nothing
            other.progressed(mj)
            await settled(mj)
        energy.progressed(100)
        for cpu_s in (1.0, 2.0):
            energy.too_much(Cost(cpu_s=cpu_s))
            await settled(300 + 4000 * cpu_s)
        # Its worker is killed here, say: no more than the last interval is missing, and that the next one adds.


async def test_a_second_attempt_continues_from_what_the_first_one_paid(bench, window) -> None:
    with pytest.raises(ComputeFailed):
        await attempt(window, A_SECOND, ComputeFailed("killed"))
    async with window() as energy:
        assert energy.before_mj == 4000  # to the millijoule: the first one left in order
        assert energy.share_mj == GRANTED_MJ - 4000
        reading = energy.charge(A_SECOND)
    assert (reading.mj, reading.cpu_ms) == (8000, 2000)  # of both: what is said is what is paid
    balance = await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj) == (8000, 0)


async def test_an_attempt_that_died_at_work_is_charged_its_last_interval_too(bench, window) -> None:
    dead = window()  # a process that was killed never leaves its window
    energy = await dead.__aenter__()
    energy.used_mj = 3000
    await energy.settle()
    async with window() as again:
        assert 3000 < again.before_mj <= GRANTED_MJ + 3000
        assert again.share_mj == max(GRANTED_MJ - again.before_mj, 0)
    assert 3000 < (await bench.balance()).spent_mj <= GRANTED_MJ


async def test_an_answer_lost_after_it_was_paid_is_made_again_within_the_budget_and_paid_again(bench, window) -> None:
    async with window() as energy:
        energy.charge(A_SECOND)
    async with window() as again:  # the worker died between its last settlement and the completion
        assert again.share_mj == GRANTED_MJ - 4000
        assert (await bench.balance()).reserved_mj == GRANTED_MJ - 4000
        again.charge(A_SECOND)
    balance = await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj) == (8000, 0)
    with pytest.raises(BudgetExhausted, match=r"2\.0 J are left, earlier attempts used 8\.0 J"):
        async with window() as third:
            third.afford(4000, "a vote")
    assert (await bench.balance()).spent_mj == 8000


async def test_the_last_word_on_work_that_is_done_waits_for_a_ledger_that_is_away(
    bench, window, relay, free_port: int, settings
) -> None:
    url = urlsplit(settings.redis_url)
    far = url._replace(netloc=f"{url.netloc.rpartition(':')[0]}:{free_port}").geturl()
    async with Redis.from_url(far, retry=Retry(NoBackoff(), 0)) as redis:
        attempt = window(system=replace(bench.system, ledger=Ledger(redis)))
        async with relay(free_port, settings.redis_url):
            energy = await attempt.__aenter__()
        energy.charge(A_SECOND)
        with capture_logs() as said:
            ending = asyncio.create_task(attempt.__aexit__(None, None, None))
            async with asyncio.timeout(20):
                while not said and not ending.done():  # noqa: ASYNC110  it has met a ledger that is away
                    await asyncio.sleep(0.01)
        async with relay(free_port, settings.redis_url):
            await ending
    balance = await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj) == (4000, 0)


@pytest.mark.parametrize("end", ["lost", "late", "hopeless"])
async def test_what_follows_work_that_is_done_is_given_up_where_nothing_can_come_of_it(bench, end) -> None:
    delivery = bench.simulation(within_s=-1.0 if end == "late" else 60.0)
    if end == "lost":
        delivery.lost.set()

    async def ask() -> None:
        raise ResultNotKept("no disk") if end == "hopeless" else StoreUnavailable("away")

    async with asyncio.timeout(5):
        with pytest.raises(StoreUnavailable):
            await patiently(delivery, ask, failed="not there yet")


async def test_a_voter_that_votes_again_pays_from_its_own_share(bench, window) -> None:
    for voter in ("voter-0", "voter-1"):
        async with window(8000, part=voter, parts=2) as energy:
            energy.charge(Cost(cpu_s=0.5))
    async with window(8000, part="voter-0", parts=2) as again:
        assert again.share_mj == 2000
        again.charge(Cost(cpu_s=0.25))
    balance = await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj) == (5000, 0)


async def test_a_worker_that_lost_its_lease_settles_nothing_once_another_has_begun(bench, window) -> None:
    stopped = window()  # its process hangs, another one takes the job over, and then it wakes up
    asleep = await stopped.__aenter__()
    async with window() as energy:
        asleep.charge(A_SECOND)
        await stopped.__aexit__(None, None, None)
        assert (await bench.balance()).reserved_mj == GRANTED_MJ
        energy.charge(Cost(cpu_s=0.5))
    balance = await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj) == (2000, 0)


async def test_a_reservation_whose_time_was_over_pays_for_no_more_work(bench, window) -> None:
    async with window() as energy:
        energy.charge(A_SECOND)
        await bench.system.ledger.reap(2**50)
    with pytest.raises(ConflictingFact, match=r"its 10\.0 J were reaped when its time was over"):
        async with window():
            pytest.fail("work was begun")


async def test_no_attempt_ever_spends_more_than_was_granted(bench, window) -> None:
    for _ in range(3):
        with pytest.raises(ComputeFailed):
            await attempt(window, A_SECOND, ComputeFailed("killed"))
    balance = await bench.balance()
    assert balance.spent_mj == GRANTED_MJ
    assert balance.overdraft_mj == 2000  # on record, and at nobody's cost


async def test_each_voter_has_its_share_and_what_it_does_not_use_comes_back(bench, window) -> None:
    async with window(9000, part="voter-0", parts=3) as energy:
        assert energy.share_mj == 3000
        energy.charge(Cost(cpu_s=0.25))
    assert (await bench.balance()).reserved_mj == 8000
    for voter in ("voter-1", "voter-2"):
        async with window(9000, part=voter, parts=3):
            pass
    balance = await bench.balance()
    assert (balance.spent_mj, balance.reserved_mj) == (1000, 0)
    assert (await grant(bench)).state == "settled"


async def test_what_does_not_fit_is_refused_with_the_figure_that_would(bench, window) -> None:
    with pytest.raises(BudgetTooSmall, match=r"a vote takes about 4\.0 J, 3\.0 J of 9\.0 J fall to it") as caught:
        async with window(9000, part="voter-0", parts=3) as energy:
            energy.afford(4000, "a vote")
    assert caught.value.needed_mj == 12_000


async def test_a_refusal_after_the_work_has_begun_pays_what_it_used(bench, window) -> None:
    async def begun() -> None:
        async with window() as energy:
            energy.spent(A_SECOND)
            raise InvalidField("found out late")

    with pytest.raises(InvalidField) as caught:
        await begun()
    assert (await bench.balance()).spent_mj == caught.value.energy.mj == 4000


def test_readings_of_unlike_sensors_add_up_and_say_so() -> None:
    modelled = Reading(mj=10, lo_mj=5, hi_mj=20, method="modelled", sensor="cpu-time")
    rapl = Reading(mj=30, lo_mj=10, hi_mj=40, method="apportioned", sensor="rapl")
    assert joules.together([modelled, modelled]).sensor == "cpu-time"
    both = joules.together([modelled, rapl])
    assert (both.mj, both.lo_mj, both.hi_mj) == (40, 15, 60)
    assert (both.method, both.sensor) == ("modelled", "several")
