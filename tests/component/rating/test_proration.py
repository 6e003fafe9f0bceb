"""Billing periods that are parts of whole ones, over a real database."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from libs.periods import Period, find_zone
from services.rating.domain.prices import Flat, PerUnit
from services.rating.domain.proration import Proration
from services.rating.domain.rate_card import Price
from tests.component.rating.support import TENANT, TOKENS, Rating, billing_period, rate_card, window

BERLIN = find_zone("Europe/Berlin")
MARCH = Period(datetime.fromisoformat("2026-02-28T23:00Z"), datetime.fromisoformat("2026-03-31T22:00Z"))
FROM_15TH = Period(datetime.fromisoformat("2026-03-14T23:00Z"), MARCH.end)
UP_TO_20TH = Period(FROM_15TH.start, datetime.fromisoformat("2026-03-19T23:00Z"))
CARD = rate_card(
    Price("by_day", Flat(Decimal(310)), proration=Proration.BY_DAY),
    Price("by_second", Flat(Decimal(743)), proration=Proration.BY_SECOND),
    Price("all", Flat(Decimal(20))),
    Price("tokens", PerUnit(Decimal(1)), TOKENS, included_quantity=Decimal(62), proration=Proration.BY_DAY),
)
NOON_ON_THE_25TH = datetime.fromisoformat("2026-03-25T12:00Z")


async def amounts(rating: Rating) -> dict[str, Decimal]:
    charges = await rating.get_charges.of_period(TENANT, "sub-1", FROM_15TH.start)
    return {charge.price_id: charge.amount for charge in charges}


async def test_a_period_that_starts_in_the_middle_costs_its_share(rating: Rating) -> None:
    await rating.add_card(CARD)
    await rating.receive(window(40, at=NOON_ON_THE_25TH))
    await rating.accept([billing_period(period=FROM_15TH, time_zone="Europe/Berlin", whole=MARCH)])
    await rating.rate_all()

    # 17 of 31 days, which are 407 of 743 hours; 34 of 62 tokens are included.
    assert await amounts(rating) == {"by_day": 170, "by_second": 407, "all": 20, "tokens": 6}
    (confirmed,) = await rating.confirm_charges(TENANT, [("sub-1", FROM_15TH.start)])
    assert (confirmed.reason, {charge.price_id: charge.amount for charge in confirmed.charges}) == (
        "",
        await amounts(rating),
    )


async def test_a_period_that_is_cut_later_costs_its_smaller_share_and_forgets_what_came_after(rating: Rating) -> None:
    await rating.add_card(CARD)
    await rating.receive(window(40, at=NOON_ON_THE_25TH), window(15, at=UP_TO_20TH.end - timedelta(minutes=15)))
    await rating.accept([billing_period(period=FROM_15TH, time_zone="Europe/Berlin", whole=MARCH)])
    await rating.rate_all()
    before = await amounts(rating)

    cut = billing_period(period=UP_TO_20TH, time_zone="Europe/Berlin", whole=MARCH, version=2)
    await rating.accept([cut])
    await rating.rate_all()

    assert before == {"by_day": 170, "by_second": 407, "all": 20, "tokens": 21}
    assert await amounts(rating) == {"by_day": 50, "by_second": 120, "all": 20, "tokens": 5}
    charges = await rating.get_charges.of_period(TENANT, "sub-1", cut.period.start)
    assert [charge.quantity for charge in charges if charge.meter_id] == [15]
    assert {charge.period_end for charge in charges} == {UP_TO_20TH.end}
    # And what billing said before does not come back.
    await rating.accept([billing_period(period=FROM_15TH, time_zone="Europe/Berlin", whole=MARCH)])
    await rating.rate_all()
    assert (await amounts(rating))["by_day"] == 50


async def test_periods_that_are_not_shortened_cost_all_of_it(rating: Rating) -> None:
    """As those of messages from before anything could be prorated."""
    await rating.add_card(CARD)
    await rating.accept([billing_period(period=FROM_15TH, time_zone="Europe/Berlin")])
    await rating.rate_all()

    assert await amounts(rating) == {"by_day": 310, "by_second": 743, "all": 20, "tokens": 0}


async def test_a_zone_that_is_unknown_here_sets_its_period_aside_alone(rating: Rating) -> None:
    await rating.add_card(CARD)
    unknown = billing_period("sub-2", period=FROM_15TH, time_zone="Moon/Far_Side", whole=MARCH)
    await rating.accept([unknown, billing_period(period=FROM_15TH, time_zone="Europe/Berlin", whole=MARCH)])
    await rating.rate_all()

    assert (await amounts(rating))["by_day"] == 170
    (confirmed,) = await rating.confirm_charges(TENANT, [("sub-2", FROM_15TH.start)])
    assert confirmed.reason == "PRICING_FAILED"
