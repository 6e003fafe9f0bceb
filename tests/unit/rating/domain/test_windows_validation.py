"""What is refused of prices of windows and of times of day."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from services.rating.domain.meter_use import meter_violations
from services.rating.domain.price_terms import (
    Commitment,
    CommitmentKind,
    ConversionOperation,
    PriceTerms,
    UnitConversion,
)
from services.rating.domain.prices import (
    Flat,
    LinesBefore,
    Matrix,
    Percentage,
    PerUnit,
    TimeBand,
    TimeOfDay,
    WindowPricing,
    WindowSize,
)
from services.rating.domain.proration import Proration
from services.rating.domain.rate_card import Price, RateCard
from services.rating.domain.usage import MeterFacts
from services.rating.domain.validation import check_price
from services.rating.wire.card_reading import Reading
from services.rating.wire.rate_cards import price_from_pb
from steelyard.rating.v1 import rate_card_pb2 as pb

HOURLY = WindowPricing(WindowSize.HOUR)
BAND = TimeBand("night", 22 * 60, 6 * 60, Decimal(1))
MODEL = TimeOfDay((BAND,), Decimal(2))
PRICE = Price("p", PerUnit(Decimal(1)), "m", per_window=HOURLY)
BY_TIME = Price("p", MODEL, "m")
MINIMUM = PriceTerms(minimum_amount=Decimal(5))


def found(price: Price) -> list[tuple[str, str]]:
    return [(violation.field, violation.reason) for violation in check_price(price, "at")]


def test_what_can_be_priced_is_not_refused() -> None:
    commitment = Commitment(CommitmentKind.QUANTITY, Decimal(5))
    assert found(replace(PRICE, included_quantity=Decimal(5), terms=PriceTerms(commitment=commitment))) == []
    assert found(replace(PRICE, model=Percentage(Decimal(5)))) == []
    assert found(replace(BY_TIME, terms=MINIMUM, proration=Proration.BY_DAY)) == []


@pytest.mark.parametrize(
    ("price", "field", "reason"),
    [
        (Price("p", Flat(Decimal(1)), per_window=HOURLY), "at.per_window", "NOT_ALLOWED"),
        (Price("p", LinesBefore(), terms=MINIMUM, per_window=HOURLY), "at.per_window", "NOT_ALLOWED"),
        (replace(PRICE, model=Matrix((), Decimal(1))), "at.per_window", "NOT_ALLOWED"),
        (replace(PRICE, model=MODEL), "at.per_window", "NOT_ALLOWED"),
        (replace(PRICE, model=Percentage(Decimal(1), Decimal(1))), "at.per_window", "NOT_ALLOWED"),
        (replace(PRICE, terms=MINIMUM, proration=Proration.BY_DAY), "at.proration", "NOT_ALLOWED"),
        (replace(BY_TIME, included_quantity=Decimal(1)), "at.included_quantity", "NOT_ALLOWED"),
        (
            replace(BY_TIME, terms=PriceTerms(UnitConversion(ConversionOperation.DIVIDE, Decimal(2)))),
            "at.unit_conversion",
            "NOT_ALLOWED",
        ),
        (
            replace(BY_TIME, terms=PriceTerms(commitment=Commitment(CommitmentKind.QUANTITY, Decimal(2)))),
            "at.commitment.kind",
            "NOT_ALLOWED",
        ),
    ],
    ids=lambda value: value.model.__class__.__name__ if isinstance(value, Price) else value,
)
def test_what_nobody_could_price(price: Price, field: str, reason: str) -> None:
    assert found(price) == [(field, reason)]


@pytest.mark.parametrize(
    ("model", "field", "reason"),
    [
        (replace(MODEL, bands=()), "bands", "REQUIRED"),
        (replace(MODEL, bands=(BAND,) * 101), "bands", "TOO_MANY"),
        (replace(MODEL, time_zone="Mars/Olympus"), "time_zone", "UNKNOWN_TIME_ZONE"),
        (replace(MODEL, per=Decimal(3)), "per", "NOT_EXACT"),
        (replace(MODEL, default_unit_amount=Decimal(-1)), "default_unit_amount", "NEGATIVE"),
        (replace(MODEL, bands=(replace(BAND, label=""),)), "bands[0].label", "REQUIRED"),
        (replace(MODEL, bands=(BAND, replace(BAND, unit_amount=Decimal(-1)))), "bands[1].unit_amount", "NEGATIVE"),
        (replace(MODEL, bands=(replace(BAND, days=(1, 2, 1)),)), "bands[0].days", "NOT_UNIQUE"),
        (replace(MODEL, bands=(replace(BAND, start_minute=10),)), "bands[0].from_time", "INVALID_TIME"),
        (replace(MODEL, bands=(replace(BAND, end_minute=24 * 60),)), "bands[0].to_time", "INVALID_TIME"),
    ],
    ids=["no band", "too many", "zone", "per", "default", "label", "amount", "days", "from", "to"],
)
def test_times_of_day_that_are_none(model: TimeOfDay, field: str, reason: str) -> None:
    assert found(replace(BY_TIME, model=model)) == [(f"at.time_of_day.{field}", reason)]


@pytest.mark.parametrize("text", ["", "6:00", "24:00", "06:00:00", "06:60", "06:01", "-1:00", "aa:bb"])
def test_a_text_that_is_no_time_is_refused(text: str) -> None:
    band = pb.TimeBand(label="night", from_time="22:00", to_time=text, unit_amount="1")
    message = pb.Price(price_id="p", meter_id="m", time_of_day=pb.TimeOfDayPrice(bands=[band], default_unit_amount="1"))
    reading = Reading()
    price = price_from_pb(message, "at", reading)
    assert reading.violations == []
    assert found(price) == [("at.time_of_day.bands[0].to_time", "INVALID_TIME")]


@pytest.mark.parametrize("price", [PRICE, BY_TIME], ids=["per window", "time of day"])
def test_windows_of_the_meter_have_to_add_up(price: Price) -> None:
    card = RateCard("card", 0, "USD", None, (price,))
    assert meter_violations(card, {"m": MeterFacts(additive=True)}) == []
    (violation,) = meter_violations(card, {"m": MeterFacts(additive=False)})
    assert (violation.field, violation.reason) == ("prices[0].meter_id", "METER_NOT_ADDITIVE")
