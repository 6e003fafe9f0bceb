"""A subscription with a commitment over several billing periods, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from libs.periods import Period, add_months
from services.rating.domain.price_terms import Commitment, CommitmentKind, PriceTerms
from services.rating.domain.prices import PerUnit
from services.rating.domain.rate_card import Price, RateCard
from services.rating.domain.usage import WindowRow
from tests.component.rating.support import TOKENS, Rating, billing_period, rate_card, window

D = Decimal


def month(number: int) -> Period:
    """The number-th month of 2026, from 1."""
    days = [add_months(datetime(2026, 1, 1, tzinfo=UTC).date(), number - 1 + more, 1) for more in (0, 1)]
    start, end = (datetime(day.year, day.month, day.day, tzinfo=UTC) for day in days)
    return Period(start, end)


def committed(value: str, periods: int = 12, factor: str = "1.5", price_id: str = "tokens") -> Price:
    commitment = Commitment(CommitmentKind.AMOUNT, D(value), D(factor), periods=periods)
    return Price(price_id, PerUnit(D("0.01")), TOKENS, terms=PriceTerms(commitment=commitment))


YEAR = rate_card(committed("12000"))


def used(quantity: int, number: int, *, hour: int = 0, customer: str = "cust-1") -> WindowRow:
    return window(quantity, at=month(number).start + timedelta(hours=hour), customer=customer)


async def start(rating: Rating, quantities: Sequence[int], card: RateCard = YEAR) -> None:
    """A subscription with usage in so many months from January on, rated."""
    await rating.add_card(card)
    await rating.accept([billing_period(period=month(number)) for number in range(1, len(quantities) + 1)])
    await rating.receive(*(used(quantity, number) for number, quantity in enumerate(quantities, 1)))
    await settle(rating)


async def settle(rating: Rating) -> None:
    """Rate until nothing is marked any more; a pass more than there are periods would be a loop."""
    for _ in range(15):
        if not await rating.rate_due():
            break
    assert await rating.sql("SELECT count(*) FROM rating_marks") == [(0,)]


async def amounts(rating: Rating, months: int, price: str = "tokens", subscription: str = "sub-1") -> list[Decimal]:
    found = [await rating.charges(subscription, at=month(number).start) for number in range(1, months + 1)]
    return [charges[price].amount.normalize() + 0 for charges in found]


def expected(quantities: Sequence[int], promised: int = 12_000, periods: int = 12) -> list[Decimal]:
    """The amounts of months with so many tokens at 0.01, above the promise 1.5 times as much, computed anew."""
    found, left = [], D(promised)
    for number, quantity in enumerate(quantities, 1):
        cost = D(quantity) / 100
        within = min(cost, left)
        left -= within
        missing = left if number == periods else D(0)
        found.append((within + (cost - within) * D("1.5") + missing).normalize() + 0)
    return found


async def amounts_at(rating: Rating, number: int) -> Decimal:
    return (await rating.charges(at=month(number).start))["tokens"].amount
