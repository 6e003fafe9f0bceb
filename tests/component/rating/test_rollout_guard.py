"""A new version that would change too much is not stored."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from libs.errors import RequestIdReused
from services.rating.domain.prices import PerUnit
from services.rating.domain.rate_card import Price, RateCard
from services.rating.domain.rollout_guard import RolloutGuard
from services.rating.usecases.errors import RolloutGuardExceeded
from tests.component.rating.support import APRIL, MARCH, TENANT, TOKENS, Rating, billing_period, rate_card, window

TEN_PER_CENT = RolloutGuard(MARCH, Decimal(10))
REQUEST_ID = "11111111-1111-1111-1111-111111111111"


def priced(amount: str) -> RateCard:
    return rate_card(Price("tokens", PerUnit(Decimal(amount)), meter_id=TOKENS), effective_at=APRIL.start)


@pytest.fixture
async def used(rating: Rating) -> Rating:
    """Two customers with 100 and 1,000 tokens in March, at 1.00 each."""
    await rating.add_card(replace(priced("1"), effective_at=None))
    await rating.accept([billing_period("a", customer="a"), billing_period("b", customer="b")])
    await rating.receive(window(100, customer="a"), window(1_000, customer="b"))
    return rating


async def newest(rating: Rating) -> int:
    return (await rating.get_rate_cards.get(TENANT, "standard", 0)).card.version


async def test_a_change_within_the_bound_is_stored(used: Rating) -> None:
    stored = await used.add_card(priced("1.1"), TEN_PER_CENT)

    assert (stored.card.version, stored.override_reason) == (2, "")


@pytest.mark.parametrize("amount", ["1.11", "0.89"])
async def test_a_greater_one_is_refused_with_the_customers_named(used: Rating, amount: str) -> None:
    with pytest.raises(RolloutGuardExceeded) as refused:
        await used.add_card(priced(amount), TEN_PER_CENT)

    assert refused.value.metadata == {
        "rateCardId": "standard",
        "customerCount": "2",
        "problemCount": "0",
        "customers": "b,a",
    }
    assert await newest(used) == 1


async def test_with_a_reason_it_is_stored_and_the_reason_is_kept(used: Rating) -> None:
    stored = await used.add_card(priced("9"), replace(TEN_PER_CENT, override_reason="agreed with both"))

    assert stored.override_reason == "agreed with both"
    assert (await used.get_rate_cards.get(TENANT, "standard", 2)).override_reason == "agreed with both"


async def test_what_cannot_be_compared_is_no_permission(used: Rating) -> None:
    used.ingest.meters.add("seats")
    used.ingest.not_additive.add("seats")
    used.ingest.mute = True
    seats = rate_card(Price("tokens", PerUnit(Decimal(1)), meter_id="seats"), effective_at=APRIL.start)

    with pytest.raises(RolloutGuardExceeded, match="2 billing periods cannot be compared"):
        await used.add_card(seats, TEN_PER_CENT)


async def test_only_billing_periods_of_the_card_count(used: Rating) -> None:
    stored = await used.add_card(replace(priced("9"), rate_card_id="other"), TEN_PER_CENT)

    assert stored.card.version == 1


async def test_a_repeated_request_is_answered_and_not_judged_again(used: Rating) -> None:
    first = await used.add_card(priced("1.1"), TEN_PER_CENT, request_id=REQUEST_ID)
    stricter = replace(TEN_PER_CENT, max_change_percent=Decimal(0))

    again = await used.add_card(priced("1.1"), stricter, request_id=REQUEST_ID)

    assert again == first
    with pytest.raises(RequestIdReused):
        await used.add_card(priced("1.2"), TEN_PER_CENT, request_id=REQUEST_ID)


async def test_a_plan_is_judged_too(used: Rating) -> None:
    with pytest.raises(RolloutGuardExceeded):
        await used.create_rate_card.plan(TENANT, priced("2"), [], TEN_PER_CENT)
    assert (await used.create_rate_card.plan(TENANT, priced("1.05"), [], TEN_PER_CENT)).version == 2
    assert await newest(used) == 1
