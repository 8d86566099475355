"""The way to Redis, and which of its errors mean that it is away."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import hiredis
from redis import exceptions
from redis._parsers.base import BaseParser
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.connection import HiredisRespSerializer

from nvp_agentkit.embedded import room
from nvp_agentkit.errors import InvalidInput, StackNotRunning, StoreUnavailable
from nvp_agentkit.settings import Settings


class StoreFullError(exceptions.TryAgainError):
    """The server cannot write what it would have to promise: its disk is full (``MISCONF``)."""


IN_SCRIPT = re.compile(r".*\b\d+: -?([A-Z]{2,} .*)", re.DOTALL)


def _met(said: str, **about: str) -> exceptions.RedisError:
    """What a script met, as the server says it outside of scripts."""
    found = IN_SCRIPT.match(said)
    if not found:
        return exceptions.ResponseError(said, **about)
    error: exceptions.RedisError = BaseParser.parse_error(found[1])  # type: ignore[no-untyped-call]
    return error


class _Errors(dict[str, Any]):
    """What ``ERR`` means by the words after it.

    Redis 6.2 says it of whatever a script met, as full memory or that the server is a replica now; from 7 on the code
    of that comes first.
    """

    def get(self, said: str, default: Any = None) -> Any:
        return super().get(said, _met if "@user_script" in said else default)


# redis-py has no class for it, and a plain `ResponseError` means that the question was wrong.
BaseParser.EXCEPTION_CLASSES["MISCONF"] = StoreFullError
BaseParser.EXCEPTION_CLASSES["ERR"] = _Errors(BaseParser.EXCEPTION_CLASSES["ERR"])  # type: ignore[call-overload]
BaseParser.EXCEPTION_CLASSES["@user_script:"] = _met  # Redis 6.2, of an error that the script returns

# Not there, starting, failing over or full: to be tried again, for it says nothing about the request. An OSError of a
# socket comes from redis-py as one of these; any other OSError is of this machine and no store's.
AWAY = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.MasterDownError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
    exceptions.OutOfMemoryError,
)

CONNECTIONS = 128  # redis-py's own pool raises at the 101st call


async def connect(settings: Settings, *, connections: int = CONNECTIONS) -> Redis:
    """A client of the stream server, after it has answered once; a call beyond ``connections`` waits for one.

    No socket timeout: with redis-py's default of 5 s a blocked XREADGROUP was seen to raise after 58 s; reads
    here block at most a second, and TCP keep-alive finds a dead peer.

    Raises:
        StackNotRunning: no address is known.
        InvalidInput: it is none.
        StoreUnavailable: nobody answers there within 5 s.
    """
    if settings.redis_url is None:
        raise StackNotRunning("no stream server is known; start a stack with `nvp up` or set NVP_REDIS_URL")
    login: dict[str, Any] = {}
    if settings.account_password is not None:
        login = {"username": settings.account, "password": settings.account_password}
    try:
        pool = BlockingConnectionPool.from_url(
            settings.redis_url,
            max_connections=connections,
            timeout=None,
            socket_timeout=None,
            socket_connect_timeout=5,
            health_check_interval=30,
            retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), 3),
            **login,
        )
    except ValueError as error:
        raise InvalidInput(
            f"NVP_REDIS_URL cannot be read: {error}; write redis://user:password@host:6379/0"
        ) from error
    pool.connection_class = _packing(pool.connection_class)
    redis = Redis.from_pool(pool)
    try:
        async with asyncio.timeout(5):
            await redis.ping()
    except (exceptions.RedisError, TimeoutError) as error:
        await redis.aclose()
        raise StoreUnavailable(
            f"stream server {_address(settings.redis_url)} does not answer ({str(error) or 'within 5 s'}); "
            f"start it, or correct NVP_REDIS_URL if that is set; `nvp doctor` tells more{room.hint(settings.data_dir)}"
        ) from error
    return redis


def _packing(connection: type[AbstractConnection]) -> type[AbstractConnection]:
    """``connection``, packing commands by hiredis: one of a thousand arguments in 0.18 ms, where redis-py takes 1.8.

    Its blocking client has hiredis pack too, but looks at each argument first, and takes 0.42 ms.
    """

    class Packing(connection):  # type: ignore[valid-type,misc]
        def pack_command(self, *args: Any) -> list[bytes]:
            try:
                return [hiredis.pack_command((*args[0].split(), *args[1:]) if " " in args[0] else args)]
            except TypeError:  # a command's name in bytes, or an argument of a kind that hiredis does not take
                packed: list[bytes] = HiredisRespSerializer().pack(*args)
                return packed

    return Packing


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn Redis being away into `StoreUnavailable`, for callers that know our errors only."""
    try:
        yield
    except AWAY as error:
        raise StoreUnavailable(f"stream server does not answer ({error}); `nvp doctor` tells more") from error


def _address(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 6379}" if parts.hostname else "at a Unix socket"
