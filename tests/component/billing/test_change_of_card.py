"""A subscription gets another rate card, from what billing says over rating to the invoices."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest

from libs.errors import InvalidInput, NotFound
from services.billing.domain.charge import PeriodKey
from services.billing.domain.invoice import Invoice
from services.billing.domain.rate_card_facts import CurrencyDiffers
from services.billing.domain.subscription import (
    BillingAnchor,
    BillingPeriodClosing,
    SubscriptionEnded,
)
from services.billing.usecases.close_periods import PERIOD_DIFFERS
from services.billing.usecases.get_subscriptions import view_of
from services.billing.wire.billing_periods import billing_period_to_pb
from services.billing.wire.charges import charge_from_pb
from services.rating.domain.period_charge import charges_of_period
from services.rating.domain.prices import Flat
from services.rating.domain.proration import Proration
from services.rating.domain.rate_card import Price, RateCard
from services.rating.wire.billing_periods import billing_period_from_pb
from services.rating.wire.charges import charge_to_pb
from tests.component.billing.test_proration import published, stored_periods
from tests.component.billing.world import World, a_request
from tests.unit.billing.fakes import utc

# 31 days of Berlin; clocks change on the 29th.
MARCH_BEGINS, MARCH_ENDS, APRIL_ENDS = utc(2026, 2, 28, 23), utc(2026, 3, 31, 22), utc(2026, 4, 30, 22)
MIDDLE = utc(2026, 3, 10, 23)  # The 11th begins: 10 days are before it, 21 from it on.


def fees(card: str, amount: str) -> RateCard:
    fee = Flat(Decimal(amount))
    return RateCard(card, 1, "EUR", None, (Price("fee", fee, proration=Proration.BY_DAY), Price("whole", fee)))


CARDS = {"standard": fees("standard", "31.00"), "pro": fees("pro", "310.00"), "max": fees("max", "3100.00")}


async def rate(world: World) -> None:
    """Rating reads the states that billing publishes, and prices the periods by their cards."""
    for state in await published(world):
        message = billing_period_to_pb(state)
        period = billing_period_from_pb("acme", type(message).FromString(message.SerializeToString()))
        charges = charges_of_period(period, CARDS[period.rate_card_id], {}, {})
        world.rating.by_period[state.key] = tuple(
            charge_from_pb(charge_to_pb(charge._replace(version=state.version))) for charge in charges
        )
        world.rating.periods[state.key] = period.period
        if period.whole is not None:
            world.rating.wholes[state.key] = period.whole


async def start(world: World, starts_on: date = date(2026, 3, 1)) -> None:
    world.rating.currencies |= dict.fromkeys(CARDS, "EUR")
    await world.add_tenant("acme", utc(2026, 3, 1), grace_s=3600)
    await world.add_customer("acme", zone="Europe/Berlin")
    await world.subscribe("acme", starts_on=starts_on, anchor=BillingAnchor.CALENDAR)
    await world.advance("acme", utc(2026, 3, 5))


async def invoiced(world: World, now: datetime) -> list[Invoice]:
    await world.advance("acme", now)
    await world.work()
    await rate(world)
    await world.bill()
    world.real.at += timedelta(minutes=1)
    await world.bill()
    return await world.invoices("acme")


async def periods(world: World) -> list[tuple[datetime, datetime, str]]:
    return [(item.period.start, item.period.end, item.rate_card_id) for item in await stored_periods(world)]


def lines(invoice: Invoice) -> dict[str, int]:
    return {line.price_id: line.amount.minor_units for line in invoice.lines}


async def test_in_the_middle_each_part_is_invoiced_by_its_own_card(world: World) -> None:
    await start(world)

    view = await world.change_card("acme", "pro", first_date=date(2026, 3, 11))

    assert view.subscription.rate_card_id == "pro"
    assert (view.current_period.start, view.current_period.end) == (MARCH_BEGINS, MIDDLE)
    assert await periods(world) == [
        (MARCH_BEGINS, MIDDLE, "standard"),
        (MIDDLE, MARCH_ENDS, "pro"),
        (MARCH_ENDS, APRIL_ENDS, "pro"),
    ]
    assert await invoiced(world, MIDDLE) == []  # The hour of grace.
    [before] = await invoiced(world, MIDDLE + timedelta(hours=1))
    assert lines(before) == {"fee": 1000, "whole": 3100}
    _, after, april = await invoiced(world, APRIL_ENDS + timedelta(hours=1))
    assert lines(after) == {"fee": 21000, "whole": 31000}
    assert lines(april) == {"fee": 31000, "whole": 31000}
    assert [invoice.invoice_number for invoice in await world.invoices("acme")] == [
        "INV-000001",
        "INV-000002",
        "INV-000003",
    ]


async def test_without_a_date_the_next_period_is_the_first(world: World) -> None:
    await start(world)

    view = await world.change_card("acme", "pro")

    assert view.current_period.end == MARCH_ENDS
    assert await periods(world) == [(MARCH_BEGINS, MARCH_ENDS, "standard"), (MARCH_ENDS, APRIL_ENDS, "pro")]
    march, april = await invoiced(world, APRIL_ENDS + timedelta(hours=1))
    assert (lines(march)["fee"], lines(april)["fee"]) == (3100, 31000)


async def test_the_day_after_the_period_is_the_next_period(world: World) -> None:
    await start(world)
    await world.change_card("acme", "pro", first_date=date(2026, 4, 1))
    assert await periods(world) == [(MARCH_BEGINS, MARCH_ENDS, "standard"), (MARCH_ENDS, APRIL_ENDS, "pro")]


async def test_from_its_first_date_on_the_whole_period_has_the_card(world: World) -> None:
    await start(world)
    await rate(world)  # Rating has priced it by the other card already.

    await world.change_card("acme", "pro", first_date=date(2026, 3, 1))

    assert await periods(world) == [(MARCH_BEGINS, MARCH_ENDS, "pro"), (MARCH_ENDS, APRIL_ENDS, "pro")]
    [march] = await invoiced(world, MARCH_ENDS + timedelta(hours=1))
    assert lines(march) == {"fee": 31000, "whole": 31000}


async def test_several_changes_leave_parts_of_one_whole(world: World) -> None:
    await start(world, date(2026, 3, 3))
    await world.change_card("acme", "pro", first_date=date(2026, 3, 11))
    await world.advance("acme", utc(2026, 3, 15))
    await world.change_card("acme", "max", first_date=date(2026, 3, 21))
    await world.cancel("acme")  # The part that is current then is the last one.

    found = await invoiced(world, utc(2026, 6, 1))

    # 8 days from the 3rd and 10 from the 11th, of 31.
    assert [lines(invoice)["fee"] for invoice in found] == [800, 10000]
    assert [invoice.period.end for invoice in found] == [MIDDLE, utc(2026, 3, 20, 23)]


async def test_parts_up_to_the_end_of_the_month_add_up(world: World) -> None:
    await start(world)
    await world.change_card("acme", "pro", first_date=date(2026, 3, 6))
    await world.advance("acme", utc(2026, 3, 7))
    await world.change_card("acme", "standard", first_date=date(2026, 3, 8))

    *march, _ = await invoiced(world, APRIL_ENDS + timedelta(hours=1))

    assert [lines(invoice)["fee"] for invoice in march] == [500, 2000, 2400]


async def test_a_change_to_come_can_be_taken_back(world: World) -> None:
    await start(world)
    await world.change_card("acme", "pro")

    await world.change_card("acme", "standard", first_date=date(2026, 3, 20))

    assert await periods(world) == [(MARCH_BEGINS, MARCH_ENDS, "standard"), (MARCH_ENDS, APRIL_ENDS, "standard")]


async def test_a_change_to_come_can_be_hastened(world: World) -> None:
    await start(world)
    await world.change_card("acme", "pro")
    await world.change_card("acme", "pro", first_date=date(2026, 3, 11))
    assert [card for _, _, card in await periods(world)] == ["standard", "pro", "pro"]


async def test_before_its_start_a_subscription_changes_in_its_first_period(world: World) -> None:
    await start(world, date(2026, 4, 10))
    await world.change_card("acme", "pro", first_date=date(2026, 4, 10))
    assert [card for _, _, card in await periods(world)] == ["pro", "pro"]


async def test_later_periods_follow_the_newest_part(world: World) -> None:
    await start(world)
    await world.change_card("acme", "pro", first_date=date(2026, 3, 11))
    await world.advance("acme", utc(2026, 9, 15))
    await world.work()

    stored = await periods(world)

    assert all(end == start for (_, end, _), (start, _, _) in pairwise(stored))
    assert stored[-1][0] == utc(2026, 9, 30, 22)
    assert len(stored) == 9  # March twice, then up to October.


@pytest.mark.parametrize("first_date", [date(2026, 2, 28), date(2026, 4, 2), date.max], ids=str)
async def test_a_date_outside_is_refused(world: World, first_date: date) -> None:
    await start(world)
    before = await stored_periods(world)
    with pytest.raises(InvalidInput) as raised:
        await world.change_card("acme", "pro", first_date=first_date)
    assert [violation.field for violation in raised.value.violations] == ["first_date"]
    assert await stored_periods(world) == before


async def test_what_cannot_be_is_refused(world: World) -> None:
    await start(world)
    world.rating.currencies["dollars"] = "USD"
    with pytest.raises(CurrencyDiffers):
        await world.change_card("acme", "dollars")
    with pytest.raises(NotFound):
        await world.change_card("acme", "unknown")
    with pytest.raises(InvalidInput):
        await world.change_card("acme", "standard")
    await world.cancel("acme")
    with pytest.raises(SubscriptionEnded):
        await world.change_card("acme", "pro")
    await world.change_card("acme", "pro", first_date=date(2026, 3, 11))  # Before the end it can still change.
    await world.advance("acme", utc(2026, 5, 1))
    with pytest.raises(SubscriptionEnded):
        await world.change_card("acme", "max", first_date=date(2026, 4, 30))


@pytest.mark.parametrize("day", [1, 11])
async def test_a_period_that_is_being_invoiced_does_not_change(world: World, day: int) -> None:
    """As if the closer had come between reading the clock and changing."""
    await start(world)
    async with world.worker("acme") as work:
        await work.periods.start_closing([PeriodKey("sub-01", MARCH_BEGINS)], world.real())
    before = await stored_periods(world)

    with pytest.raises(BillingPeriodClosing):
        await world.change_card("acme", "pro", first_date=date(2026, 3, day))

    assert await stored_periods(world) == before


async def test_a_request_that_is_repeated_splits_once(world: World) -> None:
    await start(world)
    request = a_request("ChangeRateCard")
    first = await world.change_card("acme", "pro", first_date=date(2026, 3, 11), request=request)
    after_first = await stored_periods(world)

    again = await world.change_card("acme", "pro", first_date=date(2026, 3, 11), request=request)

    assert again == first
    assert await stored_periods(world) == after_first


async def test_changes_and_an_end_at_once_leave_no_gap_and_no_overlap(world: World) -> None:
    await start(world)

    done = await asyncio.gather(
        *(
            world.change_card("acme", card, first_date=date(2026, 3, day))
            for card, day in (("pro", 11), ("max", 11), ("pro", 20), ("max", 25))
        ),
        world.cancel("acme", last_date=date(2026, 3, 27)),
        return_exceptions=True,
    )

    assert all(isinstance(item, InvalidInput | SubscriptionEnded) for item in done if isinstance(item, Exception))
    stored = await periods(world)
    assert stored[0][0] == MARCH_BEGINS
    for (_, end, _), (next_start, _, _) in pairwise(stored):
        assert end <= next_start
    fees_billed = [lines(invoice)["fee"] for invoice in await invoiced(world, utc(2026, 6, 1))]
    assert sum(fees_billed) > 0


async def test_no_invoice_is_made_from_charges_of_the_other_card(world: World) -> None:
    await start(world)
    await rate(world)
    await world.change_card("acme", "pro", first_date=date(2026, 3, 1))
    await world.advance("acme", MARCH_ENDS + timedelta(hours=1))

    await world.bill()  # What rating says is what it read before the change.

    assert (await world.progress("acme")).progress.problems == (PERIOD_DIFFERS,)
    assert [invoice.state.value for invoice in await world.invoices("acme")] == ["draft"]
    await rate(world)
    world.real.at += timedelta(minutes=1)
    await world.bill()
    assert lines((await world.invoices("acme"))[0]) == {"fee": 31000, "whole": 31000}


async def test_what_rating_knows_of_the_period_before_the_split_is_not_invoiced(world: World) -> None:
    await start(world)
    await rate(world)
    await world.change_card("acme", "pro", first_date=date(2026, 3, 11))
    await world.advance("acme", MIDDLE + timedelta(hours=1))

    await world.bill()

    assert [invoice.state.value for invoice in await world.invoices("acme")] == ["draft"]
    assert (await world.progress("acme")).progress.problems == (PERIOD_DIFFERS,)


async def test_all_periods_that_change_are_published_under_higher_versions(world: World) -> None:
    await start(world)
    before = {item.key: item for item in await stored_periods(world)}

    await world.change_card("acme", "pro", first_date=date(2026, 3, 11))

    after = {item.key: item for item in await published(world)}
    assert len(after) == len(before) + 1
    for key, item in before.items():
        assert after[key].version > item.version
    whole = next(iter(before.values())).period
    assert [item.whole for item in after.values() if item.whole is not None] == [whole, whole]
    assert replace(after[PeriodKey("sub-01", MIDDLE)], version=0).time_zone == "Europe/Berlin"


async def test_an_ended_subscription_shows_its_last_period(world: World) -> None:
    await start(world)
    await world.cancel("acme")
    await world.advance("acme", utc(2026, 4, 10))  # The period of April was stored before the end.

    async with world.api("acme") as work:
        view = await view_of(work, await work.subscriptions.get("sub-01"), utc(2026, 4, 10))

    assert (view.current_period.start, view.current_period.end) == (MARCH_BEGINS, MARCH_ENDS)
