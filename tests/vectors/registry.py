"""Which function computes which kind of vector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.vectors.aggregations import RUNNERS as AGGREGATIONS
from tests.vectors.price_models import RUNNERS as PRICE_MODELS
from tests.vectors.proration import RUNNERS as PRORATION

Vector = Mapping[str, Any]
Runner = Callable[[Vector], dict[str, Any]]
"""From a vector to its result; raises `Unsupported`. A module per group has a table of them by kind."""

RUNNERS: dict[tuple[str, str], Runner] = {
    (group, kind): runner
    for group, runners in {"aggregations": AGGREGATIONS, "price_models": PRICE_MODELS, "proration": PRORATION}.items()
    for kind, runner in runners.items()
}
