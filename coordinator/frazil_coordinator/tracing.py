"""Sends the traces of ended queries to an OpenTelemetry collector, by OTLP over HTTP.

On when ``OTEL_EXPORTER_OTLP_ENDPOINT`` or ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`` is set; the variables of OpenTelemetry say
the rest (headers, certificates, ``OTEL_SERVICE_NAME``, ``OTEL_RESOURCE_ATTRIBUTES``). Spans are queued and sent by a thread
in batches; those that a collector is too slow for are dropped, and no query waits. What is in a trace is decided by
:mod:`frazil_coordinator.spans`. The packages (extra ``otel``) are imported only when it is on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from frazil_coordinator.spans import Span, spans_of
from frazil_coordinator.status import QueryStatus
from frazil_functions.errors import RequestError
from frazil_functions.ids import trace_id

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

__all__ = ["Tracing", "tracing_from"]

_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_QUEUE: Final = 16_384
"""Spans that wait at most."""

_NANO: Final = 1_000_000_000


def tracing_from(environ: Mapping[str, str] | None = None) -> Tracing | None:
    """Return what sends traces where the environment says; None when it says nothing.

    Raises
    ------
    RequestError
        When it says so, and the packages are missing.
    """
    environ = os.environ if environ is None else environ
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or not any(environ.get(name) for name in _VARIABLES):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # only where it is on
    except ImportError as error:
        raise RequestError(f"{' or '.join(_VARIABLES)} is set: traces need `pip install 'frazil[otel]'`") from error
    return Tracing(OTLPSpanExporter())


class Tracing:
    """Sends traces.

    Parameters
    ----------
    exporter
        Where to.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource  # as above
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # as above

        # The environment has the last word on what the service is called.
        self._resource = Resource({SERVICE_NAME: "frazil-coordinator"}).merge(OTELResourceDetector().detect())
        self._processor = BatchSpanProcessor(exporter, max_queue_size=_QUEUE)

    def ended(self, status: QueryStatus, profile: Mapping[str, Any]) -> None:
        """Send the trace of a query that has ended; returns at once."""
        for span in spans_of(status, profile):
            self._processor.on_end(_readable(status, span, self._resource))

    def flush(self, timeout_s: float = 10.0) -> None:
        """Wait until what was queued is sent."""
        self._processor.force_flush(int(timeout_s * 1000))

    def close(self) -> None:
        """Send what is queued, and end."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]  # of opentelemetry


def _readable(status: QueryStatus, span: Span, resource: Resource) -> ReadableSpan:
    from opentelemetry.sdk.trace import ReadableSpan  # only where it is on
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags  # as above

    def context(number: int) -> SpanContext:
        return SpanContext(trace_id(status.id), number, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

    return ReadableSpan(
        name=span.name,
        context=context(span.id),
        parent=None if span.parent is None else context(span.parent),
        resource=resource,
        attributes=dict(span.attributes),
        kind=SpanKind.SERVER if span.parent is None else SpanKind.CLIENT if span.name == "task" else SpanKind.INTERNAL,
        status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.OK),
        start_time=int(span.began_unix_s * _NANO),
        end_time=int(span.ended_unix_s * _NANO),
    )
