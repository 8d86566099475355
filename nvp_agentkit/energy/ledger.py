"""The joule ledger: accounts that reserve, settle and never overrun.

Each operation is one Lua function on the server, so it happens as a whole or not at all; each is idempotent, so a
redelivered message changes nothing. Amounts are integer millijoules. Promised always: spent + reserved <= limit.

What survives a crash: a worker's crash costs its account the orphan's whole share (`reap`, errs high). The server's
own crash loses what its append-only file had not yet written: nothing with ``appendfsync always``; with ``everysec``
up to two seconds in a power cut, and in an end of the process while the disk was slow or full (docs/streams.md).
"""

from __future__ import annotations

import functools
import logging
import uuid
from pathlib import Path
from typing import Any

import redis.exceptions
from redis.asyncio import Redis

from nvp_agentkit.energy import names
from nvp_agentkit.energy.accounts import Balance, Entry, Grant, Statement, joules, read_entry, read_grant
from nvp_agentkit.errors import (
    ConflictingFact,
    InsufficientJoules,
    InvalidInput,
    NvpError,
    StoreUnavailable,
    UnknownAccount,
    UnknownName,
)

log = logging.getLogger(__name__)

MOST_MJ = 2**53 - 1  # up to it numbers in Lua, and the sum of two of them against it, are exact
KEEP_MS = 24 * 3600 * 1000  # closed reservations answer late duplicates for a day


@functools.cache
def _source(name: str) -> str:
    folder = Path(__file__).with_name("lua")
    return (folder / "prelude.lua").read_text() + (folder / f"{name}.lua").read_text()


class Ledger:
    """Accounts on one Redis server. Safe to use from many processes at once."""

    def __init__(self, redis: Redis, *, keep_ms: int = KEEP_MS) -> None:
        self._redis = redis
        self._keep_ms = keep_ms

    async def create(self, account: str, limit_mj: int) -> Balance:
        """Open an account; one that is there already keeps what it has."""
        limit_mj = _amount("limit", limit_mj, least=0)
        await self._call("create", account, [names.account(account), names.journal(account)], [limit_mj, self._keep_ms])
        return await self.balance(account)

    async def top_up(self, account: str, mj: int, *, id: str | None = None) -> Balance:
        """Raise the limit by ``mj``; the same ``id`` again changes nothing.

        Raises:
            UnknownAccount, InvalidInput: the new limit would not be exact any more.
        """
        mj = _amount("top-up", mj)
        id = id or str(uuid.uuid4())
        keys = [names.account(account), names.top_up(account, id), names.journal(account)]
        await self._call("top_up", account, keys, [id, mj, MOST_MJ, self._keep_ms])
        return await self.balance(account)

    async def balance(self, account: str) -> Balance:
        """The account as it stands. Raises `UnknownAccount`."""
        fields = await self._ask(self._redis.hmget(names.account(account), ["limit", "spent", "reserved", "overdraft"]))
        if fields[0] is None:
            raise _refusal("unknown", account)
        limit, spent, reserved, overdraft = (int(value) for value in fields)
        return Balance(account, limit, spent, reserved, overdraft)

    async def reserve(
        self,
        account: str,
        reservation: str,
        mj: int,
        *,
        parts: int = 1,
        expires_ms: int,
        part: str = "",
        attempt: int = 0,
    ) -> Grant:
        """Set ``mj`` aside for one piece of work, split evenly among ``parts`` payers.

        Idempotent by ``reservation``: all voters of a request may call it, the first one reserves. A refusal is
        kept as well: the same id is refused again, also after a top-up; new work takes a new id.

        With ``part`` that part begins here, each time under a new fence (`Grant.fences`). Where it had said its last
        word already (its answer was lost), that is taken back: the joules that were left are held again, and what it
        uses now comes on top of what it has used. A lower ``attempt`` than the part's last one is too late: its worker
        has lost the work to another.

        Raises:
            InsufficientJoules: the account cannot pay.
            ConflictingFact: the id was used with another amount or number of parts; or another attempt has begun.
            UnknownName: a part too many.
            UnknownAccount.
        """
        mj, parts = _amount("reservation", mj), _amount("parts", parts)
        args = [mj, parts, _amount("expires_ms", expires_ms), part, attempt]
        return read_grant(account, reservation, await self._on("reserve", account, reservation, args))

    async def settle(
        self,
        account: str,
        reservation: str,
        part: str,
        mj: int,
        *,
        seq: int,
        final: bool = False,
        fence: int | None = None,
        rest: bool = False,
    ) -> Grant:
        """Charge what ``part`` has used **in total** so far; a ``seq`` not above its last one changes nothing.

        Neither does a ``fence`` that is not the part's newest: another worker has begun that part anew. With ``rest``
        nobody is at work on the part until it is begun again.

        Never charges more than the part's share: the rest becomes an overdraft on record. When all parts are final
        the reservation closes and what is left of it is free again. After a `reap` or `release` nothing is charged.

        Raises:
            UnknownName: no such reservation, or a part too many.
            InvalidInput: the total went down.
        """
        if not part:
            raise InvalidInput("a part needs a name; use the voter's or the worker's")
        args = [part, _amount("use", mj, least=0), _amount("seq", seq, least=0), int(final)]
        args += ["" if fence is None else fence, int(rest)]
        return read_grant(account, reservation, await self._on("settle", account, reservation, args))

    async def release(self, account: str, reservation: str) -> int:
        """Close a reservation and free what it still holds: that many mJ; 0 if there was nothing open.

        Only for work that is certain not to go on: what is settled later becomes an overdraft.
        """
        return int(await self._on("release", account, reservation, []))

    async def reap(self, now_ms: int) -> dict[tuple[str, str], int]:
        """Close what expired by ``now_ms`` (crashed workers): (account, reservation) -> mJ charged.

        A part that never said its last word and is not at rest pays its whole share: the ledger errs high.
        """
        due: list[bytes] = await self._ask(self._redis.zrangebyscore(names.OPEN, "-inf", now_ms))
        reaped = {}
        for raw in due:
            account, reservation = names.split_member(raw)
            try:
                charged = await self._on("reap", account, reservation, [now_ms])
            except redis.exceptions.ResponseError as error:  # a key of the wrong type, say: the others need not wait
                log.error("reservation %s of account %s cannot be reaped: %s", reservation, account, error)
                continue
            if charged is not None:
                reaped[account, reservation] = int(charged)
        return reaped

    async def statement(self, account: str, *, entries: int = 100) -> Statement:
        """Balance, open reservations and the newest journal lines."""
        balance = await self.balance(account)
        grants = [await self.grant(*pair) for pair in await self.open() if pair[0] == account]
        lines: list[Entry] = [
            read_entry(entry_id, fields)
            for entry_id, fields in await self._ask(self._redis.xrevrange(names.journal(account), count=entries))
        ]
        return Statement(balance, tuple(grant for grant in grants if grant is not None), tuple(lines))

    async def open(self) -> list[tuple[str, str]]:
        """What is open on all accounts: (account, reservation)."""
        members: list[bytes] = await self._ask(self._redis.zrange(names.OPEN, 0, -1))
        return [names.split_member(member) for member in members]

    async def grant(self, account: str, reservation: str) -> Grant | None:
        """The reservation as it stands; None if there is none, or it was refused."""
        fields = await self._ask(self._redis.hgetall(names.reservation(account, reservation)))
        if not fields or fields[b"state"] == b"refused":
            return None
        return read_grant(account, reservation, [item for pair in fields.items() for item in pair])

    async def _on(self, operation: str, account: str, reservation: str, args: list[Any]) -> Any:
        keys = [
            names.account(account),
            names.reservation(account, reservation),
            names.OPEN,
            names.journal(account),
        ]
        args = [names.member(account, reservation), reservation, *args, self._keep_ms]
        return await self._call(operation, account, keys, args, reservation)

    async def _call(
        self, operation: str, account: str, keys: list[str], args: list[Any], reservation: str = ""
    ) -> Any:
        script = self._redis.register_script(_source(operation))
        answer = await self._ask(script(keys=keys, args=args))
        status, rest = answer[0].decode(), answer[1:]
        if status == "ok":
            return rest[0] if rest else None
        raise _refusal(status, account, reservation, *(int(value) for value in rest))

    async def _ask(self, pending: Any) -> Any:
        try:
            return await pending
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
            raise StoreUnavailable(f"the ledger's Redis is away: {error}; ask again, twice is once") from error


def _amount(what: str, value: int, *, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST_MJ:
        raise InvalidInput(f"{what} {value!r}: give a whole number from {least} to {MOST_MJ}")
    return value


_REFUSALS: dict[str, tuple[type[NvpError], str]] = {
    "unknown": (UnknownAccount, "account {account} has no joules here; `nvp account create {account}` opens it"),
    "refused": (
        InsufficientJoules,
        "account {account}: {first_j} asked, {second_j} left; lower `budget_j` or top the account up",
    ),
    "conflict": (
        ConflictingFact,
        "reservation {reservation} of account {account} was {second_j} in {third} parts and is now asked for "
        "{first_j}; other work needs an id of its own",
    ),
    "missing": (UnknownName, "account {account} has no reservation {reservation}; reserve before settling"),
    "parts": (UnknownName, "reservation {reservation} of account {account} has {first} parts and all are taken"),
    "late": (
        ConflictingFact,
        "reservation {reservation} of account {account}: attempt {first} comes after attempt {second} has begun; "
        "its lease was lost, and it changes nothing",
    ),
    "backward": (InvalidInput, "reservation {reservation}: a total below the {first_j} settled before"),
    "too_much": (InvalidInput, "account {account}: {first_j} would be above the highest limit, 2^53 mJ"),
}


def _refusal(status: str, account: str, reservation: str = "", *figures: int) -> NvpError:
    cls, template = _REFUSALS[status]
    first, second, third = (*figures, 0, 0, 0)[:3]
    return cls(
        template.format(
            account=account, reservation=reservation, first=first, first_j=joules(first),
            second=second, second_j=joules(second), third=third,
        )
    )
