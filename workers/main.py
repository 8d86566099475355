"""``python -m workers NAME``: one worker process, from its settings to its orderly end."""

from __future__ import annotations

import asyncio
import gc
import importlib
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import structlog

from nvp_agentkit.errors import InvalidInput, NvpError, StoreUnavailable
from nvp_agentkit.observability.logging import configure
from nvp_agentkit.observability.probes import answering
from nvp_agentkit.observability.tracing import sending
from nvp_agentkit.settings import Settings

from . import KINDS
from .metrics import Metrics
from .system import System, bootstrap

RETRY_S = 1.0
Serve = Callable[[System, asyncio.Event], Awaitable[None]]
log = structlog.get_logger()


def serve_of(name: str) -> Serve:
    """What worker ``name`` does until it is told to stop; ``shadow-1`` is a ``shadow``.

    Raises:
        InvalidInput: no such worker.
    """
    kind = name.partition("-")[0]
    if kind not in KINDS:
        raise InvalidInput(f"no worker {name!r}; there are {', '.join(KINDS)}, each with -N where there are several")
    serve: Serve = importlib.import_module(f".{kind}", __package__).serve
    return serve


async def work(name: str, settings: Settings, serve: Serve) -> None:
    """Serve until SIGTERM or SIGINT; a second signal ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        stop.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    metrics = Metrics(name, settings.instance)
    async with observed(settings, metrics):
        while not stop.is_set():
            try:
                async with bootstrap(name, settings, metrics) as system:
                    log.info("worker starts", kind=name.partition("-")[0])
                    await serve(system, stop)
            except* StoreUnavailable as errors:  # away at start, or for one of the tasks beside each other: never exit
                reason = str(errors.exceptions[0])
                metrics.pulse.says("starting", f"waiting for a store: {reason}")
                log.warning("waiting for a store", reason=reason)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), RETRY_S)
    log.info("worker ends")


@asynccontextmanager
async def observed(settings: Settings, metrics: Metrics) -> AsyncIterator[None]:
    """Answer probes, where a port is set for that, from before the first store is asked to after the last.

    Raises:
        PortTaken: the port cannot be had.
    """
    if settings.metrics_port is None:
        yield
        return
    ticking = asyncio.create_task(metrics.pulse.keep_ticking())
    try:
        with answering(settings.metrics_host, settings.metrics_port, metrics.pulse, metrics.registry) as port:
            log.info("probes answered", host=settings.metrics_host, port=port)
            yield
    finally:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)


def run(name: str, settings: Settings, serve: Serve) -> None:
    """The process, with logs to standard error; status 1 where waiting mends nothing, as where keys are missing."""
    configure(settings, worker=name)
    gc.freeze()  # what is loaded by now stays: no collection has to look through it again
    hopeless = False
    try:
        with sending(settings, name):
            asyncio.run(work(name, settings, serve))
    except* NvpError as errors:
        log.error("worker cannot serve", reason="; ".join(map(str, errors.exceptions)))
        hopeless = True
    if hopeless:
        sys.exit(1)
