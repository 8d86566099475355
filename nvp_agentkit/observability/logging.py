"""Structured logs on standard error: one JSON object a line (or text for people), ids bound per message.

What our own rooms and other people's libraries say through `logging` comes out as the same lines.
"""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import Processor

from nvp_agentkit.observability.stderr import make_lossy
from nvp_agentkit.settings import Settings

TRACEBACKS = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)  # passwords are among the locals
REPEATED = ("neo4j",)  # warns at each retry of what is then said once by whoever asked


def configure(settings: Settings, *, worker: str) -> None:
    """Set up logging for this process; every line carries ``worker``, and none that cannot be written raises."""
    make_lossy()
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    said: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendered = (
        [structlog.processors.ExceptionRenderer(TRACEBACKS), structlog.processors.JSONRenderer()]
        if settings.log_format == "json"
        else [_for_people()]
    )
    structlog.configure(
        processors=[*said, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
            foreign_pre_chain=[*said, structlog.stdlib.add_logger_name],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
    logging.getLogger("nvp_agentkit").setLevel(level)
    for name in REPEATED:
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.captureWarnings(True)
    structlog.contextvars.bind_contextvars(worker=worker)


def _for_people() -> Processor:
    """Text, coloured where standard error is a terminal that wants colours (NO_COLOR)."""
    from rich.console import Console

    terminal = Console(stderr=True)
    return structlog.dev.ConsoleRenderer(
        colors=terminal.color_system is not None and not terminal.no_color,
        exception_formatter=structlog.dev.plain_traceback,
    )
