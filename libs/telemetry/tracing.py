"""Spans and the trace context that travels with calls and messages."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry import propagate, trace
from opentelemetry.context import Context


def tracer(name: str) -> trace.Tracer:
    """The tracer of one part of the code, for example `steelyard.rating`; usable before and after `setup`."""
    return trace.get_tracer(name)


def inject_headers() -> dict[str, str]:
    """The current trace context as headers of a call or message (W3C `traceparent`); empty outside any trace."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers


def context_from(headers: Mapping[str, str]) -> Context:
    """The trace context that came with a call or message; without one, a span made in it starts a new trace.

    Keys are expected in lower case, as gRPC and our messages carry them.
    """
    return propagate.extract(headers)
