"""Prices that were agreed with one customer."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

import pytest

from libs.errors import InvalidInput, RequestIdReused
from services.rating.domain.billing_period import PeriodScope
from services.rating.domain.exact_usage import ExactUsage
from services.rating.domain.price_override import OverrideFilter, PriceOverride
from services.rating.domain.prices import Flat, Matrix, MatrixRow, PerUnit
from services.rating.domain.rate_card import Price
from services.rating.usecases.errors import (
    PriceOverrideEndsEarlier,
    PriceOverrideExists,
    PriceOverrideNotFound,
    RateCardNotFound,
)
from services.rating.usecases.price_overrides import OverrideRequest
from tests.component.rating.support import APRIL, MARCH, TENANT, TOKENS, Rating, billing_period, rate_card, window

CARD = rate_card(
    Price("fee", Flat(Decimal(20))),
    Price("tokens", PerUnit(Decimal(1)), meter_id=TOKENS),
)


def tokens_at(amount: str) -> Price:
    return Price("tokens", PerUnit(Decimal(amount)), meter_id=TOKENS)


def agreed(
    override_id: str = "o-1",
    *prices: Price,
    customer: str = "cust-1",
    subscription: str = "",
    effective_at: datetime | None = None,
    end_at: datetime | None = None,
) -> PriceOverride:
    target = "" if subscription else customer
    chosen = prices or (tokens_at("0.5"),)
    return PriceOverride(override_id, "standard", target, subscription, chosen, effective_at, end_at, "contract 7")


def request(override: object = "", *, tenant: str = TENANT) -> OverrideRequest:
    return OverrideRequest(tenant, str(uuid.uuid4()), repr(override).encode())


async def create(rating: Rating, override: PriceOverride) -> PriceOverride:
    stored = await rating.price_overrides.create(request(override), override, [])
    await rating.rate_all()
    return stored


async def amounts(rating: Rating, subscription: str = "sub-1", at: datetime = MARCH.start) -> dict[str, str]:
    charges = await rating.charges(subscription, at=at)
    return {price_id: f"{charge.amount.normalize():f}" for price_id, charge in charges.items()}


@pytest.fixture
async def used(rating: Rating) -> Rating:
    """100 tokens in March and 10 in April of two customers, one of whom has two subscriptions."""
    await rating.add_card(CARD)
    await rating.accept(
        [
            *(billing_period("sub-1", period=period) for period in (MARCH, APRIL)),
            billing_period("sub-2"),
            billing_period("sub-3", customer="cust-2"),
        ]
    )
    await rating.receive(window(100), window(10, at=APRIL.start), window(100, customer="cust-2"))
    await rating.rate_all()
    return rating


class TestRating:
    async def test_of_a_customer_prices_all_its_subscriptions_and_nobody_elses(self, used: Rating) -> None:
        await create(used, agreed())

        assert await amounts(used) == {"fee": "20", "tokens": "50"}
        assert (await amounts(used, "sub-2"))["tokens"] == "50"
        assert (await amounts(used, "sub-3"))["tokens"] == "100"
        charges = await used.charges()
        assert (charges["tokens"].override_id, charges["fee"].override_id) == ("o-1", "")

    async def test_of_a_subscription_beats_one_of_its_customer(self, used: Rating) -> None:
        await create(used, agreed("of-subscription", tokens_at("0.1"), subscription="sub-1"))
        await create(used, agreed("of-customer", tokens_at("0.5"), Price("fee", Flat(Decimal(5)))))

        assert await amounts(used) == {"fee": "5", "tokens": "10"}
        assert await amounts(used, "sub-2") == {"fee": "5", "tokens": "50"}

    async def test_of_two_alike_the_later_one_counts(self, used: Rating) -> None:
        await create(used, agreed("z-first", tokens_at("0.5")))
        await create(used, agreed("a-second", tokens_at("0.4")))

        assert (await amounts(used))["tokens"] == "40"

    async def test_counts_for_billing_periods_that_start_in_its_time(self, used: Rating) -> None:
        await create(used, agreed(effective_at=APRIL.start))
        assert [(await amounts(used, at=at))["tokens"] for at in (MARCH.start, APRIL.start)] == ["100", "5"]

        await create(used, agreed("o-2", tokens_at("0.2"), end_at=APRIL.start))
        assert [(await amounts(used, at=at))["tokens"] for at in (MARCH.start, APRIL.start)] == ["20", "5"]

    async def test_counts_for_a_billing_period_that_comes_later(self, used: Rating) -> None:
        await create(used, agreed(customer="cust-9"))
        await used.receive(window(4, customer="cust-9"))
        await used.accept([billing_period("sub-9", customer="cust-9")])
        await used.rate_all()

        assert (await amounts(used, "sub-9"))["tokens"] == "2"

    async def test_other_cards_are_not_concerned(self, used: Rating) -> None:
        await used.add_card(replace(CARD, rate_card_id="other"))
        await used.accept([billing_period("sub-4", card="other")])
        await create(used, agreed())

        assert (await amounts(used, "sub-4"))["tokens"] == "100"

    async def test_a_price_that_a_later_version_drops_is_not_brought_back(self, used: Rating) -> None:
        await create(used, agreed())
        await used.add_card(rate_card(Price("fee", Flat(Decimal(30))), effective_at=APRIL.start))
        await used.rate_all()

        assert await amounts(used, at=APRIL.start) == {"fee": "30", "tokens": "0"}

    async def test_may_price_by_dimensions(self, used: Rating) -> None:
        await used.receive(window(8, dimensions='{"region":"eu"}'))
        matrix = Matrix((MatrixRow((("region", "eu"),), Decimal(2)),), Decimal(1))
        await create(used, agreed("o-1", Price("tokens", matrix, meter_id=TOKENS)))

        assert (await amounts(used))["tokens"] == "116"

    async def test_may_price_a_meter_that_does_not_add_up(self, used: Rating) -> None:
        used.ingest.meters.add("seats")
        used.ingest.not_additive.add("seats")
        used.ingest.exact[TENANT, "cust-1", "seats", MARCH.start] = ExactUsage(Decimal(3), 3, 5)
        await create(used, agreed("o-1", Price("tokens", PerUnit(Decimal(10)), meter_id="seats")))

        assert (await amounts(used))["tokens"] == "30"
        assert await used.differences() == []

    async def test_is_part_of_both_sides_of_a_simulation(self, used: Rating) -> None:
        await create(used, agreed())
        scope = PeriodScope(TENANT, MARCH, customer_ids=["cust-1"])

        (same, _) = await used.simulate.page(scope, CARD, None, 10)
        (other, _) = await used.simulate.page(scope, replace(CARD, rate_card_id="other"), None, 10)

        assert (same.current, same.simulated, other.current, other.simulated) == (70_00, 70_00, 70_00, 120_00)


class TestEnd:
    async def test_prices_billing_periods_from_then_on_by_the_card(self, used: Rating) -> None:
        await create(used, agreed())

        ended = await used.price_overrides.end(request(), "o-1", APRIL.start)
        await used.rate_all()

        assert ended.end_at == APRIL.start
        assert [(await amounts(used, at=at))["tokens"] for at in (MARCH.start, APRIL.start)] == ["50", "10"]

    async def test_can_only_become_earlier(self, used: Rating) -> None:
        await create(used, agreed(end_at=APRIL.start))
        with pytest.raises(PriceOverrideEndsEarlier):
            await used.price_overrides.end(request(), "o-1", APRIL.end)

        await used.price_overrides.end(request(), "o-1", MARCH.start)
        await used.rate_all()
        assert (await amounts(used))["tokens"] == "100"

    async def test_of_an_unknown_one(self, used: Rating) -> None:
        with pytest.raises(PriceOverrideNotFound):
            await used.price_overrides.end(request(), "o-1", APRIL.start)

    async def test_is_carried_out_once(self, used: Rating) -> None:
        await create(used, agreed())
        asked = request("end in May")
        await used.price_overrides.end(asked, "o-1", APRIL.end)
        await used.price_overrides.end(request(), "o-1", APRIL.start)

        again = await used.price_overrides.end(asked, "o-1", APRIL.end)

        assert again.end_at == APRIL.start


class TestCreate:
    async def test_is_carried_out_once(self, used: Rating) -> None:
        override = agreed()
        asked = request(override)
        first = await used.price_overrides.create(asked, override, [])
        assert await used.price_overrides.create(asked, override, []) == first
        with pytest.raises(RequestIdReused):
            await used.price_overrides.create(replace(asked, fingerprint=b"other"), override, [])
        with pytest.raises(PriceOverrideExists):
            await used.price_overrides.create(request(), override, [])

    async def test_of_a_card_that_there_is(self, used: Rating) -> None:
        with pytest.raises(RateCardNotFound):
            await used.price_overrides.create(request(), replace(agreed(), rate_card_id="none"), [])

    @pytest.mark.parametrize(
        ("wrong", "field", "reason"),
        [
            (agreed("o-1", replace(tokens_at("1"), price_id="none")), "prices[0].price_id", "UNKNOWN_PRICE"),
            (agreed("o-1", tokens_at("-1")), "prices[0].per_unit.unit_amount", "NEGATIVE"),
            (agreed("o-1", replace(tokens_at("1"), meter_id="none")), "prices[0].meter_id", "METER_UNKNOWN"),
            (agreed("o-1", tokens_at("1"), tokens_at("2")), "prices[1].price_id", "NOT_UNIQUE"),
            (replace(agreed(), prices=()), "prices", "REQUIRED"),
            (agreed("a b"), "price_override.override_id", "INVALID_ID"),
            (agreed(customer=" "), "price_override.customer_id", "SURROUNDING_BLANK"),
            (agreed(subscription="a b"), "price_override.subscription_id", "INVALID_ID"),
            (agreed(effective_at=APRIL.start, end_at=APRIL.start), "price_override.end_time", "NOT_AFTER_START"),
        ],
        ids=["price", "amount", "meter", "twice", "none", "id", "customer", "subscription", "end"],
    )
    async def test_names_what_is_wrong(self, used: Rating, wrong: PriceOverride, field: str, reason: str) -> None:
        with pytest.raises(InvalidInput) as refused:
            await used.price_overrides.create(request(), wrong, [])

        assert [(found.field, found.reason) for found in refused.value.violations] == [(field, reason)]
        assert await used.price_overrides.list(TENANT, OverrideFilter(), "", 10) == []


class TestList:
    async def test_by_id_and_by_what_they_are_for(self, used: Rating) -> None:
        for override in (agreed("b"), agreed("a", subscription="sub-1"), agreed("c", customer="cust-2")):
            await create(used, override)

        async def ids(of: OverrideFilter, after: str = "", limit: int = 10) -> str:
            return "".join(item.override_id for item in await used.price_overrides.list(TENANT, of, after, limit))

        assert await ids(OverrideFilter()) == "abc"
        assert await ids(OverrideFilter(), "a", 1) == "b"
        assert await ids(OverrideFilter(customer_id="cust-2")) == "c"
        assert await ids(OverrideFilter(subscription_id="sub-1")) == "a"
        assert await ids(OverrideFilter(rate_card_id="other")) == ""
        assert await used.price_overrides.list("other", OverrideFilter(), "", 10) == []
