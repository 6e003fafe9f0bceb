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

RUNNERS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "allocation": allocation,
    "charge": charge,
    "charge_dimensions": charge_dimensions,
    "charge_sum": charge_sum,
    "commitment": commitment,
    "included_usage": included_usage,
    "minimum": minimum,
    "rounding": rounding,
    "unit_conversion": unit_conversion,
}
