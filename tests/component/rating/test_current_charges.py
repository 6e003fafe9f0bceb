"""What usage costs now, whether or not it has arrived."""

from __future__ import annotations

from decimal import Decimal

import pytest

from libs.errors import Unavailable
from services.rating.domain.exact_usage import ExactUsage
from services.rating.domain.period_charge import PeriodCharge
from services.rating.domain.prices import Flat, Matrix, PerUnit
from services.rating.domain.rate_card import Price
from services.rating.usecases.current_charges import GetCurrentCharges
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
from tests.component.rating.test_price_overrides import agreed, create

NOON = MARCH.start + 12 * HOUR


async def current(rating: Rating, customer: str = "cust-1") -> dict[str, dict[str, PeriodCharge]]:
    found = await GetCurrentCharges(rating.open_api, rating.ingest)(TENANT, customer, NOON)
    return {item.period.key.subscription_id: {charge.price_id: charge for charge in item.charges} for item in found}


def amounts(charges: dict[str, PeriodCharge]) -> dict[str, Decimal]:
    return {price_id: charge.amount for price_id, charge in charges.items()}


class TestCurrentCharges:
    async def test_are_what_is_charged_when_the_usage_has_arrived(self, rating: Rating) -> None:
        await rating.start_march()
        await rating.receive(window(500))
        await rating.rate_all()
        on_its_way = [window(700, at=NOON), window(30, meter=REQUESTS), window(9, customer="cust-2")]
        rating.ingest.put(*on_its_way)

        now, before = (await current(rating))["sub-1"], await rating.charges()
        await rating.receive(*on_its_way)
        await rating.rate_all()
        after = await rating.charges()

        assert amounts(before)["tokens"] == 4
        assert amounts(now) == amounts(after)
        assert [charge.parts for charge in now.values()] == [charge.parts for charge in after.values()]
        assert amounts(now)["tokens"] == Decimal("11.25")

    async def test_are_by_what_was_agreed(self, rating: Rating) -> None:
        await rating.start_march(rate_card(Price("tokens", PerUnit(Decimal(1)), meter_id=TOKENS)))
        await create(rating, agreed())
        rating.ingest.put(window(10))

        assert amounts((await current(rating))["sub-1"])["tokens"] == Decimal(5)

    async def test_are_of_every_subscription_that_quantities_are_enough_for(self, rating: Rating) -> None:
        by_region = Price("tokens", Matrix((), Decimal(1)), meter_id=TOKENS)
        await rating.start_march(rate_card(), rate_card(by_region, card_id="by-region"))
        await rating.accept(
            [billing_period("sub-2"), billing_period("sub-3", card="by-region"), billing_period("sub-4", card="none")]
        )
        rating.ingest.put(window(300))

        found = await current(rating)

        assert sorted(found) == ["sub-1", "sub-2"]
        assert amounts(found["sub-1"]) == amounts(found["sub-2"])
        assert rating.ingest.calls.count("digests") == 1

    async def test_have_quantities_that_do_not_add_up_as_they_were_told_last(self, rating: Rating) -> None:
        rating.ingest.not_additive = {TOKENS}
        rating.ingest.exact[(TENANT, "cust-1", TOKENS, MARCH.start)] = ExactUsage(Decimal(3), 3, 1)
        await rating.add_card(
            rate_card(
                Price("fee", Flat(Decimal(20))),
                Price("tokens", PerUnit(Decimal(1)), meter_id=TOKENS),
                Price("requests", PerUnit(Decimal(2)), meter_id=REQUESTS),
            )
        )
        await rating.accept([billing_period()])
        assert await current(rating) == {}, "nothing has been told yet"
        await rating.rate_all()
        rating.ingest.put(window(8), window(5, meter=REQUESTS))

        assert amounts((await current(rating))["sub-1"]) == {"fee": 20, "tokens": 3, "requests": 10}

    async def test_are_none_of_a_customer_without_periods(self, rating: Rating) -> None:
        await rating.start_march()

        assert await current(rating, "cust-2") == {}
        assert "digests" not in rating.ingest.calls

    async def test_are_not_told_without_ingest(self, rating: Rating) -> None:
        await rating.start_march()
        rating.ingest.down = True

        with pytest.raises(Unavailable):
            await current(rating)
