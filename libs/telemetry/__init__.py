"""Telemetry of a process: traces and metrics in OpenTelemetry's names, metrics for Prometheus, logs as JSON."""

from libs.telemetry.logs import JsonFormatter, redacted
from libs.telemetry.metrics import Counter, Gauge, Histogram, Meter, MetricRegistry, meter
from libs.telemetry.telemetry import Telemetry, setup
from libs.telemetry.tracing import context_from, inject_headers, tracer

__all__ = [
    "Counter",
    "Gauge",
    "Histogram",
    "JsonFormatter",
    "Meter",
    "MetricRegistry",
    "Telemetry",
    "context_from",
    "inject_headers",
    "meter",
    "redacted",
    "setup",
    "tracer",
]
