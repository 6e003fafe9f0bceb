"""Vectors about how events become quantities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.vectors.aggregations.periods import aggregate, prorated_sum, prorated_unique_count, weighted_sum, windows
from tests.vectors.aggregations.single_events import event_value, expression, metric_rounding

RUNNERS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "aggregate": aggregate,
    "event_value": event_value,
    "expression": expression,
    "metric_rounding": metric_rounding,
    "prorated_sum": prorated_sum,
    "prorated_unique_count": prorated_unique_count,
    "weighted_sum": weighted_sum,
    "windows": windows,
}
