"""The recorded metrics as OTLP, pushed at a fixed interval. Temporality is always cumulative."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.samples import Exemplar as PrometheusExemplar
from prometheus_client.samples import Sample

from libs.clock import Clock
from libs.telemetry import metrics, semconv

_LOG = logging.getLogger(__name__)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CUMULATIVE = AggregationTemporality.CUMULATIVE


class PeriodicMetricExport:
    """Exports every `interval_s` and once more at the end, from a thread of its own."""

    def __init__(self, exporter: MetricExporter, read: Callable[[], MetricsData], interval_s: float) -> None:
        self._exporter = exporter
        self._read = read
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metric-export", daemon=True)
        self._thread.start()

    def shutdown(self) -> None:
        """Export the last values and return; takes as long as the exporter tries."""
        self._stopping.set()
        self._thread.join()
        self._exporter.shutdown()

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            self._export()
        self._export()

    def _export(self) -> None:
        try:
            self._exporter.export(self._read())
        except Exception:  # Values accumulate, so the next export makes up for this one.
            _LOG.exception("metrics could not be exported")


class OtlpReading:
    """Reads a registry as OTLP metrics that accumulate since this object was made."""

    def __init__(self, registry: metrics.MetricRegistry, resource: Resource, clock: Clock) -> None:
        self._registry = registry
        self._resource = resource
        self._clock = clock
        self._started_ns = _epoch_ns(clock())

    def __call__(self) -> MetricsData:
        now_ns = _epoch_ns(self._clock())
        scopes: dict[str, list[Metric]] = {}
        for instrument in self._registry.instruments():
            scopes.setdefault(instrument.definition.scope, []).append(self._metric(instrument, now_ns))
        scope_metrics = [
            ScopeMetrics(InstrumentationScope(name), found, semconv.SCHEMA_URL) for name, found in scopes.items()
        ]
        return MetricsData([ResourceMetrics(self._resource, scope_metrics, semconv.SCHEMA_URL)])

    def _metric(self, instrument: metrics.AnyInstrument, now_ns: int) -> Metric:
        definition = instrument.definition
        samples = [sample for family in instrument.source.collect() for sample in family.samples]
        data: Sum | Gauge | Histogram
        if isinstance(instrument, metrics.Histogram):
            points = [series.point(self._started_ns, now_ns) for series in _histogram_series(definition, samples)]
            data = Histogram(points, _CUMULATIVE)
        elif isinstance(instrument, metrics.Counter):
            totals = (sample for sample in samples if sample.name.endswith("_total"))
            data = Sum(self._numbers(definition, totals, now_ns), _CUMULATIVE, is_monotonic=True)
        else:
            data = Gauge(self._numbers(definition, samples, now_ns))
        return Metric(definition.name, definition.description, definition.unit, data)

    def _numbers(self, definition: metrics.Definition, samples: Iterable[Sample], now_ns: int) -> list[NumberDataPoint]:
        return [
            NumberDataPoint(_attributes(definition, sample.labels), self._started_ns, now_ns, sample.value)
            for sample in samples
        ]


@dataclass(slots=True)
class _HistogramSeries:
    """One series of a histogram; Prometheus counts cumulatively over the buckets, OTLP per bucket."""

    attributes: dict[str, str]
    bounds: tuple[float, ...]
    cumulative: list[int] = field(default_factory=list)
    exemplars: list[Exemplar] = field(default_factory=list)
    total: float = 0.0

    def point(self, started_ns: int, now_ns: int) -> HistogramDataPoint:
        return HistogramDataPoint(
            attributes=self.attributes,
            start_time_unix_nano=started_ns,
            time_unix_nano=now_ns,
            count=self.cumulative[-1],
            sum=self.total,
            bucket_counts=[after - before for before, after in pairwise([0, *self.cumulative])],
            explicit_bounds=self.bounds,
            min=None,  # type: ignore[arg-type]  # Optional in OTLP, and not kept: over a whole life it says nothing.
            max=None,  # type: ignore[arg-type]
            exemplars=self.exemplars,
        )


def _histogram_series(definition: metrics.Definition, samples: Iterable[Sample]) -> Iterator[_HistogramSeries]:
    found: dict[tuple[str, ...], _HistogramSeries] = {}
    for sample in samples:
        attributes = _attributes(definition, sample.labels)
        key = tuple(attributes.values())
        series = found.setdefault(key, _HistogramSeries(attributes, definition.bounds))
        if sample.name.endswith("_bucket"):
            series.cumulative.append(int(sample.value))
            if sample.exemplar is not None:
                series.exemplars.append(_exemplar(sample.exemplar))
        elif sample.name.endswith("_sum"):
            series.total = sample.value
    return iter(found.values())


def _exemplar(exemplar: PrometheusExemplar) -> Exemplar:
    return Exemplar(
        filtered_attributes={},
        value=exemplar.value,
        time_unix_nano=int(float(exemplar.timestamp or 0) * 1_000_000_000),
        span_id=int(exemplar.labels["span_id"], 16),
        trace_id=int(exemplar.labels["trace_id"], 16),
    )


def _attributes(definition: metrics.Definition, labels: Mapping[str, str]) -> dict[str, str]:
    return {name: labels[metrics.prometheus_name(name)] for name in definition.labels}


def _epoch_ns(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1) * 1_000
