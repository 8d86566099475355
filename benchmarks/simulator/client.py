"""A redis-py client whose other end is the modelled store: real commands and answers, a connection that may fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from benchmarks.simulator.link import Link


class ModelRedis(Redis):
    """Costly to make (redis-py's is), so made once for each place in a history and given a new `link` each time."""

    link: Link

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        (answer,) = await self.link.ask([_words(args)])
        return _read(self.response_callbacks, args[0], options, answer)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> ModelPipeline:
        return ModelPipeline(self, transaction)


class ModelPipeline(Pipeline):
    def __init__(self, redis: ModelRedis, transaction: bool) -> None:
        super().__init__(redis.connection_pool, redis.response_callbacks, transaction, None)
        self._link, self._whole = redis.link, transaction

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        stack, self.command_stack = self.command_stack, []
        if not stack:
            return []
        answers = await self._link.ask([_words(args) for args, _ in stack], whole=self._whole)
        results = []
        for (args, options), answer in zip(stack, answers, strict=True):
            try:
                results.append(_read(self.response_callbacks, args[0], options, answer))
            except RedisError as error:
                if raise_on_error:
                    raise
                results.append(error)
        return results


def _read(callbacks: Any, name: Any, options: Any, answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer
    read: Callable[..., Any] | None = callbacks.get(name)
    if read is None:
        return answer
    return read(answer, **{key: value for key, value in options.items() if key != "keys"})


def _words(args: tuple[Any, ...]) -> tuple[bytes, ...]:
    return tuple([one if type(one) is bytes else str(one).encode() for one in args])
