"""The registry of accounts. Workers watch it; an account that is not in it has no streams."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from nvp_agentkit.errors import UnknownAccount
from nvp_agentkit.messages.checks import check_account_name
from nvp_agentkit.streams import names
from nvp_agentkit.streams.connect import AWAY


async def register(redis: Redis, account: str, *, owner: str) -> None:
    """Make ``account`` known, with its streams and their groups. Idempotent; the first owner stays.

    Raises:
        InvalidInput: the name is no account name.
    """
    check_account_name(account)
    await create_groups(redis, {names.key(account, suffix): groups for suffix, groups in names.GROUPS.items()})
    record = json.dumps({"owner": owner, "created_ms": time.time_ns() // 1_000_000})
    await redis.hsetnx(names.ACCOUNTS, account, record)


async def known(redis: Redis) -> list[str]:
    """All accounts, sorted."""
    found = await redis.hkeys(names.ACCOUNTS)
    return sorted(name.decode() if isinstance(name, bytes) else name for name in found)


async def require(redis: Redis, account: str) -> None:
    """Raises:
    UnknownAccount: nobody registered ``account``.
    """
    if not await redis.hexists(names.ACCOUNTS, account):
        raise UnknownAccount(f"account {account!r} is not registered; `nvp account create {account}` does it")


async def create_groups(redis: Redis, wanted: Mapping[str, Sequence[str]]) -> dict[str, Exception]:
    """Create groups where they are missing (stream -> groups), from the stream's beginning.

    Returns:
        The streams that cannot be used and why, such as a key that is no stream.

    Raises:
        What `AWAY` names: the server is full, read-only or gone, which says nothing about any one stream.
    """
    pairs = [(stream, group) for stream, groups in wanted.items() for group in groups]
    pipe = redis.pipeline(transaction=False)
    for stream, group in pairs:
        pipe.xgroup_create(stream, group, id="0", mkstream=True)
    results = await pipe.execute(raise_on_error=False) if pairs else []
    for result in results:
        if isinstance(result, AWAY):
            raise result
    return {
        stream: result
        for (stream, _), result in zip(pairs, results, strict=True)
        if isinstance(result, Exception) and not _exists(result)
    }


def _exists(error: Exception) -> bool:
    return isinstance(error, ResponseError) and str(error).startswith("BUSYGROUP")
