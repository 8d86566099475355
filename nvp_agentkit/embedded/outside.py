"""Servers that run elsewhere: do they answer? Asked once at the start, so that a wrong address is said at once."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from neo4j import AsyncGraphDatabase
from neo4j.exceptions import DriverError, Neo4jError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from nvp_agentkit.errors import StoreUnavailable
from nvp_agentkit.settings import Settings

PATIENCE_S = 10.0


async def check(settings: Settings) -> None:
    """Ask the servers that the settings name, if any, one question each.

    Raises:
        StoreUnavailable: one does not answer within `PATIENCE_S` seconds or refuses us; the text names
            the variable, the address (without its password) and the reason.
    """
    if settings.redis_url is not None:
        await _check_redis(settings.redis_url)
    if settings.neo4j_uri is not None:
        await _check_graph(settings, settings.neo4j_uri)


async def _check_redis(url: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S), Redis.from_url(url) as client:
            await client.ping()
    except (RedisError, OSError, ValueError) as error:
        raise _unavailable("NVP_REDIS_URL", url, error) from error


async def _check_graph(settings: Settings, uri: str) -> None:
    auth = (settings.neo4j_user, settings.neo4j_password or "")
    try:
        async with (
            asyncio.timeout(PATIENCE_S),
            AsyncGraphDatabase.driver(uri, auth=auth, max_transaction_retry_time=0.0) as driver,
        ):
            await driver.execute_query("RETURN 1 AS one", database_=settings.neo4j_database)
    except (DriverError, Neo4jError, OSError, ValueError) as error:
        raise _unavailable("NVP_NEO4J_URI", uri, error) from error


def _unavailable(variable: str, url: str, error: Exception) -> StoreUnavailable:
    parts = urlsplit(url)
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    reason = str(error) or f"no answer within {PATIENCE_S:g} s"
    return StoreUnavailable(f"{variable}={address}: {reason}; start that server, or unset the variable "
                            "to use the embedded one")
