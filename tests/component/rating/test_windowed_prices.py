"""Prices of hours and days, and of times of day, over a real database."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from libs.errors import InvalidInput
from libs.periods import Period
from services.rating.domain.billing_period import PeriodKey, PeriodScope
from services.rating.domain.period_charge import PeriodCharge
from services.rating.domain.price_override import PriceOverride
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
from services.rating.domain.simulation import SimulatedLine
from services.rating.domain.usage_by_window import WindowCut, WindowQuantity, WindowScope, place_at, zone_spans
from services.rating.domain.windowed_price import PricedWindow
from services.rating.store.usage_by_window import PostgresUsageByWindowStore
from services.rating.usecases import charged_windows, usage_by_window
from services.rating.usecases.errors import NotRated
from services.rating.usecases.price_overrides import OverrideRequest
from tests.component.rating.support import (
    HOUR,
    MARCH,
    REQUESTS,
    TENANT,
    TOKENS,
    Rating,
    billing_period,
    rate_card,
    window,
)
from tests.component.rating.test_estimate import Asked, measured

MARCH_1 = PeriodKey(TENANT, "sub-1", MARCH.start)
QUARTER = timedelta(minutes=15)
Windows = list[WindowQuantity]
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


def shown(charge: PeriodCharge) -> list[tuple[object, ...]]:
    return [(part.kind, part.quantity, part.amount) for part in charge.parts]


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
        assert hourly.quantity == 29
        assert hourly.amount == 6 + 25
        assert shown(hourly) == [
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

    async def test_one_whose_events_were_all_taken_back_is_empty(self, rating: Rating) -> None:
        fee = replace(HOURLY, model=Graduated((Tier(None, Decimal(1), Decimal(7)),)))
        await rating.start_march(rate_card(fee))
        await rating.receive(window(9), window(3, at=MARCH.start + HOUR), window(0, at=MARCH.start + 2 * HOUR))
        await rating.rate_all()
        assert (await charge(rating, "hourly", MARCH)).amount == 4 + 7 + 7 + 7
        await rating.receive(window(0, at=MARCH.start + HOUR, events=0))
        await rating.rate_all()
        assert (await charge(rating, "hourly", MARCH)).amount == 4 + 7 + 7

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
        assert shown(found) == [
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

    async def test_its_own_zone_counts_before_that_of_the_customer(self, rating: Rating) -> None:
        assert isinstance(BY_TIME.model, TimeOfDay)
        tokyo = replace(BY_TIME, price_id="tokyo", model=replace(BY_TIME.model, time_zone="Asia/Tokyo"))
        await rating.add_card(rate_card(BY_TIME, tokyo))
        await rating.accept([billing_period()])
        await rating.receive(window(1, at=datetime(2026, 3, 2, 22, tzinfo=UTC)))
        await rating.rate_all()
        assert quantities(await charge(rating, "by-time", MARCH)) == {"night": 1}
        assert quantities(await charge(rating, "tokyo", MARCH)) == {"other": 1}


class TestReading:
    @pytest.mark.parametrize("zone", ["Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Santiago"])
    async def test_the_database_cuts_where_the_functions_do(self, rating: Rating, zone: str) -> None:
        period = Period(datetime(2026, 3, 1, 5, 15, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC))
        chance, usage = random.Random(zone), dict[datetime, int]()
        for _ in range(400):
            usage[period.start + chance.randrange((period.end - period.start) // QUARTER) * QUARTER] = chance.randrange(
                9
            )
        for span in zone_spans(period, zone):
            for quarter in range(12):
                usage[span.start + quarter * QUARTER], usage[span.end - (quarter + 1) * QUARTER] = 1, 2
        outside = [period.start - QUARTER, period.end]
        await rating.receive(
            *(window(quantity, at=at) for at, quantity in usage.items()),
            *(window(1000, at=at) for at in outside),
            *(window(1000, at=at, customer="other") for at in usage),
            *(window(1000, at=at, meter=REQUESTS) for at in usage),
        )
        cuts = list(WindowCut)
        scopes = [WindowScope(TENANT, "cust-1", TOKENS, cut, zone_spans(period, zone)) for cut in cuts]
        async with rating.open_work(TENANT) as work:
            found = await work.usage_by_window.of(scopes)
        for cut, quantities in zip(cuts, found, strict=True):
            expected: dict[int, Decimal] = defaultdict(Decimal)
            for at, quantity in usage.items():
                expected[place_at(at, period, cut, zone)] += quantity
            assert dict(quantities) == expected

    async def test_each_of_many_billing_periods_has_its_own_windows(self, rating: Rating) -> None:
        await rating.add_card(rate_card(HOURLY, DAILY, BY_TIME))
        customers = [f"cust-{number}" for number in range(6)]
        await rating.accept([billing_period(f"sub-{name}", customer=name) for name in customers])
        await rating.receive(*(window(10 + index, customer=name) for index, name in enumerate(customers)))
        await rating.rate_all()
        for index, name in enumerate(customers):
            charges = await rating.charges(f"sub-{name}")
            assert charges["hourly"].amount == charges["daily"].amount == (5 + index) * 2
            assert charges["by-time"].amount == 10 + index

    async def test_windows_of_few_billing_periods_are_in_memory_at_a_time(
        self, rating: Rating, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await rating.add_card(rate_card(HOURLY, DAILY))
        customers = [f"cust-{number}" for number in range(5)]
        await rating.accept([billing_period(f"sub-{name}", customer=name) for name in customers])
        await rating.receive(*(window(10, customer=name) for name in customers))
        read_at_once, read = list[int](), PostgresUsageByWindowStore.of

        async def counted(store: PostgresUsageByWindowStore, scopes: Sequence[WindowScope]) -> list[Windows]:
            read_at_once.append(len({scope.customer_id for scope in scopes}))
            return await read(store, scopes)

        monkeypatch.setattr(PostgresUsageByWindowStore, "of", counted)
        monkeypatch.setattr(usage_by_window, "MAX_WINDOWS", 2 * (744 + 31 + 2))
        await rating.rate_all()
        assert read_at_once == [2, 2, 1]
        card = rate_card(HOURLY, effective_at=MARCH.start)
        found = await rating.simulate.page(PeriodScope(TENANT, MARCH), card, None, 10)
        assert read_at_once[3:] == [2, 2, 1]
        assert {(item.current, item.simulated) for item in found} == {(20_00, 10_00)}

    async def test_usage_that_comes_between_two_readings_is_read_again(
        self, rating: Rating, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await rating.start_march(rate_card(HOURLY))
        await rating.receive(window(7))
        later, read = (
            [window(8, at=MARCH.start + HOUR), window(9, at=MARCH.start + 2 * HOUR)],
            PostgresUsageByWindowStore.of,
        )

        async def read_late(
            store: PostgresUsageByWindowStore, scopes: Sequence[WindowScope]
        ) -> list[list[WindowQuantity]]:
            if later:
                await rating.receive(later.pop())
            return await read(store, scopes)

        monkeypatch.setattr(PostgresUsageByWindowStore, "of", read_late)
        await rating.rate_all()
        assert later == []
        assert all(not rated.problems for rated in rating.rated)
        assert (await charge(rating, "hourly", MARCH)).amount == 4 + 6 + 8

    async def test_windows_that_do_not_add_up_are_not_priced(self, rating: Rating) -> None:
        await rating.start_march(rate_card(HOURLY))
        await rating.receive(window(7))
        await rating.rate_all()
        await rating.sql("UPDATE period_usage SET value = value + 1")
        await rating.receive(window(8, at=MARCH.start + HOUR))
        await rating.rate_all()
        assert rating.rated[-1].problems[MARCH_1].reason == "DIMENSIONS_DIFFER"
        [confirmed] = await rating.confirm_charges(TENANT, [("sub-1", MARCH.start)])
        assert confirmed.reason == ""
        assert (await charge(rating, "hourly", MARCH)).amount == 4 + 6

    async def test_a_zone_that_is_not_known_here_stops_only_its_own_billing_period(self, rating: Rating) -> None:
        await rating.add_card(rate_card(HOURLY))
        await rating.accept([billing_period(), billing_period("sub-2", customer="cust-2")])
        await rating.receive(window(7), window(7, customer="cust-2"))
        await rating.sql("UPDATE billing_periods SET time_zone = 'Mars/Olympus' WHERE subscription_id = 'sub-1'")
        await rating.rate_all()
        assert rating.rated[-1].problems[MARCH_1].reason == "PRICING_FAILED"
        assert (await rating.charges("sub-2"))["hourly"].amount == 4


class TestAroundRating:
    @pytest.fixture
    async def used(self, rating: Rating) -> Rating:
        await rating.start_march(rate_card(HOURLY, COMMITTED, BY_TIME))
        await rating.receive(window(8), window(20, at=MARCH.start + 7 * HOUR))
        await rating.rate_all()
        return rating

    async def test_a_charge_is_explained_window_by_window(self, used: Rating) -> None:
        explained = await used.get_charges.explain(TENANT, "sub-1", MARCH.start, "hourly")
        first, second = explained.windows.windows
        assert first == PricedWindow(MARCH.start, Decimal(8), Decimal(6))
        assert second == PricedWindow(MARCH.start + 7 * HOUR, Decimal(20), Decimal(25))
        assert not explained.windows.more
        assert explained.charge.amount == 31
        by_time = await used.get_charges.explain(TENANT, "sub-1", MARCH.start, "by-time")
        assert by_time.windows.windows == []

    async def test_windows_come_in_pages(self, used: Rating, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(charged_windows, "MAX_WINDOWS", 300)
        seen, after, more = list[PricedWindow](), None, True
        while more:
            explained = await used.get_charges.explain(TENANT, "sub-1", MARCH.start, "committed", windows_after=after)
            windows, more = explained.windows
            seen += windows
            after = windows[-1].start
        assert [window.start for window in seen] == [MARCH.start + number * HOUR for number in range(744)]
        assert sum(window.amount for window in seen) == explained.charge.amount == 742 * 3 + 16 + 40

    async def test_a_simulation_has_both_sides(self, used: Rating) -> None:
        card = rate_card(replace(HOURLY, included_quantity=Decimal(0)), DAILY, BY_TIME, effective_at=MARCH.start)
        (found,) = await used.simulate.page(PeriodScope(TENANT, MARCH), card, None, 10)
        assert found.problem is None
        # By hours without included units 16 and 10 x 2 + 10; in one day 28 - 5: 10 x 2 + 13.
        assert found.lines == [
            SimulatedLine("by-time", 48_00, 48_00),
            SimulatedLine("committed", 2282_00, None),
            SimulatedLine("daily", None, 33_00),
            SimulatedLine("hourly", 31_00, 46_00),
        ]

    async def test_an_override_may_have_such_a_price(self, used: Rating) -> None:
        override = PriceOverride(
            "o-1", "standard", "cust-1", "", (replace(HOURLY, model=PerUnit(Decimal(1))),), None, None
        )
        await used.price_overrides.create(OverrideRequest(TENANT, "r-1", b"r-1"), override, [])
        await used.rate_all()
        found = await charge(used, "hourly", MARCH)
        assert found.amount == 3 + 15
        assert found.override_id == "o-1"
        explained = await used.get_charges.explain(TENANT, "sub-1", MARCH.start, "hourly")
        assert [window.amount for window in explained.windows.windows] == [3, 15]

    async def test_an_event_is_estimated_in_its_window(self, used: Rating) -> None:
        asked = Asked(used)
        estimate = await asked.estimate(measured(4), at=MARCH.start + 7 * HOUR + QUARTER)
        [period] = estimate.periods
        # The second hour has used up its first tier; it is night no more.
        assert {line.before.price_id: line.marginal for line in period.lines} == {
            "hourly": 4,
            "committed": 8,
            "by-time": 8,
        }
        [in_an_empty_hour] = (await asked.estimate(measured(6), at=MARCH.start + 8 * HOUR)).periods
        marginal = {line.before.price_id: line.marginal for line in in_an_empty_hour.lines}
        assert marginal == {"hourly": 2, "committed": 9, "by-time": 12}

    async def test_times_of_day_are_forecast_and_windows_are_refused(self, rating: Rating) -> None:
        await rating.start_march(rate_card(BY_TIME))
        for day in range(2):
            await rating.receive(
                window(10, at=MARCH.start + day * 24 * HOUR), window(5, at=MARCH.start + (day * 24 + 12) * HOUR)
            )
        forecasted = await rating.forecast_charges(TENANT, "sub-1", MARCH.start, MARCH.start + 48 * HOUR)
        # March 1 is a Sunday: 5 at 2, on Monday 5 at 10. Over 31 days 310 at night and 77.5 each.
        assert (forecasted.lines[0].so_far, forecasted.lines[0].expected) == (80_00, 1240_00)
        await rating.add_card(rate_card(BY_TIME, HOURLY, effective_at=MARCH.start))
        with pytest.raises(NotRated) as refused:
            await rating.forecast_charges(TENANT, "sub-1", MARCH.start, MARCH.start + 48 * HOUR)
        assert refused.value.metadata["problem"] == "PRICE_PER_WINDOW"


@pytest.mark.parametrize("price", [HOURLY, BY_TIME], ids=["per window", "time of day"])
async def test_a_meter_whose_windows_do_not_add_up_is_refused(rating: Rating, price: Price) -> None:
    rating.ingest.not_additive.add(TOKENS)
    with pytest.raises(InvalidInput) as caught:
        await rating.add_card(rate_card(price))
    assert [(found.field, found.reason) for found in caught.value.violations] == [
        ("prices[0].meter_id", "METER_NOT_ADDITIVE")
    ]
