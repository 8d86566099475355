"""What an account may rely on. Every test runs on the real server (see conftest)."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from nvp_agentkit.energy import names
from nvp_agentkit.energy.accounts import Balance, joules
from nvp_agentkit.energy.ledger import MOST_MJ, Ledger
from nvp_agentkit.errors import (
    ConflictingFact,
    InsufficientJoules,
    InvalidInput,
    StoreUnavailable,
    UnknownAccount,
    UnknownName,
)

LATER_MS = 1_000_000


async def test_reserved_joules_are_neither_spent_nor_free(ledger: Ledger, account: str) -> None:
    await ledger.create(account, 10_000)
    await ledger.reserve(account, "r", 4_000, expires_ms=LATER_MS)
    balance = await ledger.balance(account)
    assert (balance.spent_mj, balance.reserved_mj, balance.free_mj) == (0, 4_000, 6_000)


async def test_settling_the_last_part_frees_what_was_not_used(ledger: Ledger, account: str) -> None:
    await ledger.create(account, 10_000)
    await ledger.reserve(account, "r", 4_000, expires_ms=LATER_MS)
    grant = await ledger.settle(account, "r", "worker", 1_500, seq=1, final=True)
    assert grant.state == "settled"
    assert grant.paid_mj == 1_500
    assert await ledger.balance(account) == Balance(account, limit_mj=10_000, spent_mj=1_500, reserved_mj=0)


async def test_a_spent_budget_refuses_the_next_request_and_says_what_is_left(ledger: Ledger, account: str) -> None:
    await ledger.create(account, 7_100)
    await ledger.reserve(account, "first", 5_000, expires_ms=LATER_MS)
    with pytest.raises(InsufficientJoules) as refused:
        await ledger.reserve(account, "second", 5_000, expires_ms=LATER_MS)
    assert str(refused.value) == (
        f"account {account}: 5.0 J asked, 2.1 J left; lower `budget_j` or top the account up"
    )
    assert (await ledger.balance(account)).free_mj == 2_100


async def test_the_last_millijoule_can_be_reserved_and_not_one_more(ledger: Ledger, account: str) -> None:
    await ledger.create(account, 5)
    with pytest.raises(InsufficientJoules):
        await ledger.reserve(account, "too-much", 6, expires_ms=LATER_MS)
    await ledger.reserve(account, "r", 5, expires_ms=LATER_MS)
    assert (await ledger.balance(account)).free_mj == 0


async def test_a_redelivered_request_reserves_once_and_learns_what_was_spent(ledger: Ledger, account: str) -> None:
    await ledger.create(account, 10_000)
    first = await ledger.reserve(account, "r", 4_000, parts=2, expires_ms=LATER_MS)
    assert first.parts_settled == {}
    await ledger.settle(account, "r", "voter-0", 700, seq=3)
    again = await ledger.reserve(account, "r", 4_000, parts=2, expires_ms=LATER_MS)
    assert (again.held_mj, again.share_mj) == (3_300, 2_000)
    part = again.parts_settled["voter-0"]
    assert (part.used_mj, part.seq, part.final) == (700, 3, False)


async def test_a_redelivery_may_ask_for_more_time_but_never_for_less(ledger: Ledger, account: str) -> None:
    await ledger.create(account, 10)
    await ledger.reserve(account, "r", 10, expires_ms=100)
    await ledger.reserve(account, "r", 10, expires_ms=200)
    grant = await ledger.reserve(account, "r", 10, expires_ms=50)
    assert grant.expires_ms == 200
    assert await ledger.reap(150) == {}


async def test_one_id_for_two_amounts_is_a_conflict(ledger: Ledger, account: str) -> None:
    await ledger.create(account, 10_000)
    await ledger.reserve(account, "r", 1_000, expires_ms=LATER_MS)
    for mj, parts in ((2_000, 1), (1_000, 2)):
        with pytest.raises(ConflictingFact, match=r"1\.0 J in 1 parts"):
            await ledger.reserve(account, "r", mj, parts=parts, expires_ms=LATER_MS)
    assert (await ledger.balance(account)).reserved_mj == 1_000


async def test_all_voters_of_a_refused_request_are_told_the_same(ledger: Ledger, account: str) -> None:
    await ledger.create(account, 1_000)
    with pytest.raises(InsufficientJoules, match=r"1\.0 J left"):
        await ledger.reserve(account, "r", 3_000, parts=3, expires_ms=LATER_MS)
    await ledger.top_up(account, 9_000)
    with pytest.raises(InsufficientJoules, match=r"1\.0 J left"):
        await ledger.reserve(account, "r", 3_000, parts=3, expires_ms=LATER_MS)
    assert (await ledger.reserve(account, "r-again", 3_000, parts=3, expires_ms=LATER_MS)).held_mj == 3_000


async def test_settling_is_cumulative_and_an_old_figure_changes_nothing(ledger: Ledger, account: str) -> None:
    await ledger.create(account, 10_000)
    await ledger.reserve(account, "r", 4_000, expires_ms=LATER_MS)
    await ledger.settle(account, "r", "w", 1_000, seq=1)
    await ledger.settle(account, "r", "w", 1_800, seq=2)
    await ledger.settle(account, "r", "w", 1_000, seq=1)
    await ledger.settle(account, "r", "w", 1_900, seq=2)
    assert await ledger.balance(account) == Balance(account, limit_mj=10_000, spent_mj=1_800, reserved_mj=2_200)


async def test_a_total_that_goes_down_is_refused(ledger: Ledger, account: str) -> None:
    await ledger.create(account, 10_000)
    await ledger.reserve(account, "r", 4_000, expires_ms=LATER_MS)
    await ledger.settle(account, "r", "w", 1_000, seq=1)
    with pytest.raises(InvalidInput, match=r"below the 1\.0 J"):
        await ledger.settle(account, "r", "w", 900, seq=2)
    assert (await ledger.balance(account)).spent_mj == 1_000


async def test_nothing_can_be_added_after_the_last_word(ledger: Ledger, account: str) -> None:
    await ledger.create(account, 10_000)
    await ledger.reserve(account, "r", 4_000, parts=2, expires_ms=LATER_MS)
    await ledger.settle(account, "r", "a", 100, seq=1, final=True)
    await ledger.settle(account, "r", "a", 900, seq=2, final=True)
    assert (await ledger.balance(account)).spent_mj == 100


async def test_a_part_pays_at_most_its_share_and_the_rest_is_an_overdraft_on_record(
    ledger: Ledger, account: str
) -> None:
    await ledger.create(account, 9_000)
    await ledger.reserve(account, "r", 9_000, parts=3, expires_ms=LATER_MS)
    await ledger.settle(account, "r", "greedy", 5_000, seq=1, final=True)
    await ledger.settle(account, "r", "b", 1_000, seq=1, final=True)
    await ledger.settle(account, "r", "c", 1_000, seq=1, final=True)
    assert await ledger.balance(account) == Balance(account, 9_000, spent_mj=5_000, reserved_mj=0, overdraft_mj=2_000)
    entries = (await ledger.statement(account)).entries
    assert [(entry.part, entry.mj) for entry in entries if entry.what == "overdraft"] == [("greedy", 2_000)]


async def test_there_are_no_more_payers_than_parts(ledger: Ledger, account: str) -> None:
    await ledger.create(account, 9_000)
    await ledger.reserve(account, "r", 9_000, parts=2, expires_ms=LATER_MS)
    await ledger.settle(account, "r", "a", 1, seq=1)
    await ledger.settle(account, "r", "b", 1, seq=1)
    with pytest.raises(UnknownName, match="2 parts and all are taken"):
        await ledger.settle(account, "r", "c", 1, seq=1)


async def test_a_part_that_begins_again_after_its_last_word_holds_what_was_left_and_adds_to_what_it_used(
    ledger: Ledger, account: str, redis: Redis
) -> None:
    await ledger.create(account, 10_000)
    for fence, total in ((1, 1_000), (2, 2_500)):
        grant = await ledger.reserve(account, "r", 4_000, expires_ms=LATER_MS, part="w")
        assert (grant.state, grant.fences, grant.held_mj) == ("open", {"w": fence}, 4_000 - grant.paid_mj)
        assert await redis.ttl(names.reservation(account, "r")) == -1  # what is open is not forgotten
        await ledger.settle(account, "r", "w", total, seq=fence, final=True, fence=fence)
    assert await ledger.balance(account) == Balance(account, 10_000, spent_mj=2_500, reserved_mj=0)
    assert await redis.ttl(names.reservation(account, "r")) > 0


async def test_a_part_that_begins_again_is_refused_what_others_have_reserved_meanwhile(
    ledger: Ledger, account: str
) -> None:
    await ledger.create(account, 4_000)
    await ledger.reserve(account, "r", 4_000, expires_ms=LATER_MS, part="w")
    await ledger.settle(account, "r", "w", 1_000, seq=1, final=True)
    await ledger.reserve(account, "other", 2_000, expires_ms=LATER_MS)
    with pytest.raises(InsufficientJoules, match=r"3\.0 J asked, 1\.0 J left"):
        await ledger.reserve(account, "r", 4_000, expires_ms=LATER_MS, part="w")


async def test_an_attempt_that_is_slow_to_begin_does_not_take_the_fence_from_a_later_one(
    ledger: Ledger, account: str
) -> None:
    await ledger.create(account, 10_000)
    grant = await ledger.reserve(account, "r", 4_000, expires_ms=LATER_MS, part="w", attempt=2)
    with pytest.raises(ConflictingFact, match="attempt 1 comes after attempt 2"):
        await ledger.reserve(account, "r", 4_000, expires_ms=LATER_MS, part="w", attempt=1)
    await ledger.settle(account, "r", "w", 1_000, seq=2, final=True, fence=grant.fences["w"])
    assert await ledger.balance(account) == Balance(account, 10_000, spent_mj=1_000, reserved_mj=0)


async def test_under_an_old_fence_nothing_is_settled(ledger: Ledger, account: str) -> None:
    await ledger.create(account, 10_000)
    for _ in range(2):
        await ledger.reserve(account, "r", 4_000, expires_ms=LATER_MS, part="w")
    grant = await ledger.settle(account, "r", "w", 1_000, seq=9, final=True, fence=1)
    assert (grant.state, grant.paid_mj) == ("open", 0)
    await ledger.settle(account, "r", "w", 700, seq=1, final=True, fence=2)
    assert await ledger.balance(account) == Balance(account, 10_000, spent_mj=700, reserved_mj=0)


async def test_a_part_too_many_is_refused_before_it_works(ledger: Ledger, account: str) -> None:
    await ledger.create(account, 9_000)
    await ledger.reserve(account, "r", 9_000, expires_ms=LATER_MS, part="a")
    await ledger.settle(account, "r", "a", 1, seq=1, final=True)
    with pytest.raises(UnknownName, match="1 parts and all are taken"):
        await ledger.reserve(account, "r", 9_000, expires_ms=LATER_MS, part="b")


async def test_releasing_twice_is_releasing_once(ledger: Ledger, account: str) -> None:
    await ledger.create(account, 10_000)
    await ledger.reserve(account, "r", 4_000, expires_ms=LATER_MS)
    await ledger.settle(account, "r", "w", 500, seq=1)
    assert await ledger.release(account, "r") == 3_500
    assert await ledger.release(account, "r") == 0
    assert await ledger.release(account, "never-made") == 0
    assert await ledger.balance(account) == Balance(account, 10_000, spent_mj=500, reserved_mj=0)


async def test_a_settled_reservation_stays_settled_when_it_is_released(ledger: Ledger, account: str) -> None:
    await ledger.create(account, 10_000)
    await ledger.reserve(account, "r", 4_000, expires_ms=LATER_MS)
    await ledger.settle(account, "r", "w", 500, seq=1, final=True)
    assert await ledger.release(account, "r") == 0
    grant = await ledger.grant(account, "r")
    assert grant is not None
    assert grant.state == "settled"


async def test_what_is_used_after_a_release_is_an_overdraft(ledger: Ledger, account: str) -> None:
    await ledger.create(account, 10_000)
    await ledger.reserve(account, "r", 4_000, expires_ms=LATER_MS)
    await ledger.settle(account, "r", "w", 500, seq=1)
    await ledger.release(account, "r")
    grant = await ledger.settle(account, "r", "w", 800, seq=2, final=True)
    assert grant.state == "released"
    assert await ledger.balance(account) == Balance(account, 10_000, spent_mj=500, reserved_mj=0, overdraft_mj=300)


async def test_an_orphan_of_a_crashed_worker_pays_its_whole_share(ledger: Ledger, account: str) -> None:
    await ledger.create(account, 9_000)
    await ledger.reserve(account, "r", 9_000, parts=3, expires_ms=100)
    await ledger.settle(account, "r", "done", 1_000, seq=1, final=True)
    await ledger.settle(account, "r", "crashed", 400, seq=1)
    assert await ledger.reap(99) == {}
    assert await ledger.reap(100) == {(account, "r"): 2_600 + 3_000}
    assert await ledger.reap(100) == {}
    assert await ledger.balance(account) == Balance(account, 9_000, spent_mj=7_000, reserved_mj=0)


async def test_a_reservation_that_cannot_be_reaped_holds_up_no_other(
    ledger: Ledger, account: str, redis: Redis
) -> None:
    await ledger.create(account, 9_000)
    for name in ("a-broken", "sound"):
        await ledger.reserve(account, name, 3_000, expires_ms=100)
    await redis.set(names.reservation(account, "a-broken"), "no hash", ex=60)
    assert await ledger.reap(100) == {(account, "sound"): 3_000}
    await redis.delete(names.reservation(account, "a-broken"))


async def test_a_worker_that_wakes_up_after_the_reaper_is_not_charged_again(ledger: Ledger, account: str) -> None:
    await ledger.create(account, 9_000)
    await ledger.reserve(account, "r", 3_000, parts=3, expires_ms=100)
    await ledger.settle(account, "r", "slow", 400, seq=1)
    await ledger.reap(100)
    await ledger.settle(account, "r", "slow", 900, seq=2, final=True)
    await ledger.settle(account, "r", "never-seen", 1_200, seq=1, final=True)
    assert await ledger.balance(account) == Balance(account, 9_000, spent_mj=3_000, reserved_mj=0, overdraft_mj=200)


async def test_a_closed_reservation_is_found_by_late_duplicates_until_its_tombstone_expires(
    ledger: Ledger, account: str, redis: Redis
) -> None:
    await ledger.create(account, 1_000)
    await ledger.reserve(account, "r", 1_000, expires_ms=LATER_MS)
    key = names.reservation(account, "r")
    assert await redis.pttl(key) == -1
    await ledger.settle(account, "r", "w", 10, seq=1, final=True)
    assert await redis.pttl(key) > 0
    assert await redis.pttl(names.account(account)) == -1
    assert (await ledger.reserve(account, "r", 1_000, expires_ms=LATER_MS)).state == "settled"
    assert (await ledger.balance(account)).spent_mj == 10


async def test_topping_up_twice_with_one_id_is_once(ledger: Ledger, account: str) -> None:
    await ledger.create(account, 1_000)
    await ledger.top_up(account, 500, id="invoice-7")
    await ledger.top_up(account, 500, id="invoice-7")
    assert (await ledger.balance(account)).limit_mj == 1_500


async def test_creating_an_account_again_keeps_what_it_has(ledger: Ledger, account: str) -> None:
    await ledger.create(account, 1_000)
    await ledger.reserve(account, "r", 400, expires_ms=LATER_MS)
    assert (await ledger.create(account, 5_000)) == Balance(account, 1_000, spent_mj=0, reserved_mj=400)


async def test_an_unknown_account_is_told_how_to_become_one(ledger: Ledger, account: str) -> None:
    for attempt in (
        ledger.balance(account),
        ledger.top_up(account, 1),
        ledger.reserve(account, "r", 1, expires_ms=LATER_MS),
        ledger.statement(account),
    ):
        with pytest.raises(UnknownAccount, match=f"nvp account create {account}"):
            await attempt


async def test_settling_what_was_never_reserved_is_an_error(ledger: Ledger, account: str) -> None:
    await ledger.create(account, 1_000)
    with pytest.raises(UnknownName, match="has no reservation typo"):
        await ledger.settle(account, "typo", "w", 1, seq=1)
    with pytest.raises(InsufficientJoules):
        await ledger.reserve(account, "refused", 2_000, expires_ms=LATER_MS)
    with pytest.raises(UnknownName, match="has no reservation refused"):
        await ledger.settle(account, "refused", "w", 1, seq=1)
    assert await ledger.grant(account, "typo") is None
    assert await ledger.grant(account, "refused") is None


@pytest.mark.parametrize("mj", [0, -1, 1.5, True, MOST_MJ + 1])
async def test_an_amount_is_a_whole_positive_number(ledger: Ledger, account: str, mj: int) -> None:
    await ledger.create(account, 1_000)
    with pytest.raises(InvalidInput, match="give a whole number from 1"):
        await ledger.reserve(account, "r", mj, expires_ms=LATER_MS)


async def test_amounts_are_exact_up_to_two_to_the_53(ledger: Ledger, account: str) -> None:
    await ledger.create(account, MOST_MJ - 2)
    await ledger.top_up(account, 1)
    await ledger.reserve(account, "r", MOST_MJ - 2, expires_ms=LATER_MS)
    await ledger.settle(account, "r", "w", MOST_MJ - 3, seq=1, final=True)
    balance = await ledger.balance(account)
    assert (balance.limit_mj, balance.spent_mj, balance.free_mj) == (MOST_MJ - 1, MOST_MJ - 3, 2)
    with pytest.raises(InvalidInput, match="above the highest limit"):
        await ledger.top_up(account, 2)  # in a double, 2^53 + 1 is 2^53


async def test_a_statement_tells_the_whole_story_newest_first(ledger: Ledger, account: str) -> None:
    await ledger.create(account, 10_000)
    await ledger.top_up(account, 1_000, id="invoice-7")
    await ledger.reserve(account, "open", 100, expires_ms=LATER_MS)
    await ledger.reserve(account, "done", 300, expires_ms=LATER_MS)
    await ledger.settle(account, "done", "w", 200, seq=1, final=True)
    statement = await ledger.statement(account)
    assert statement.balance.spent_mj == 200
    assert [grant.reservation for grant in statement.open] == ["open"]
    assert [(entry.what, entry.mj) for entry in statement.entries] == [
        ("settled", 200), ("reserved", 300), ("reserved", 100), ("topped_up", 1_000), ("created", 10_000),
    ]  # fmt: skip


async def test_a_hundred_requests_at_once_never_overrun_one_account(ledger: Ledger, account: str) -> None:
    await ledger.create(account, 1_000)
    answers = await asyncio.gather(
        *(ledger.reserve(account, f"r{i}", 30, expires_ms=LATER_MS) for i in range(100)), return_exceptions=True
    )
    assert sum(isinstance(answer, InsufficientJoules) for answer in answers) == 67
    assert (await ledger.balance(account)).reserved_mj == 990


async def test_a_store_that_is_away_is_a_retryable_error() -> None:
    async with Redis.from_url("redis://127.0.0.1:1", retry=None) as nobody:
        with pytest.raises(StoreUnavailable) as away:
            await Ledger(nobody).balance("ace-1")
    assert away.value.retryable


@pytest.mark.parametrize(
    ("mj", "text"), [(0, "0.0 J"), (5_000, "5.0 J"), (2_099, "2.099 J"), (1_234_567_800, "1,234,567.8 J")]
)
def test_joules_are_written_without_hiding_a_millijoule(mj: int, text: str) -> None:
    assert joules(mj) == text
