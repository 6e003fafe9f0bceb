"""Sets up the telemetry of a process from its environment, once, at its start."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from wsgiref.simple_server import WSGIServer

from opentelemetry import trace
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from prometheus_client import ProcessCollector, start_http_server

from libs.clock import system_clock
from libs.telemetry import semconv
from libs.telemetry.logs import configure_logs
from libs.telemetry.metrics import process_registry
from libs.telemetry.otlp_metrics import OtlpReading, PeriodicMetricExport

_FLUSH_S = 2.0
"""How long `shutdown` tries each signal when the collector is away: calls in flight deserve the grace period more."""
_DEFAULT_METRIC_INTERVAL_MS = "60000"


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What `setup` started; `metrics_port` is the bound port of the Prometheus endpoint, None without one."""

    metrics_port: int | None
    _closers: tuple[Callable[[], None], ...]

    def shutdown(self) -> None:
        """Flush and stop everything. Blocks for some seconds if the collector is away: call it in a thread."""
        for close in self._closers:
            close()


def setup(service_name: str, instance_id: str, *, environment: Mapping[str, str] = os.environ) -> Telemetry:
    """Configure logs (LOG_LEVEL), traces and metrics (OTEL_*), and the Prometheus endpoint (METRICS_LISTEN).

    Trace ids are always made and passed on. Nothing is exported, and no connection opened, without an
    OTEL_EXPORTER_OTLP_*ENDPOINT; a trace that begins here is then not sampled, unless OTEL_TRACES_SAMPLER is set. The
    OpenTelemetry SDK reads the other OTEL_* variables from the process itself.

    :raises ValueError: if LOG_LEVEL or METRICS_LISTEN is wrong
    :raises OSError: if the address of METRICS_LISTEN cannot be bound
    """
    configure_logs(service_name, instance_id, environment.get("LOG_LEVEL") or "INFO")
    resource = _resource(service_name, instance_id)
    closers = [_start_traces(resource, environment, export=_exports("TRACES", environment))]
    if _exports("METRICS", environment):
        closers.append(_start_metric_export(resource, environment))
    port = None
    if listen := environment.get("METRICS_LISTEN"):
        port, close = _start_prometheus(listen)
        closers.append(close)
    return Telemetry(port, tuple(closers))


def _resource(service_name: str, instance_id: str) -> Resource:
    own = {
        semconv.SERVICE_NAMESPACE: "steelyard",
        semconv.SERVICE_NAME: service_name,
        semconv.SERVICE_INSTANCE_ID: instance_id,
    }
    # What the operator sets in OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES wins over what we call ourselves.
    return Resource.create({**own, **OTELResourceDetector().detect().attributes})


def _exports(signal: str, environment: Mapping[str, str]) -> bool:
    if (
        environment.get(f"OTEL_{signal}_EXPORTER") == "none"
        or environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    ):
        return False
    return any(environment.get(f"OTEL_EXPORTER_OTLP_{part}ENDPOINT") for part in ("", f"{signal}_"))


def _start_traces(resource: Resource, environment: Mapping[str, str], *, export: bool) -> Callable[[], None]:
    # Without a sampler of its own the provider follows OTEL_TRACES_SAMPLER, by default parentbased_always_on. But spans
    # of a trace that nobody will see, and that no caller asked for, cost a small call as much as its work.
    chosen = None if export or environment.get("OTEL_TRACES_SAMPLER") else ParentBased(ALWAYS_OFF)
    provider = TracerProvider(sampler=chosen, resource=resource, shutdown_on_exit=False)
    trace.set_tracer_provider(provider)
    if not export:
        return provider.shutdown
    # Imported here: it costs start-up time and memory that a process without a collector need not pay.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    exporter = OTLPSpanExporter()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return lambda: _close_within(_FLUSH_S, provider.shutdown, exporter.shutdown)


def _start_metric_export(resource: Resource, environment: Mapping[str, str]) -> Callable[[], None]:
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter  # See _start_traces.

    interval_ms = environment.get("OTEL_METRIC_EXPORT_INTERVAL") or _DEFAULT_METRIC_INTERVAL_MS
    if not interval_ms.isdecimal() or int(interval_ms) == 0:
        raise ValueError("OTEL_METRIC_EXPORT_INTERVAL must be a positive whole number of milliseconds")
    exporter = OTLPMetricExporter()
    reading = OtlpReading(process_registry(), resource, system_clock)
    periodic = PeriodicMetricExport(exporter, reading, int(interval_ms) / 1_000)
    return lambda: _close_within(_FLUSH_S, periodic.shutdown, exporter.shutdown)


def _close_within(timeout_s: float, close: Callable[[], None], give_up: Callable[[], None]) -> None:
    """Close, but after `timeout_s` shut the exporter down, which ends its attempts."""
    timer = threading.Timer(timeout_s, give_up)
    timer.start()
    try:
        close()
    finally:
        timer.cancel()


def _start_prometheus(listen: str) -> tuple[int, Callable[[], None]]:
    host, separator, port = listen.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65_535:
        raise ValueError(f"METRICS_LISTEN must be host:port, is {listen!r}")
    registry = process_registry().prometheus
    server, thread = start_http_server(int(port), host.strip("[]") or "0.0.0.0", registry=registry)  # noqa: S104
    ProcessCollector(registry=registry)
    return server.server_port, lambda: _stop_prometheus(server, thread)


def _stop_prometheus(server: WSGIServer, thread: threading.Thread) -> None:
    server.shutdown()
    server.server_close()
    thread.join()
