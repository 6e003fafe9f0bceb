"""Charges as they were known at an earlier time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

import pytest

from libs.errors import Unavailable
from services.rating.domain.exact_usage import ExactUsage
from services.rating.domain.price_terms import Commitment, CommitmentKind, PriceTerms
from services.rating.domain.prices import Flat, Matrix, PerUnit
from services.rating.domain.rate_card import Price
from services.rating.usecases.errors import BillingPeriodNotFound, NotKnown, NotRated
from services.rating.usecases.known_charges import GetKnownCharges
from tests.component.rating.support import HOUR, MARCH, REQUESTS, TENANT, TOKENS, Rating, rate_card, window
from tests.component.rating.test_price_overrides import agreed, create

THEN = MARCH.start + 48 * HOUR
CARD = rate_card(
    Price("fee", Flat(Decimal(20))),
    Price("tokens", PerUnit(Decimal(1)), meter_id=TOKENS, included_quantity=Decimal(2)),
    Price("requests", PerUnit(Decimal("0.5")), meter_id=REQUESTS),
)

A_YEAR = PriceTerms(commitment=Commitment(CommitmentKind.AMOUNT, Decimal(1200), periods=12))


@pytest.fixture
async def used(rating: Rating) -> Rating:
    """March of sub-1 as it is now; at THEN there were three tokens and no request."""
    rating.now = THEN - HOUR
    await rating.start_march(CARD)
    await rating.receive(window(10), window(4, meter=REQUESTS))
    await rating.rate_all()
    rating.ingest.known_then[THEN] = {TOKENS: ExactUsage(Decimal(3), 3, 0)}
    return rating


async def _amounts(rating: Rating, known_at: datetime = THEN, subscription: str = "sub-1") -> Mapping[str, Decimal]:
    charges = await GetKnownCharges(rating.open_api, rating.ingest)(TENANT, subscription, MARCH.start, known_at)
    assert all((charge.version, charge.customer_id) == (0, "cust-1") for charge in charges)
    return {charge.price_id: charge.amount for charge in charges}


class TestKnownCharges:
    async def test_are_of_the_usage_that_was_known(self, used: Rating) -> None:
        assert await _amounts(used) == {"fee": 20, "tokens": 1, "requests": 0}
        assert {price: charge.amount for price, charge in (await used.charges()).items()} == {
            "fee": 20,
            "tokens": 8,
            "requests": 2,
        }

    async def test_are_by_the_cards_that_were_stored(self, used: Rating) -> None:
        used.now = THEN + HOUR
        dearer = Price("tokens", PerUnit(Decimal(7)), meter_id=TOKENS)
        await used.add_card(rate_card(dearer, effective_at=MARCH.start))
        used.ingest.known_then[used.now] = used.ingest.known_then[THEN]

        assert await _amounts(used) == {"fee": 20, "tokens": 1, "requests": 0}
        assert await _amounts(used, THEN + HOUR) == {"tokens": 21}

    async def test_are_by_what_was_agreed_then(self, used: Rating) -> None:
        used.now = THEN + HOUR
        await create(used, agreed())
        used.ingest.known_then[used.now] = used.ingest.known_then[THEN]

        assert (await _amounts(used))["tokens"] == 1
        assert (await _amounts(used, THEN + HOUR))["tokens"] == Decimal("1.5")

    async def test_change_nothing(self, used: Rating) -> None:
        before = await used.charges()

        await _amounts(used)

        assert await used.charges() == before
        assert await used.sql("SELECT count(*) FROM exact_usage") == [(0,)]

    async def test_need_a_card_that_was_there(self, used: Rating) -> None:
        with pytest.raises(NotRated, match="there is no rate card standard"):
            await _amounts(used, THEN - 2 * HOUR)

    async def test_of_no_period_there_are_none(self, used: Rating) -> None:
        with pytest.raises(BillingPeriodNotFound):
            await _amounts(used, subscription="sub-2")

    @pytest.mark.parametrize(
        ("price", "named"),
        [
            (Price("tokens", Matrix((), Decimal(1)), meter_id=TOKENS), "dimensions"),
            (Price("tokens", PerUnit(Decimal(1)), meter_id=TOKENS, terms=A_YEAR), "several billing periods"),
        ],
        ids=["by dimensions", "a commitment over periods"],
    )
    async def test_that_need_more_than_quantities_are_not_told(self, rating: Rating, price: Price, named: str) -> None:
        rating.now = THEN - HOUR
        await rating.start_march(rate_card(price))

        with pytest.raises(NotKnown, match=named):
            await _amounts(rating)

    async def test_need_ingest(self, used: Rating) -> None:
        used.ingest.down = True

        with pytest.raises(Unavailable):
            await _amounts(used)
