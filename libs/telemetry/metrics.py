"""Instruments that are recorded once and read by both the Prometheus endpoint and the OTLP export.

The values lie in prometheus_client: an addition with labels costs 0.5 us there and 5 us or more in the OpenTelemetry
SDK, and exemplars reach both sides. `otlp_metrics` turns the values into OTLP when an export is due. Label values come
from small fixed sets (a method, a code, an outcome), never from what a client sent: each combination of them is kept
for the life of the process.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypedDict, TypeVar

import prometheus_client
from opentelemetry import trace
from prometheus_client.metrics import MetricWrapperBase

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets that the semantic conventions advise for the durations of calls."""

_PROMETHEUS_UNITS = {"s": "seconds", "By": "bytes"}
_NOT_IN_PROMETHEUS_NAMES = re.compile(r"[^a-zA-Z0-9_]")


class _PrometheusArguments(TypedDict):
    name: str
    documentation: str
    labelnames: list[str]
    unit: str
    registry: prometheus_client.CollectorRegistry


SeriesT = TypeVar("SeriesT", bound=MetricWrapperBase)


def prometheus_name(name: str) -> str:
    """OpenTelemetry's dotted names as Prometheus writes them: `rpc.method` is `rpc_method`."""
    return _NOT_IN_PROMETHEUS_NAMES.sub("_", name)


@dataclass(frozen=True, slots=True)
class Definition:
    """What an instrument measures: `unit` in UCUM (`s`, `By`, `{event}`), `labels` the names of its attributes."""

    scope: str
    name: str
    unit: str
    description: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...] = ()


class Instrument(Generic[SeriesT]):
    """A definition and the series recorded for it, one per combination of label values (in the order of `labels`)."""

    def __init__(self, definition: Definition, source: SeriesT) -> None:
        self.definition = definition
        self.source = source
        self._series: dict[tuple[str, ...], SeriesT] = {}

    def _at(self, labels: tuple[str, ...]) -> SeriesT:
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = self.source.labels(*labels) if labels else self.source
        return series


class Counter(Instrument[prometheus_client.Counter]):
    """A sum that only grows."""

    def add(self, amount: int, *labels: str) -> None:
        """:raises ValueError: if the amount is negative, or the label values do not match the definition"""
        self._at(labels).inc(amount)


class Gauge(Instrument[prometheus_client.Gauge]):
    """A value that goes up and down, of which the latest counts."""

    def set(self, value: float, *labels: str) -> None:
        """:raises ValueError: if the label values do not match the definition"""
        self._at(labels).set(value)


class Histogram(Instrument[prometheus_client.Histogram]):
    """A distribution over fixed buckets; values recorded in a sampled span carry its trace id as an exemplar."""

    def record(self, value: float, *labels: str) -> None:
        """:raises ValueError: if the label values do not match the definition"""
        span = trace.get_current_span().get_span_context()
        exemplar = None
        if span.trace_flags.sampled:
            exemplar = {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
        self._at(labels).observe(value, exemplar)


AnyInstrument = Counter | Gauge | Histogram
MadeT = TypeVar("MadeT", Counter, Gauge, Histogram)


class MetricRegistry:
    """All instruments of a process. Safe for use by several threads."""

    def __init__(self) -> None:
        self.prometheus = prometheus_client.CollectorRegistry()
        self._instruments: dict[str, AnyInstrument] = {}
        self._lock = threading.Lock()

    def instruments(self) -> list[AnyInstrument]:
        with self._lock:
            return list(self._instruments.values())

    def get_or_make(self, kind: type[MadeT], definition: Definition, make: Callable[[], MadeT]) -> MadeT:
        """Return the instrument of that name, made on first use.

        :raises ValueError: if the name is taken by an instrument that measures something else
        """
        with self._lock:
            existing = self._instruments.get(definition.name)
            if existing is None:
                made = make()
                self._instruments[definition.name] = made
                return made
            if not isinstance(existing, kind) or existing.definition != definition:
                raise ValueError(f"metric {definition.name} is defined twice: {existing.definition} and {definition}")
            return existing


class Meter:
    """Makes the instruments of one part of the code. Asking twice for the same gives the same instrument."""

    def __init__(self, scope: str, registry: MetricRegistry) -> None:
        self._scope = scope
        self._registry = registry

    def counter(self, name: str, *, unit: str, description: str, labels: Sequence[str] = ()) -> Counter:
        definition = Definition(self._scope, name, unit, description, tuple(labels))

        def make() -> Counter:
            return Counter(definition, prometheus_client.Counter(**self._prometheus(definition)))

        return self._registry.get_or_make(Counter, definition, make)

    def gauge(self, name: str, *, unit: str, description: str, labels: Sequence[str] = ()) -> Gauge:
        definition = Definition(self._scope, name, unit, description, tuple(labels))

        def make() -> Gauge:
            return Gauge(definition, prometheus_client.Gauge(**self._prometheus(definition)))

        return self._registry.get_or_make(Gauge, definition, make)

    def histogram(
        self, name: str, *, unit: str, description: str, labels: Sequence[str] = (), bounds: Sequence[float] = SECONDS
    ) -> Histogram:
        """`bounds` are the upper bounds of the buckets, ascending, without infinity."""
        definition = Definition(self._scope, name, unit, description, tuple(labels), tuple(bounds))

        def make() -> Histogram:
            source = prometheus_client.Histogram(**self._prometheus(definition), buckets=bounds)
            return Histogram(definition, source)

        return self._registry.get_or_make(Histogram, definition, make)

    def _prometheus(self, definition: Definition) -> _PrometheusArguments:
        return {
            "name": prometheus_name(definition.name),
            "documentation": definition.description,
            "labelnames": [prometheus_name(label) for label in definition.labels],
            "unit": _PROMETHEUS_UNITS.get(definition.unit, ""),
            "registry": self._registry.prometheus,
        }


_PROCESS = MetricRegistry()


def process_registry() -> MetricRegistry:
    """The registry behind `meter`, which `setup` exports: metrics belong to the process, as its tracer does."""
    return _PROCESS


def meter(name: str) -> Meter:
    """The meter of one part of the code, for example `steelyard.rating`; usable before and after `setup`."""
    return Meter(name, _PROCESS)
