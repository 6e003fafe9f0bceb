"""Instruments, what Prometheus reads of them and what OTLP carries."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeVar

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from prometheus_client.openmetrics.exposition import generate_latest

from libs.telemetry.metrics import Meter, MetricRegistry
from libs.telemetry.otlp_metrics import OtlpReading

START, NOW = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
START_NS, NOW_NS = 1_767_225_600_000_000_000, 1_767_225_660_000_000_000
SAMPLED = trace.TraceFlags(trace.TraceFlags.SAMPLED)
DataT = TypeVar("DataT", Sum, Gauge, Histogram)


@pytest.fixture
def registry() -> MetricRegistry:
    return MetricRegistry()


@pytest.fixture
def meter(registry: MetricRegistry) -> Meter:
    return Meter("steelyard.test", registry)


def exposition(registry: MetricRegistry) -> list[str]:
    text: str = generate_latest(registry.prometheus).decode()  # type: ignore[no-untyped-call]
    return [line for line in text.splitlines() if "_created" not in line]


def read(registry: MetricRegistry) -> Metric:
    times = iter([START, NOW])
    reading = OtlpReading(registry, Resource({"service.name": "test"}), lambda: next(times))()
    ((scope,),) = [resource.scope_metrics for resource in reading.resource_metrics]
    assert scope.scope.name == "steelyard.test"
    (metric,) = scope.metrics
    return metric


def data(metric: Metric, kind: type[DataT]) -> DataT:
    assert isinstance(metric.data, kind)
    return metric.data


class TestCounter:
    def test_is_read_by_both_sides(self, meter: Meter, registry: MetricRegistry) -> None:
        events = meter.counter(
            "steelyard.events.accepted", unit="{event}", description="Accepted.", labels=["outcome.kind", "role"]
        )
        events.add(2, "recorded", "api")
        events.add(3, "recorded", "api")
        events.add(1, "late", "api")

        assert 'steelyard_events_accepted_total{outcome_kind="recorded",role="api"} 5.0' in exposition(registry)
        metric = read(registry)
        assert (metric.name, metric.unit) == ("steelyard.events.accepted", "{event}")
        points = data(metric, Sum)
        assert points.is_monotonic
        assert points.aggregation_temporality is AggregationTemporality.CUMULATIVE
        assert points.data_points == [
            NumberDataPoint({"outcome.kind": "recorded", "role": "api"}, START_NS, NOW_NS, 5.0),
            NumberDataPoint({"outcome.kind": "late", "role": "api"}, START_NS, NOW_NS, 1.0),
        ]

    def test_without_labels(self, meter: Meter, registry: MetricRegistry) -> None:
        meter.counter("steelyard.starts", unit="{start}", description="Starts.").add(1)

        assert "steelyard_starts_total 1.0" in exposition(registry)
        assert data(read(registry), Sum).data_points[0].value == 1

    @pytest.mark.parametrize("labels", [(), ("a", "b")])
    def test_refuses_other_labels(self, labels: tuple[str, ...], meter: Meter) -> None:
        counter = meter.counter("steelyard.x", unit="{x}", description="X.", labels=["outcome"])

        with pytest.raises(ValueError, match="label"):
            counter.add(1, *labels)

    def test_refuses_to_shrink(self, meter: Meter) -> None:
        with pytest.raises(ValueError, match="non-negative"):
            meter.counter("steelyard.x", unit="{x}", description="X.").add(-1)


class TestGauge:
    def test_the_latest_value_counts(self, meter: Meter, registry: MetricRegistry) -> None:
        lag = meter.gauge("steelyard.rating.lag", unit="s", description="Lag.", labels=["stream"])
        lag.set(9.5, "USAGE_WINDOW")
        lag.set(0.5, "USAGE_WINDOW")

        assert 'steelyard_rating_lag_seconds{stream="USAGE_WINDOW"} 0.5' in exposition(registry)
        (point,) = data(read(registry), Gauge).data_points
        assert (point.attributes, point.value) == ({"stream": "USAGE_WINDOW"}, 0.5)


class TestHistogram:
    def test_is_read_by_both_sides(self, meter: Meter, registry: MetricRegistry) -> None:
        sizes = meter.histogram("steelyard.batch.size", unit="By", description="Size.", bounds=[10, 100], labels=["s"])
        for size in (1, 10, 11, 5_000):
            sizes.record(size, "a")
        sizes.record(50, "b")

        lines = exposition(registry)
        assert 'steelyard_batch_size_bytes_bucket{le="100.0",s="a"} 3.0' in lines
        assert 'steelyard_batch_size_bytes_count{s="a"} 4.0' in lines
        points = data(read(registry), Histogram).data_points
        assert [self.content(point) for point in points] == [
            ({"s": "a"}, 4, 5_022, [2, 1, 1], (10, 100)),
            ({"s": "b"}, 1, 50, [0, 1, 0], (10, 100)),
        ]

    def test_exemplars_lead_to_the_trace(self, meter: Meter, registry: MetricRegistry) -> None:
        duration = meter.histogram("steelyard.duration", unit="s", description="Duration.")
        span = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=SAMPLED))
        with trace.use_span(span):
            duration.record(0.03)
        with trace.use_span(trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False))):
            duration.record(20)  # Not sampled: nobody could look the trace up.

        (line,) = [line for line in exposition(registry) if "#" in line and "_bucket" in line]
        assert line.startswith('steelyard_duration_seconds_bucket{le="0.05"} 1.0 # ')
        assert f'trace_id="{"abc".zfill(32)}"' in line
        (point,) = data(read(registry), Histogram).data_points
        ((trace_id, span_id, value),) = [(e.trace_id, e.span_id, e.value) for e in point.exemplars]
        assert (trace_id, span_id, value) == (0xABC, 0xDEF, 0.03)

    @staticmethod
    def content(point: HistogramDataPoint) -> tuple[object, ...]:
        return (point.attributes, point.count, point.sum, point.bucket_counts, point.explicit_bounds)


class TestMeter:
    def test_the_same_definition_gives_the_same_instrument(self, registry: MetricRegistry) -> None:
        def made() -> object:
            return Meter("a", registry).counter("steelyard.x", unit="{x}", description="X.", labels=["y"])

        assert made() is made()

    def test_a_name_has_one_meaning(self, meter: Meter) -> None:
        meter.counter("steelyard.x", unit="{x}", description="X.")

        with pytest.raises(ValueError, match="defined twice"):
            meter.counter("steelyard.x", unit="s", description="X.")
        with pytest.raises(ValueError, match="defined twice"):
            meter.gauge("steelyard.x", unit="{x}", description="X.")
