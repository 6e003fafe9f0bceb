"""Vectors about how quantities become amounts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.vectors.price_models.charges import (
    allocation,
    charge,
    charge_dimensions,
    charge_sum,
    commitment,
    included_usage,
    minimum,
    rounding,
    unit_conversion,
)
from tests.vectors.price_models.parts import (
    charge_blocks,
    charge_capacity,
    charge_events,
    charge_flat,
    charge_progressive,
    charge_prorated_graduated,
    charge_split,
    commitment_cumulative,
    discount_allocation,
    usage_discount,
)
from tests.vectors.price_models.windows import charge_buckets, commitment_windows, included_usage_windows

RUNNERS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "allocation": allocation,
    "charge": charge,
    "charge_blocks": charge_blocks,
    "charge_buckets": charge_buckets,
    "charge_capacity": charge_capacity,
    "charge_dimensions": charge_dimensions,
    "charge_events": charge_events,
    "charge_flat": charge_flat,
    "charge_progressive": charge_progressive,
    "charge_prorated_graduated": charge_prorated_graduated,
    "charge_split": charge_split,
    "charge_sum": charge_sum,
    "commitment": commitment,
    "commitment_cumulative": commitment_cumulative,
    "commitment_windows": commitment_windows,
    "discount_allocation": discount_allocation,
    "included_usage": included_usage,
    "included_usage_windows": included_usage_windows,
    "minimum": minimum,
    "rounding": rounding,
    "unit_conversion": unit_conversion,
    "usage_discount": usage_discount,
}
