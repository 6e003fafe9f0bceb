"""What a billing period is expected to cost."""

from __future__ import annotations

from decimal import Decimal

import pytest

from services.rating.domain.exact_usage import ExactUsage
from services.rating.domain.forecast import ForecastMethod
from services.rating.domain.forecasted_charges import ForecastLine
from services.rating.domain.prices import Flat, Matrix, MatrixRow, Percentage, PerUnit
from services.rating.domain.rate_card import Price, RateCard
from services.rating.usecases.errors import BillingPeriodNotFound, NotRated
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

TWO_DAYS = MARCH.start + 48 * HOUR


async def lines(rating: Rating, card: RateCard | None = None) -> dict[str, ForecastLine]:
    """Of a period with 100 tokens on each of its first two days."""
    await rating.start_march(card or rate_card())
    await rating.receive(
        window(60, dimensions='{"region":"eu"}', events=3),
        window(40, dimensions='{"region":"us"}', at=MARCH.start + HOUR),
        window(100, at=MARCH.start + 24 * HOUR, dimensions='{"region":"eu"}', events=2),
    )
    forecasted = await rating.forecast_charges(TENANT, "sub-1", MARCH.start, TWO_DAYS)
    return {line.price.price_id: line for line in forecasted.lines}


async def test_quantities_are_estimated_and_priced_through_the_tiers(rating: Rating) -> None:
    found = await lines(rating)

    tokens = found["tokens"]
    assert tokens.quantity.method is ForecastMethod.DAILY_MEAN
    assert (tokens.quantity.so_far, tokens.quantity.expected) == (Decimal(200), Decimal(3100))
    assert (tokens.so_far, tokens.expected) == (
        1_00,
        10_00 + 1_00 + 5_00,
    )  # 100 x 0.01; 1,000 x 0.01, 1, 2,000 x 0.0025
    assert (found["fee"].so_far, found["fee"].expected, found["fee"].low) == (20_00, 20_00, 20_00)
    assert found["requests"].expected == 0
    assert list(found) == ["fee", "tokens", "requests"]


async def test_dimensions_and_numbers_of_events_grow_with_the_quantity(rating: Rating) -> None:
    matrix = Matrix((MatrixRow((("region", "us"),), Decimal(3)),), Decimal(1))
    found = await lines(
        rating,
        rate_card(
            Price("regions", matrix, meter_id=TOKENS),
            Price("events", Percentage(Decimal(0), Decimal("0.1")), meter_id=TOKENS),
        ),
    )

    assert (found["regions"].so_far, found["regions"].expected) == (280_00, 280_00 * 31 // 2)
    assert (found["events"].so_far, found["events"].expected) == (60, 9_30)  # 6 events; 93


async def test_what_does_not_add_up_stays_as_it_is(rating: Rating) -> None:
    rating.ingest.meters.add("seats")
    rating.ingest.not_additive.add("seats")
    rating.ingest.exact[TENANT, "cust-1", "seats", MARCH.start] = ExactUsage(Decimal(7), 3, 5)
    card = rate_card(Price("seats", PerUnit(Decimal(2)), meter_id="seats"))

    seats = (await lines(rating, card))["seats"]
    assert (seats.quantity.method, seats.expected) == (ForecastMethod.AS_NOW, 14_00)

    rating.ingest.mute = True
    with pytest.raises(NotRated) as refused:
        await rating.forecast_charges(TENANT, "sub-1", MARCH.start, TWO_DAYS)
    assert refused.value.metadata["problem"] == "USAGE_UNAVAILABLE"


async def test_without_a_card_or_a_period_there_is_none(rating: Rating) -> None:
    with pytest.raises(BillingPeriodNotFound):
        await rating.forecast_charges(TENANT, "sub-1", MARCH.start, TWO_DAYS)
    await rating.accept([billing_period()])
    with pytest.raises(NotRated) as refused:
        await rating.forecast_charges(TENANT, "sub-1", MARCH.start, TWO_DAYS)
    assert refused.value.metadata["problem"] == "RATE_CARD_UNKNOWN"


async def test_nothing_is_stored(rating: Rating) -> None:
    await lines(rating, rate_card(Price("fee", Flat(Decimal(1))), Price("r", PerUnit(Decimal(1)), meter_id=REQUESTS)))
    assert (await rating.charges())["r"].quantity == 0
