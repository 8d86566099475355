"""What keeps a caller from harm: words out of range are refused, and nothing is waited for without end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from pydantic import ValidationError

from nvp_agentkit.errors import InvalidInput, NvpError, StoreUnavailable
from nvp_agentkit.messages import Payload
from nvp_agentkit.messages.checks import MAX_DEADLINE_S

P = TypeVar("P", bound=Payload)

A_DATASET = "give the dataset that a job made: its result has it as `dataset`"
WORDS = {  # for what the library that checks says in its own terms
    "string_pattern_mismatch": "a name has 1 to 63 of a-z, 0-9 and '_', and does not begin with '_'",
    "model_type": A_DATASET,
}
ANSWER_S = 5.0  # for what takes a store no time


def said(kind: type[P], **values: Any) -> P:
    """A message body from a caller's words.

    Raises:
        InvalidInput: one of them is out of its range; the text names value and limit.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        why = WORDS.get(first["type"], first["msg"].lower())
        raise InvalidInput(f"{name}={first['input']!r}: {why}") from error


def seconds(deadline_s: float) -> float:
    """A deadline that can be kept.

    Raises:
        InvalidInput: it is past, or further away than anything is kept.
    """
    if not 0 < deadline_s <= MAX_DEADLINE_S:  # NaN is in no range
        raise InvalidInput(f"deadline_s={deadline_s!r}: must be between 0 and {MAX_DEADLINE_S:.0f} seconds")
    return deadline_s


@contextmanager
def about(request_id: str) -> Iterator[None]:
    """What is raised inside says which request it is about."""
    try:
        yield
    except NvpError as error:
        error.request_id = request_id
        raise


@asynccontextmanager
async def within(limit_s: float) -> AsyncIterator[None]:
    """Talk to the stores for at most ``limit_s`` seconds, whatever they do.

    Raises:
        StoreUnavailable: they were silent for so long.
    """
    try:
        async with asyncio.timeout(limit_s):
            yield
    except NvpError:
        raise
    except TimeoutError as error:
        raise StoreUnavailable(f"the stores did not answer within {limit_s:g} s; `nvp doctor` tells more") from error
