"""Spans of OpenTelemetry, linked through the messages: whoever publishes writes down its span, whoever works goes on.

Without the extra ``observability``, or without a tracer set up, all of it does nothing. A client's spans are its own
program's business; a worker sends its to `NVP_TRACES_URL`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal

from nvp_agentkit import __version__
from nvp_agentkit.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext, Tracer

TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
EXPORT_S = 3.0  # a collector that is away holds up no end of a worker
Kind = Literal["PRODUCER", "CONSUMER"]


@contextmanager
def span(
    name: str,
    kind: Kind,
    *,
    parent: str | None = None,
    links: Sequence[str | None] = (),
    **attributes: str | int,
) -> Iterator[None]:
    """The block as a span below ``parent`` (a traceparent), else below the current one; an error is its status."""
    tracer = _tracer()
    if tracer is None:
        yield
        return
    from opentelemetry import trace

    above = _context(parent)
    with tracer.start_as_current_span(
        name,
        context=None if above is None else trace.set_span_in_context(trace.NonRecordingSpan(above)),
        kind=trace.SpanKind[kind],
        links=[trace.Link(one) for one in map(_context, links) if one is not None],
        attributes={key.replace("__", "."): value for key, value in attributes.items()},
    ):
        yield


def current() -> str | None:
    """The traceparent of the span that we are in; None where there is none."""
    if _tracer() is None:
        return None
    from opentelemetry import trace

    here = trace.get_current_span().get_span_context()
    return f"00-{here.trace_id:032x}-{here.span_id:016x}-{here.trace_flags:02x}" if here.is_valid else None


def trace_id(traceparent: str | None) -> str | None:
    """The trace that a message belongs to, for the log; None for what is no traceparent."""
    found = TRACEPARENT.fullmatch(traceparent or "")
    return found and found[1]


@contextmanager
def sending(settings: Settings, worker: str) -> Iterator[None]:
    """Inside the block this process's spans go to the collector, if one is named; those left at the end as well."""
    if settings.traces_url is None:
        yield
        return
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    who = {"service.name": f"nvp-{worker}", "service.instance.id": settings.instance, "service.version": __version__}
    provider = TracerProvider(resource=Resource.create(who))
    exporter = OTLPSpanExporter(endpoint=settings.traces_url, timeout=EXPORT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter, export_timeout_millis=1000 * EXPORT_S))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()


def _tracer() -> Tracer | None:
    """None while nobody has set up where spans go: then they cost nothing."""
    with suppress(ImportError):
        from opentelemetry import trace

        provider = trace.get_tracer_provider()
        if not isinstance(provider, trace.ProxyTracerProvider):
            return provider.get_tracer("nvp_agentkit", __version__)
    return None


def _context(traceparent: str | None) -> SpanContext | None:
    """What a message says of its span; it may say anything."""
    found = TRACEPARENT.fullmatch(traceparent or "")
    if found is None:
        return None
    from opentelemetry import trace

    said = trace.SpanContext(int(found[1], 16), int(found[2], 16), True, trace.TraceFlags(int(found[3], 16)))
    return said if said.is_valid else None
