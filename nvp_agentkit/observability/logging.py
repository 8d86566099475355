"""Structured logs on standard error: one JSON object a line (or text for people), ids bound per message."""

from __future__ import annotations

import logging
import sys

import structlog

from nvp_agentkit.observability.stderr import make_lossy
from nvp_agentkit.settings import Settings


def configure(settings: Settings, *, worker: str) -> None:
    """Set up structlog for this process; every line carries ``worker``, and none that cannot be written raises."""
    make_lossy()
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if settings.log_format == "json" else _for_people()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.log_level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(worker=worker)


def _for_people() -> structlog.typing.Processor:
    """Text, coloured where standard error is a terminal that wants colours (NO_COLOR)."""
    from rich.console import Console

    terminal = Console(stderr=True)
    return structlog.dev.ConsoleRenderer(colors=terminal.color_system is not None and not terminal.no_color)
