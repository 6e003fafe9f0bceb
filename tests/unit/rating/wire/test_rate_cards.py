"""Rate cards on the wire: what is told back is what was sent."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.rating.domain.price_terms import Commitment, CommitmentKind, PriceTerms
from services.rating.domain.prices import Flat, PerUnit
from services.rating.domain.proration import Proration
from services.rating.domain.rate_card import CurrencyPrices, Price, RateCard
from services.rating.domain.stored_card import StoredRateCard
from services.rating.wire.card_reading import Reading
from services.rating.wire.rate_cards import rate_card_from_pb, rate_card_to_pb
from steelyard.rating.v1 import rate_card_pb2 as pb
from tests.unit.rating.domain.prices import any_prices, windowed_prices

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@given(any_prices | windowed_prices, st.sampled_from(Proration))
def test_a_card_survives_the_wire(price: Price, proration: Proration) -> None:
    price = replace(price, proration=proration)
    prices = (price, Price("fee", Flat(Decimal(5))))
    card = RateCard("card", 0, "EUR", NOW, prices, "Name", (CurrencyPrices("USD", prices[::-1]),))
    reading = Reading()

    message = rate_card_to_pb(StoredRateCard(card, NOW))
    read = rate_card_from_pb(pb.RateCard.FromString(message.SerializeToString()), reading)

    assert (read, reading.violations) == (card, [])


@pytest.mark.parametrize("periods", [1, 2, 60])
def test_a_commitment_over_several_periods_survives_the_wire(periods: int) -> None:
    commitment = Commitment(CommitmentKind.AMOUNT, Decimal(12_000), Decimal("1.5"), periods=periods)
    price = Price("p", PerUnit(Decimal(1)), "m", terms=PriceTerms(commitment=commitment))
    reading = Reading()

    message = rate_card_to_pb(StoredRateCard(RateCard("card", 0, "EUR", NOW, (price,)), NOW))
    read = rate_card_from_pb(pb.RateCard.FromString(message.SerializeToString()), reading)

    assert (read.prices, reading.violations) == ((price,), [])
    assert message.prices[0].commitment.periods == (0 if periods == 1 else periods)


@pytest.mark.parametrize(
    ("price", "field", "reason"),
    [
        (pb.Price(), "model", "REQUIRED"),
        (pb.Price(per_unit=pb.PerUnitPrice(unit_amount="x")), "per_unit.unit_amount", "NOT_A_NUMBER"),
        (pb.Price(per_unit=pb.PerUnitPrice(unit_amount="1", per="x")), "per_unit.per", "NOT_A_NUMBER"),
        (
            pb.Price(package=pb.PackagePrice(package_size="1", package_amount="1", rounding=9)),  # type: ignore[arg-type]
            "package.rounding",
            "UNKNOWN_VALUE",
        ),
        (
            pb.Price(dynamic=pb.DynamicPrice(), unit_conversion=pb.UnitConversion()),
            "unit_conversion.operation",
            "REQUIRED",
        ),
        (
            pb.Price(dynamic=pb.DynamicPrice(), unit_conversion=pb.UnitConversion(divide_by="")),
            "unit_conversion.divide_by",
            "EMPTY",
        ),
        (pb.Price(dynamic=pb.DynamicPrice(), commitment=pb.Commitment()), "commitment.promise", "REQUIRED"),
        (pb.Price(dynamic=pb.DynamicPrice(), per_window=pb.WindowPricing()), "per_window.size", "REQUIRED"),
        (
            pb.Price(dynamic=pb.DynamicPrice(), per_window=pb.WindowPricing(size=9)),  # type: ignore[arg-type]
            "per_window.size",
            "UNKNOWN_VALUE",
        ),
        (
            pb.Price(dynamic=pb.DynamicPrice(), per_window=pb.WindowPricing(size=pb.WINDOW_SIZE_DAY, empty=9)),  # type: ignore[arg-type]
            "per_window.empty",
            "UNKNOWN_VALUE",
        ),
        (
            pb.Price(
                time_of_day=pb.TimeOfDayPrice(
                    bands=[pb.TimeBand(unit_amount="1", days=[pb.WEEKDAY_UNSPECIFIED])], default_unit_amount="1"
                )
            ),
            "time_of_day.bands[0].days[0]",
            "UNKNOWN_VALUE",
        ),
        (pb.Price(dynamic=pb.DynamicPrice(), discounts=[pb.Discount()]), "discounts[0].discount", "REQUIRED"),
        (pb.Price(dynamic=pb.DynamicPrice(), price_unit=pb.PriceUnit(name="c")), "price_unit.amount", "EMPTY"),
        (pb.Price(dynamic=pb.DynamicPrice(), minimum_amount="1,5"), "minimum_amount", "NOT_A_NUMBER"),
        (pb.Price(dynamic=pb.DynamicPrice(), proration=9), "proration", "UNKNOWN_VALUE"),  # type: ignore[arg-type]
        (pb.Price(dynamic=pb.DynamicPrice(), zero_quantity=7), "zero_quantity", "UNKNOWN_VALUE"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_read_is_named(price: pb.Price, field: str, reason: str) -> None:
    reading = Reading()
    rate_card_from_pb(pb.RateCard(prices=[price]), reading)
    assert [(found.field, found.reason) for found in reading.violations] == [(f"prices[0].{field}", reason)]
