"""Prices of windows, and of times of day."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from libs.money import exact
from libs.periods import Period
from services.rating.domain.charges import rate_card_charges
from services.rating.domain.pipeline import rate_price
from services.rating.domain.price_terms import (
    AmountDiscount,
    Commitment,
    CommitmentKind,
    ConversionOperation,
    PercentDiscount,
    PriceTerms,
    UnitConversion,
)
from services.rating.domain.prices import (
    EmptyWindows,
    NegativeQuantity,
    Percentage,
    PerUnit,
    PricingOptions,
    TimeBand,
    TimeOfDay,
    WindowPricing,
    WindowSize,
)
from services.rating.domain.pricing.time_of_day import rate_time_of_day
from services.rating.domain.rate_card import Price, RateCard
from services.rating.domain.rated_price import NegativeQuantityRefused, PartKind, RatedPart, RatedPrice
from services.rating.domain.usage_by_window import WindowedUsage, WindowQuantity
from services.rating.domain.windowed_price import cut_of, priced_windows, rate_windowed
from tests.unit.rating.domain.prices import decimals, prices, signed_quantities, time_bands, window_prices

DAY = Period(datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC))
HOURS = [int((DAY.start + timedelta(hours=hour)).timestamp()) for hour in range(24)]
HOURLY, ALL_HOURS = WindowPricing(WindowSize.HOUR), WindowPricing(WindowSize.HOUR, EmptyWindows.PRICE)
DAY_MINUTES = 24 * 60

used = st.dictionaries(st.sampled_from(HOURS), signed_quantities, max_size=8)
hourly_prices = window_prices().map(
    lambda price: replace(price, per_window=WindowPricing(WindowSize.HOUR, price.per_window.empty))  # type: ignore[union-attr]
)


def usage_of(price: Price, quantities: dict[int, Decimal]) -> WindowedUsage:
    cut = cut_of(price, "UTC")
    assert cut is not None
    return WindowedUsage(DAY, "UTC", {cut: [WindowQuantity(*item) for item in quantities.items()]})


def rated(price: Price, quantities: dict[int, Decimal]) -> RatedPrice:
    cut = cut_of(price, "UTC")
    assert cut is not None
    return rate_windowed(price, cut, usage_of(price, quantities))


def shown(found: RatedPrice) -> list[tuple[object, ...]]:
    return [(part.kind, part.quantity, part.unit_amount, part.amount) for part in found.parts]


class TestPerWindow:
    @given(hourly_prices, used)
    def test_costs_what_each_window_costs_alone(self, price: Price, quantities: dict[int, Decimal]) -> None:
        all_of_them = price.per_window == ALL_HOURS
        alone = [
            rate_price(price, quantities.get(hour, Decimal(0))).amount
            for hour in HOURS
            if all_of_them or hour in quantities
        ]
        with exact():
            assert rated(price, quantities).amount == sum(alone, Decimal(0))

    @given(hourly_prices, used)
    def test_parts_add_up_and_tell_their_amounts(self, price: Price, quantities: dict[int, Decimal]) -> None:
        found = rated(price, quantities)
        with exact():
            assert sum((part.amount for part in found.parts), Decimal(0)) == found.amount
            for part in found.parts:
                if part.kind is not PartKind.TIER:  # Its cap may make it less.
                    assert part.amount == part.quantity * part.unit_amount / part.per + part.flat_amount
        kinds = [(part.kind, part.from_quantity) for part in found.parts if part.kind is not PartKind.DISCOUNT]
        assert len(set(kinds)) == len(kinds)

    @given(hourly_prices, used, st.randoms(use_true_random=False))
    def test_does_not_depend_on_the_order_of_windows(
        self, price: Price, quantities: dict[int, Decimal], chance: random.Random
    ) -> None:
        shuffled = list(quantities.items())
        chance.shuffle(shuffled)
        assert rated(price, dict(shuffled)) == rated(price, quantities)

    @given(prices(), signed_quantities)
    def test_of_one_window_is_the_price_itself(self, price: Price, quantity: Decimal) -> None:
        assume(not isinstance(price.model, Percentage) or not price.model.fixed_per_event)
        ordinary = rate_price(price, quantity)
        found = rated(replace(price, per_window=HOURLY), {HOURS[3]: quantity})
        assert found.amount == ordinary.amount
        assert found.parts[0] == RatedPart(PartKind.WINDOWS, Decimal(1), Decimal(0), Decimal(0), label="hours")
        assert found.parts[1:] == ordinary.parts

    def test_all_terms_act_on_each_window(self) -> None:
        terms = PriceTerms(
            UnitConversion(ConversionOperation.DIVIDE, Decimal(10)),
            Decimal(4),
            Decimal(20),
            Commitment(CommitmentKind.AMOUNT, Decimal(6), Decimal(2)),
            (PercentDiscount(Decimal(50)), AmountDiscount(Decimal(1))),
        )
        price = Price("p", PerUnit(Decimal(2)), "m", Decimal(1), terms=terms, per_window=HOURLY)

        found = rated(price, {HOURS[0]: Decimal(20), HOURS[1]: Decimal(200), HOURS[2]: Decimal(50)})

        # Units 2, 20, 5; priced 1, 19, 4 at 2: 2, 38, 8; limited 4, 20, 8;
        # committed 6, 34, 10; halved 3, 17, 5; less 1.
        assert shown(found) == [
            (PartKind.WINDOWS, 3, 0, 0),
            (PartKind.CONVERTED, 27, 0, 0),
            (PartKind.INCLUDED, 3, 0, 0),
            (PartKind.PER_UNIT, 24, 2, 48),
            (PartKind.MINIMUM, 1, 2, 2),
            (PartKind.MAXIMUM, 1, -18, -18),
            (PartKind.OVERAGE, 16, 1, 16),
            (PartKind.TRUE_UP, 1, 2, 2),
            (PartKind.DISCOUNT, 50, Decimal("-0.5"), -25),
            (PartKind.DISCOUNT, 1, -3, -3),
        ]
        assert found.amount == 2 + 16 + 4

    def test_nothing_used_costs_nothing_or_its_commitment_for_every_window(self) -> None:
        terms = PriceTerms(commitment=Commitment(CommitmentKind.QUANTITY, Decimal(3)))
        price = Price("p", PerUnit(Decimal(2)), "m", terms=terms, per_window=HOURLY)
        assert rated(price, {}) == RatedPrice(
            Decimal(0), (RatedPart(PartKind.WINDOWS, Decimal(0), Decimal(0), Decimal(0), label="hours"),)
        )
        assert rated(replace(price, per_window=ALL_HOURS), {}).amount == 24 * 6
        assert rated(replace(price, per_window=ALL_HOURS), {HOURS[0]: Decimal(0)}).amount == 24 * 6

    def test_a_window_below_zero_does_not_pay_for_the_others(self) -> None:
        price = Price("p", PerUnit(Decimal(2)), "m", per_window=HOURLY)
        assert rated(price, {HOURS[0]: Decimal(-5), HOURS[1]: Decimal(3)}).amount == 6
        strict = replace(price, options=PricingOptions(negative_quantity=NegativeQuantity.ERROR))
        with pytest.raises(NegativeQuantityRefused):
            rated(strict, {HOURS[0]: Decimal(-5), HOURS[1]: Decimal(30)})

    @given(hourly_prices, used)
    def test_the_windows_shown_are_those_that_were_priced(self, price: Price, quantities: dict[int, Decimal]) -> None:
        usage = usage_of(price, quantities)
        (cut,) = usage.by_cut
        first = priced_windows(price, cut, usage, None, 5)
        rest = priced_windows(price, cut, usage, first[-1].start, 24) if first else []
        with exact():
            total = rated(price, quantities)
            assert sum((window.amount for window in [*first, *rest]), Decimal(0)) == total.amount
        assert total.parts[0].quantity == len(first) + len(rest)
        assert len(first) <= 5


def test_usage_by_windows_that_is_not_given_is_not_priced_as_none() -> None:
    card = RateCard("card", 1, "USD", None, (Price("p", PerUnit(Decimal(2)), "m", per_window=HOURLY),))
    with pytest.raises(ValueError, match="needs usage by windows"):
        rate_card_charges(card, {"m": Decimal(5)})


NIGHT = TimeBand("night", 22 * 60, 6 * 60, Decimal(1), (4,))


def band_of(model: TimeOfDay, minute: int) -> str:
    (part,) = rate_time_of_day(model, [WindowQuantity(minute, Decimal(1))], PricingOptions()).parts
    return part.label


class TestTimeOfDay:
    @pytest.mark.parametrize(
        ("day", "hour", "minute", "expected"),
        [
            pytest.param(4, 21, 45, "other", id="before it"),
            pytest.param(4, 22, 0, "night", id="its first quarter"),
            pytest.param(5, 5, 45, "night", id="its last quarter, on the next day"),
            pytest.param(5, 6, 0, "other", id="after it"),
            pytest.param(5, 22, 0, "other", id="another evening"),
            pytest.param(4, 5, 45, "other", id="the morning before it"),
        ],
    )
    def test_a_night_belongs_to_the_day_on_which_it_began(
        self, day: int, hour: int, minute: int, expected: str
    ) -> None:
        assert band_of(TimeOfDay((NIGHT,), Decimal(9)), day * DAY_MINUTES + hour * 60 + minute) == expected

    def test_the_night_of_sunday_ends_on_monday(self) -> None:
        assert band_of(TimeOfDay((replace(NIGHT, days=(6,)),), Decimal(9)), 5 * 60) == "night"

    def test_the_first_band_counts_and_parts_have_the_order_of_bands(self) -> None:
        weekend = TimeBand("weekend", 0, 0, Decimal(2), (5, 6))
        model = TimeOfDay((replace(NIGHT, days=()), weekend), Decimal(10), Decimal(1000))
        saturday = 5 * DAY_MINUTES
        usage = [
            WindowQuantity(12 * 60, Decimal(7)),
            WindowQuantity(saturday + 12 * 60, Decimal(5)),
            WindowQuantity(saturday + 23 * 60, Decimal(3)),
            WindowQuantity(saturday + 23 * 60 + 15, Decimal(4)),
        ]
        found = rate_time_of_day(model, usage, PricingOptions())
        assert [part.label for part in found.parts] == ["night", "weekend", "other"]
        assert shown(found) == [
            (PartKind.BAND, 7, 1, Decimal("0.007")),
            (PartKind.BAND, 5, 2, Decimal("0.01")),
            (PartKind.BAND, 7, 10, Decimal("0.07")),
        ]
        assert found.amount == Decimal("0.087")

    @given(st.lists(time_bands, max_size=3).map(tuple), st.integers(0, 7 * 96 - 1).map(lambda quarter: quarter * 15))
    def test_bands_hold_what_counting_on_from_their_beginnings_holds(
        self, of: tuple[TimeBand, ...], minute: int
    ) -> None:
        model = TimeOfDay(tuple(replace(band, label=str(index)) for index, band in enumerate(of)), Decimal(0))
        expected = "other"
        for band in reversed(model.bands):
            length = (band.end_minute - band.start_minute) % DAY_MINUTES or DAY_MINUTES
            for day in band.days or range(7):
                begins = day * DAY_MINUTES + band.start_minute
                if (minute - begins) % (7 * DAY_MINUTES) < length:
                    expected = band.label
        assert band_of(model, minute) == expected

    @given(
        st.lists(time_bands, max_size=3, unique_by=lambda band: band.label).map(tuple), st.lists(decimals("0", "999"))
    )
    def test_splitting_usage_changes_nothing(self, of: tuple[TimeBand, ...], values: list[Decimal]) -> None:
        model = TimeOfDay(of, Decimal("0.5"))
        usage = [WindowQuantity(index * 15, value) for index, value in enumerate(values)]
        with exact():
            halves = [
                WindowQuantity(place, part) for place, value in usage for part in (value - value // 2, value // 2)
            ]
            found = rate_time_of_day(model, usage, PricingOptions())
            assert found == rate_time_of_day(model, halves, PricingOptions())
            assert found.amount == sum((part.amount for part in found.parts), Decimal(0))

    def test_below_zero(self) -> None:
        model, usage = TimeOfDay((NIGHT,), Decimal(9)), [WindowQuantity(0, Decimal(-1))]
        assert rate_time_of_day(model, usage, PricingOptions()).amount == 0
        with pytest.raises(NegativeQuantityRefused):
            rate_time_of_day(model, usage, PricingOptions(negative_quantity=NegativeQuantity.ERROR))

    def test_its_own_zone_or_that_of_the_billing_period_counts(self) -> None:
        model = TimeOfDay((NIGHT,), Decimal(9))
        for zone, expected in (("", "Asia/Tokyo"), ("Europe/Berlin", "Europe/Berlin")):
            cut = cut_of(Price("p", replace(model, time_zone=zone), "m"), "Asia/Tokyo")
            assert cut is not None
            assert cut.time_zone == expected
