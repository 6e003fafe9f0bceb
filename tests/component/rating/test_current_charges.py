"""What usage costs now, whether or not it has arrived."""

from __future__ import annotations

from decimal import Decimal

import pytest

from libs.errors import Unavailable
from services.rating.domain.exact_usage import ExactUsage
from services.rating.domain.period_charge import PeriodCharge
from services.rating.domain.prices import (
    Flat,
    Matrix,
    MatrixRow,
    PerUnit,
    TimeBand,
    TimeOfDay,
    WindowPricing,
    WindowSize,
)
from services.rating.domain.rate_card import Price
from services.rating.usecases import current_charges
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

    async def test_are_of_every_subscription_that_can_be_priced(self, rating: Rating) -> None:
        await rating.start_march()
        await rating.accept([billing_period("sub-2"), billing_period("sub-3", card="none")])
        rating.ingest.put(window(300))

        found = await current(rating)

        assert sorted(found) == ["sub-1", "sub-2"]
        assert amounts(found["sub-1"]) == amounts(found["sub-2"])
        assert rating.ingest.calls.count("digests") == 1

    @pytest.mark.parametrize(
        "price",
        [
            Price("tokens", Matrix((MatrixRow((("region", "eu"),), Decimal(2)),), Decimal(1)), meter_id=TOKENS),
            Price("tokens", PerUnit(Decimal(1)), TOKENS, Decimal(3), per_window=WindowPricing(WindowSize.HOUR)),
            Price("tokens", PerUnit(Decimal(1)), TOKENS, Decimal(3), per_window=WindowPricing(WindowSize.DAY)),
            Price("tokens", TimeOfDay((TimeBand("night", 1320, 360, Decimal(5)),), Decimal(1)), meter_id=TOKENS),
        ],
        ids=["matrix", "hours", "days", "times of day"],
    )
    async def test_are_of_prices_that_need_more_than_quantities(self, rating: Rating, price: Price) -> None:
        """Clocks in Berlin change in the period, and days begin at 23:00 or 22:00 UTC."""
        await rating.add_card(rate_card(price))
        await rating.accept([billing_period(time_zone="Europe/Berlin")])
        on_its_way = [
            window(number, at=MARCH.start + (number * 7 % 744) * HOUR, dimensions=f'{{"region":"{region}"}}')
            for number in range(1, 120)
            for region in ("eu", "us")
        ]
        await rating.receive(*on_its_way[:50])
        await rating.rate_all()
        rating.ingest.put(*on_its_way)

        now = (await current(rating))["sub-1"]
        await rating.receive(*on_its_way)
        await rating.rate_all()
        after = await rating.charges()

        assert amounts(now) == amounts(after)
        assert now["tokens"].parts == after["tokens"].parts
        assert now["tokens"].quantity == 2 * sum(range(1, 120))

    async def test_are_not_told_of_too_many_windows(self, rating: Rating, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(current_charges, "MAX_WINDOWS", 2)
        await rating.start_march(rate_card(Price("tokens", Matrix((), Decimal(1)), meter_id=TOKENS)))
        rating.ingest.put(*(window(at=MARCH.start + number * HOUR) for number in range(2)))
        assert amounts((await current(rating))["sub-1"]) == {"tokens": 2}

        rating.ingest.put(window(at=MARCH.start + 2 * HOUR))

        assert await current(rating) == {}

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
