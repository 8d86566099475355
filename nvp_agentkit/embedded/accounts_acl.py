"""One user of the stream server for each account: it asks in its own name, and reads its own answers.

What the user may do is the whole of the trust a client gets. It adds entries to its own ``jobs``, ``urgent``,
``cancel``, ``service``, ``predict`` and ``ensemble`` streams; it reads its own keys, its own pages of the ledger and
the registry; it writes nothing else, so no votes, no replies, no lineage facts, and nobody spends another account's
joules.

Redis 7 and Valkey keep reading and writing apart by selectors. Redis 6.2 cannot: there the user may add to any stream
of its own account (still to no other's), so that it could forge votes, replies and facts of its own; of registry and
ledger it sees whether it is registered and what it has left, and nothing of its journal and reservations.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.messages.checks import check_account_name

CONNECTION = ("+auth", "+hello", "+ping", "+reset", "+select", "+client|setname")
READING = ("+xread", "+xrange", "+xrevrange", "+xlen", "+xinfo|stream", "+get", "+mget", "+hget", "+hmget", "+hgetall",
           "+hexists", "+hlen", "+hkeys", "+exists", "+ttl", "+pttl", "+type")  # fmt: skip
READABLE = ("nvp:{{{0}}}:*", "nvp:{{registry}}:*", "nvp:{{ledger}}:account:{0}", "nvp:{{ledger}}:journal:{0}",
            "nvp:{{ledger}}:reservation:{0}:*")  # fmt: skip
READABLE_6 = ("nvp:{{registry}}:accounts", "nvp:{{ledger}}:account:{0}")  # hashes: XADD adds nothing to them
ASKING = ("jobs", "urgent", "cancel", "service", "predict", "ensemble")
WRITABLE = tuple(f"nvp:{{{{{{0}}}}}}:{suffix}" for suffix in ASKING)


@dataclass(frozen=True)
class Login:
    """What a client needs: ``NVP_ACCOUNT`` and ``NVP_ACCOUNT_PASSWORD``.

    ``kept`` is False where a restart of the server would forget the user: it has no ACL file.
    """

    account: str
    password: str
    kept: bool


async def create_user(redis: Redis, account: str, password: str | None = None) -> Login:
    """Make the account's user anew with ``password``, else a generated one; any other password ends at once.

    The server is given a SHA-256 of it only; the caller is the one who knows the password.

    Raises:
        InvalidInput: the name is no account name (it would be a pattern, or the owner's own user).
    """
    _check(account)
    password = password or secrets.token_urlsafe(24)
    digest = hashlib.sha256(password.encode()).hexdigest()
    await _set(redis, account, ["reset", "on", f"#{digest}"])
    return Login(account, password, await _save(redis))


async def renew_users(redis: Redis, accounts: Iterable[str]) -> None:
    """Give the users of these accounts the rights of this version, no more and no fewer; their passwords stay.

    An account without a user gets none.
    """
    there = set(await redis.acl_users()) - {"default"}
    renewed = [account for account in accounts if account in there]
    for account in renewed:
        await _set(redis, account, ["resetkeys", "nocommands"])
    if renewed:
        await _save(redis)


async def remove_user(redis: Redis, account: str) -> bool:
    """Remove the account's user and end its connections; False if there was none."""
    _check(account)
    removed = bool(await redis.acl_deluser(account))
    await _save(redis)
    return removed


def _rules(account: str) -> list[str]:
    read = " ".join(f"%R~{pattern.format(account)}" for pattern in READABLE)
    # XADD may trim, so the server asks for reading as well as writing of its key.
    write = " ".join(f"~{pattern.format(account)}" for pattern in WRITABLE)
    return [*CONNECTION, *READING, *read.split(), f"(+xadd {write})"]


def _rules_6(account: str) -> list[str]:
    see = (f"~{pattern.format(account)}" for pattern in READABLE_6)
    return [*CONNECTION, *READING, "+xadd", f"~nvp:{{{account}}}:*", *see]


async def _set(redis: Redis, account: str, first: Sequence[str]) -> None:
    """Change the account's user in one step: what comes ``first``, then its rights."""
    command: Any = redis.execute_command  # redis-py leaves it untyped; its acl_setuser has no %R~
    try:
        await command("ACL SETUSER", account, *first, "clearselectors", *_rules(account))
    except ResponseError as error:
        if "syntax" not in str(error).lower():
            raise
        await command("ACL SETUSER", account, *first, *_rules_6(account))


async def _save(redis: Redis) -> bool:
    """Keep the users in the server's ACL file; False if it has none (a server of somebody else's)."""
    try:
        await redis.acl_save()
    except ResponseError:
        return False
    return True


def _check(account: str) -> None:
    check_account_name(account)
    if account == "default":
        raise InvalidInput("account 'default': that is the server owner's own user; choose another name")
