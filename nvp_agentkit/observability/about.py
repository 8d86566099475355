"""Which message it is that log lines are about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def about(ids: Mapping[str, str]) -> Iterator[None]:
    """Every line logged inside carries ``ids``, where structlog is installed, as beside every worker."""
    try:
        from structlog.contextvars import bound_contextvars  # here, for clients need not wait for it
    except ModuleNotFoundError:
        yield
        return
    with bound_contextvars(**ids):
        yield
