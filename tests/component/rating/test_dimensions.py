"""Prices that depend on the dimensions of usage."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from libs.errors import InvalidInput
from libs.periods import Period
from services.rating.domain.billing_period import PeriodKey
from services.rating.domain.prices import Matrix, MatrixRow, PerUnit
from services.rating.domain.rate_card import Price, RateCard
from services.rating.domain.usage import WindowRow
from tests.component.rating.support import (
    APRIL,
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

MATRIX = Matrix(
    (
        MatrixRow((("region", "eu"),), Decimal(2)),
        MatrixRow((("region", "eu"), ("size", "l")), Decimal(5)),
        MatrixRow((("region", "us"),), Decimal(3)),
    ),
    Decimal(1),
)
PRICE = Price("tokens", MATRIX, meter_id=TOKENS)
CARD = rate_card(PRICE, Price("requests", PerUnit(Decimal(1)), meter_id=REQUESTS))
MARCH_1 = PeriodKey(TENANT, "sub-1", MARCH.start)
EU, EU_LARGE, US, NONE = '{"region":"eu"}', '{"region":"eu","size":"l"}', '{"region":"us"}', "{}"


async def parts(rating: Rating, **where: object) -> dict[str, Decimal]:
    """Quantities by the rows that priced them."""
    charge = (await rating.charges(**where))["tokens"]  # type: ignore[arg-type]
    assert charge.amount == sum(part.amount for part in charge.parts)
    assert charge.quantity == sum(part.quantity for part in charge.parts)
    return {part.label: part.quantity for part in charge.parts}


def usage() -> list[WindowRow]:
    return [
        window(10, dimensions=EU),
        window(1, dimensions=EU_LARGE),
        window(20, dimensions=US, at=MARCH.start + HOUR),
        window(7, dimensions=NONE, at=MARCH.start + HOUR),
        window(100, meter=REQUESTS, dimensions=EU),
    ]


USED = {"region=eu": 10, "region=eu, size=l": 1, "region=us": 20, "other": 7}


class TestCharges:
    async def test_each_combination_has_its_price_and_moves_with_its_windows(self, rating: Rating) -> None:
        await rating.start_march(CARD)
        assert (await rating.charges())["tokens"].amount == 0
        await rating.receive(*usage())
        await rating.rate_all()
        assert await parts(rating) == USED
        assert (await rating.charges())["tokens"].amount == 10 * 2 + 5 + 20 * 3 + 7

        await rating.receive(window(4, dimensions=EU), window(0, dimensions=US, at=MARCH.start + HOUR))
        await rating.rate_all()
        assert await parts(rating) == {**USED, "region=eu": 4, "region=us": 0}
        assert await rating.differences() == []

    async def test_a_card_that_comes_after_the_usage_finds_it(self, rating: Rating) -> None:
        await rating.start_march()
        await rating.receive(*usage())
        await rating.rate_all()
        await rating.add_card(replace(CARD, effective_at=MARCH.start))
        await rating.rate_all()
        assert await parts(rating) == USED
        await rating.receive(window(3, dimensions=US, at=MARCH.start + 2 * HOUR))
        await rating.rate_all()
        assert await parts(rating) == {**USED, "region=us": 23}
        assert await rating.differences() == []

    async def test_a_period_that_comes_after_its_usage_and_is_cut_short(self, rating: Rating) -> None:
        await rating.add_card(CARD)
        await rating.receive(*usage(), window(50, dimensions=EU, at=MARCH.start + timedelta(days=20)))
        await rating.accept([billing_period()])
        await rating.rate_all()
        assert await parts(rating) == {**USED, "region=eu": 60}
        await rating.accept([billing_period(period=Period(MARCH.start, MARCH.start + timedelta(days=7)), version=2)])
        await rating.rate_all()
        assert await parts(rating) == USED
        assert await rating.differences() == []

    async def test_periods_of_cards_without_a_matrix_keep_no_dimensions(self, rating: Rating) -> None:
        await rating.start_march(CARD, rate_card(card_id="plain"))
        await rating.accept([billing_period("sub-2", card="plain", customer="cust-2")])
        await rating.receive(*usage(), window(5, dimensions=EU, customer="cust-2"))
        await rating.accept([billing_period("sub-1", period=APRIL)])
        rows = await rating.sql("SELECT DISTINCT subscription_id, meter_id FROM period_dimensions")
        assert rows == [("sub-1", TOKENS)]

    async def test_random_windows_at_once_give_what_adding_up_gives(self, rating: Rating) -> None:
        await rating.start_march(CARD)
        chance, expected = random.Random(7), {}
        batches = []
        for number in range(60):
            dimensions = chance.choice([EU, EU_LARGE, US, NONE])
            at = MARCH.start + chance.randrange(6) * HOUR
            row = window(chance.randrange(100), dimensions=dimensions, at=at)
            expected[at, dimensions] = Decimal(row.value)
            batches.append((number % 4, row))
        await asyncio.gather(
            *(rating.receive(*(row for slot, row in batches if slot == number)) for number in range(4))
        )
        await rating.rate_all()
        by_row = {label: Decimal(0) for label in USED}
        for (_, dimensions), value in expected.items():
            by_row[{EU: "region=eu", EU_LARGE: "region=eu, size=l", US: "region=us", NONE: "other"}[dimensions]] += (
                value
            )
        assert {label: quantity for label, quantity in by_row.items() if quantity} == {
            label: quantity for label, quantity in (await parts(rating)).items() if quantity
        }
        assert await rating.differences() == []


class TestDifferences:
    @pytest.fixture
    async def differing(self, rating: Rating) -> Rating:
        await rating.start_march(CARD)
        await rating.receive(*usage())
        await rating.rate_all()
        await rating.sql("UPDATE period_dimensions SET value = value + 1 WHERE dimensions_key = ''")
        return rating

    async def test_are_not_priced(self, differing: Rating) -> None:
        await differing.receive(window(1, meter=REQUESTS))
        await differing.rate_all()
        assert differing.rated[-1].problems[MARCH_1].reason == "DIMENSIONS_DIFFER"
        assert await parts(differing) == USED
        assert await differing.differences() == [
            "quantities by dimensions = period roll-ups",
            "charge quantities = period roll-ups",
            "rated billing periods = billing periods",
        ]

    async def test_are_repaired_before_an_invoice(self, differing: Rating) -> None:
        [confirmed] = await differing.confirm_charges(TENANT, [("sub-1", MARCH.start)])
        assert confirmed.reason == ""
        assert await differing.differences() == []


@pytest.mark.parametrize(
    ("model", "not_additive", "expected"),
    [
        (MATRIX, {TOKENS}, [("prices[0].meter_id", "METER_NOT_ADDITIVE")]),
        (
            Matrix((MatrixRow((("color", "red"), ("region", "eu")), Decimal(1)),), Decimal(0)),
            set(),
            [("prices[0].matrix.rows[0].match", "UNKNOWN_DIMENSION")],
        ),
        (Matrix((MatrixRow((), Decimal(1)),), Decimal(0)), set(), [("prices[0].matrix.rows[0].match", "REQUIRED")]),
        (
            Matrix((MATRIX.rows[0], MATRIX.rows[0]), Decimal(0)),
            set(),
            [("prices[0].matrix.rows[1].match", "NOT_UNIQUE")],
        ),
    ],
)
async def test_what_cannot_be_priced_so_is_refused(
    rating: Rating, model: Matrix, not_additive: set[str], expected: list[tuple[str, str]]
) -> None:
    rating.ingest.not_additive |= not_additive
    with pytest.raises(InvalidInput) as caught:
        await rating.add_card(RateCard("card", 0, "USD", None, (Price("p", model, meter_id=TOKENS),)))
    assert [(found.field, found.reason) for found in caught.value.violations] == expected
