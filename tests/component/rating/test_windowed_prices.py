"""Prices of hours and days, and of times of day, over a real database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from libs.periods import Period
from services.rating.domain.period_charge import PeriodCharge
from services.rating.domain.price_terms import Commitment, CommitmentKind, PriceTerms
from services.rating.domain.prices import (
    EmptyWindows,
    Graduated,
    PerUnit,
    Tier,
    TimeBand,
    TimeOfDay,
    WindowPricing,
    WindowSize,
)
from services.rating.domain.rate_card import Price
from services.rating.domain.rated_price import PartKind
from tests.component.rating.support import (
    HOUR,
    TOKENS,
    Rating,
    billing_period,
    rate_card,
    window,
)

QUARTER = timedelta(minutes=15)
HOURLY = Price(
    "hourly",
    Graduated((Tier(Decimal(10), Decimal(2)), Tier(None, Decimal(1)))),
    meter_id=TOKENS,
    included_quantity=Decimal(5),
    per_window=WindowPricing(WindowSize.HOUR),
)
DAILY = replace(HOURLY, price_id="daily", per_window=WindowPricing(WindowSize.DAY))
COMMITTED = Price(
    "committed",
    PerUnit(Decimal(2)),
    meter_id=TOKENS,
    terms=PriceTerms(commitment=Commitment(CommitmentKind.AMOUNT, Decimal(3))),
    per_window=WindowPricing(WindowSize.HOUR, EmptyWindows.PRICE),
)
NIGHT = TimeBand("night", 22 * 60, 6 * 60, Decimal(1))
WEEKEND = TimeBand("weekend", 0, 0, Decimal(2), (5, 6))
BY_TIME = Price("by-time", TimeOfDay((NIGHT, WEEKEND), Decimal(10)), meter_id=TOKENS)


def local(zone: str, day: int, hour: int, minute: int = 0, *, month: int = 3) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def march_in(zone: str) -> Period:
    return Period(local(zone, 1, 0), local(zone, 1, 0, month=4))


async def charge(rating: Rating, price_id: str, period: Period) -> PeriodCharge:
    found = (await rating.charges(at=period.start))[price_id]
    assert found.amount == sum(part.amount for part in found.parts)
    return found


def quantities(charge: PeriodCharge) -> dict[str, Decimal]:
    return {part.label: part.quantity for part in charge.parts if part.label}


class TestWindows:
    async def test_each_is_priced_alone_in_the_zone_of_the_customer_also_by_late_usage(self, rating: Rating) -> None:
        period = march_in("Asia/Kathmandu")  # 05:45 before UTC: local hours begin at a quarter past.
        await rating.add_card(rate_card(HOURLY, DAILY))
        await rating.accept([billing_period(period=period, time_zone="Asia/Kathmandu")])
        nine = local("Asia/Kathmandu", 2, 9)
        await rating.receive(
            window(4, at=nine),
            window(4, at=nine + 3 * QUARTER),
            window(20, at=nine + 4 * QUARTER),
            window(1, at=nine + HOUR * 24),
        )
        await rating.rate_all()

        hourly = await charge(rating, "hourly", period)
        # 8 - 5 at 2; 20 - 5: 10 at 2 and 5 at 1; 1 is free.
        assert (hourly.quantity, hourly.amount) == (29, 6 + 25)
        assert [(part.kind, part.quantity, part.amount) for part in hourly.parts] == [
            (PartKind.WINDOWS, 3, 0),
            (PartKind.INCLUDED, 11, 0),
            (PartKind.TIER, 13, 26),
            (PartKind.TIER, 5, 5),
        ]
        # 28 - 5: 10 at 2 and 13 at 1; 1 is free.
        assert (await charge(rating, "daily", period)).amount == 33

        # Late, in an hour that was priced: 11 - 5 at 2.
        await rating.receive(window(3, at=nine + QUARTER))
        await rating.rate_all()
        assert (await charge(rating, "hourly", period)).amount == 12 + 25
        assert (await charge(rating, "daily", period)).amount == 36
        assert await rating.differences() == []

    async def test_empty_ones_owe_their_commitment_and_an_hour_that_comes_twice_is_two(self, rating: Rating) -> None:
        zone = "Europe/Berlin"
        period = Period(local(zone, 1, 0, month=10), local(zone, 1, 0, month=11))
        await rating.add_card(rate_card(COMMITTED))
        await rating.accept([billing_period(period=period, time_zone=zone)])
        twice = datetime(2026, 10, 25, 0, tzinfo=UTC)
        assert twice.astimezone(ZoneInfo(zone)).hour == (twice + HOUR).astimezone(ZoneInfo(zone)).hour
        await rating.receive(window(1, at=twice), window(2, at=twice + HOUR), window(5, at=twice + 2 * HOUR))
        await rating.rate_all()

        found = await charge(rating, "committed", period)

        # 745 hours in October: one has 2 of 3, two have 4 and 10.
        assert found.amount == 743 * 3 + 4 + 10
        assert [(part.kind, part.quantity, part.amount) for part in found.parts] == [
            (PartKind.WINDOWS, 745, 0),
            (PartKind.PER_UNIT, 8, 16),
            (PartKind.OVERAGE, 8, 0),
            (PartKind.TRUE_UP, 1, 742 * 3 + 1),
        ]


class TestTimeOfDay:
    async def test_the_first_band_of_the_local_time_prices_usage(self, rating: Rating) -> None:
        period = march_in("Europe/Berlin")
        await rating.add_card(rate_card(BY_TIME))
        await rating.accept([billing_period(period=period, time_zone="Europe/Berlin")])
        at = {
            "night": [local("Europe/Berlin", 2, 22), local("Europe/Berlin", 29, 5, 45), local("Europe/Berlin", 3, 0)],
            "weekend": [local("Europe/Berlin", 29, 6), local("Europe/Berlin", 7, 21, 45)],
            "other": [local("Europe/Berlin", 2, 21, 45), local("Europe/Berlin", 30, 6)],
        }
        await rating.receive(*(window(1, at=instant) for instants in at.values() for instant in instants))
        await rating.rate_all()

        found = await charge(rating, "by-time", period)

        assert quantities(found) == {"night": 3, "weekend": 2, "other": 2}
        assert found.amount == 3 * 1 + 2 * 2 + 2 * 10
