"""Pricing alone: a graduated price with five tiers, on one core, with nothing around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from time import process_time

from benchmarks.report import Figure, Report
from libs.clock import monotonic_s
from libs.money import exact
from services.rating.domain.prices import Graduated, Tier
from services.rating.domain.pricing import amount_of, rate

_QUANTITIES = 300_000
_ROUNDS = 3
_PRICE = Graduated(
    (
        Tier(Decimal(1_000), Decimal("0.01")),
        Tier(Decimal(10_000), Decimal("0.008")),
        Tier(Decimal(100_000), Decimal("0.005"), Decimal(1)),
        Tier(Decimal(1_000_000), Decimal("0.004")),
        Tier(None, Decimal("0.002"), Decimal(3)),
    )
)
_BARE = "the same quantities times one unit amount, in the same exact context"


def run(scale: float) -> Report:
    """Prices quantities that are spread over all tiers."""
    count = max(1_000, int(_QUANTITIES * scale))
    quantities = [Decimal(number * 7_919 % 2_000_000) + Decimal("0.5") for number in range(count)]
    began_s = monotonic_s()
    floor = _per_second(_multiplied, quantities)
    amounts = _per_second(lambda quantity: amount_of(_PRICE, quantity), quantities)
    breakdowns = _per_second(lambda quantity: rate(_PRICE, quantity), quantities)
    return Report(
        benchmark="pricing",
        figures=[
            Figure("amounts", amounts, "/s", floor, _BARE),
            Figure("with breakdown", breakdowns, "/s", floor, _BARE),
        ],
        settings={"clock": "CPU time of one process", "best of": _ROUNDS},
        workload={"quantities": count, "tiers": len(_PRICE.tiers), "with fractions": True},
        elapsed_s=monotonic_s() - began_s,
    )


def _multiplied(quantity: Decimal) -> Decimal:
    with exact():
        return quantity * Decimal("0.004")


def _per_second(price: Callable[[Decimal], object], quantities: Sequence[Decimal]) -> float:
    best_s = min(_cpu_s(price, quantities) for _ in range(_ROUNDS))
    return len(quantities) / best_s


def _cpu_s(price: Callable[[Decimal], object], quantities: Sequence[Decimal]) -> float:
    began_s = process_time()
    for quantity in quantities:
        price(quantity)
    return process_time() - began_s
