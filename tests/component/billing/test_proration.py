"""Subscriptions that start or end in the middle of a period, from what billing says over rating to the invoice."""

from __future__ import annotations

import asyncio
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

import pytest

from libs.errors import InvalidInput
from services.billing.domain.billing_period import BillingPeriod
from services.billing.domain.charge import PeriodKey
from services.billing.domain.invoice import Invoice
from services.billing.domain.subscription import BillingAnchor, BillingPeriodClosing, SubscriptionEnded
from services.billing.store.billing_period_state import read_billing_periods
from services.billing.usecases.close_periods import PERIOD_DIFFERS
from services.billing.wire.billing_periods import billing_period_to_pb
from services.billing.wire.charges import charge_from_pb
from services.rating.domain.period_charge import charges_of_period
from services.rating.domain.prices import Flat
from services.rating.domain.proration import Proration
from services.rating.domain.rate_card import Price, RateCard
from services.rating.wire.billing_periods import billing_period_from_pb
from services.rating.wire.charges import charge_to_pb
from tests.component.billing.world import World, a_request
from tests.unit.billing.fakes import utc

CARD = RateCard(
    "standard",
    1,
    "EUR",
    None,
    (
        Price("by_day", Flat(Decimal("99.99")), proration=Proration.BY_DAY),
        Price("by_second", Flat(Decimal("99.99")), proration=Proration.BY_SECOND),
        Price("whole", Flat(Decimal("99.99"))),
    ),
)
ZONE = "Europe/Berlin"  # 31 March has 743 hours: clocks change on the 29th.
MARCH_BEGINS, MARCH_ENDS = utc(2026, 2, 28, 23), utc(2026, 3, 31, 22)


async def stored_periods(world: World) -> list[BillingPeriod]:
    async with world.api("acme") as work:
        return await work.periods.page("sub-01", None, None, 10)


async def published(world: World) -> list[BillingPeriod]:
    """What the relay would send now, in the order of the marks."""
    marked = "SELECT item_key FROM billing_period_marks WHERE tenant_id = 'acme' ORDER BY version"
    async with world.worker_database.transaction("acme") as connection:
        keys = [row.item_key for row in await connection.exec_driver_sql(marked)]
        return await read_billing_periods(connection, "acme", list(dict.fromkeys(keys)))


async def rate(world: World) -> None:
    """Rating reads the states that billing publishes, and prices the periods."""
    for state in await published(world):
        message = billing_period_to_pb(state)
        period = billing_period_from_pb("acme", type(message).FromString(message.SerializeToString()))
        charges = [charge._replace(version=state.version) for charge in charges_of_period(period, CARD, {}, {})]
        world.rating.by_period[state.key] = tuple(charge_from_pb(charge_to_pb(charge)) for charge in charges)
        world.rating.periods[state.key] = period.period
        if period.whole is not None:
            world.rating.wholes[state.key] = period.whole


async def start(world: World, starts_on: date, anchor: BillingAnchor = BillingAnchor.CALENDAR) -> None:
    await world.add_tenant("acme", utc(2026, 3, 1), grace_s=3600)
    await world.add_customer("acme", zone=ZONE)
    await world.subscribe("acme", starts_on=starts_on, anchor=anchor)


async def invoiced(world: World, now: datetime) -> list[Invoice]:
    await rate(world)
    await world.advance("acme", now)
    await world.bill()
    return await world.invoices("acme")


def cents(days: int, hours: int) -> dict[str, int]:
    """The lines of March, computed another way: from whole cents."""

    def half_even(value: Fraction) -> int:
        return int((Decimal(value.numerator) / value.denominator).quantize(Decimal(1), ROUND_HALF_EVEN))

    by_second = half_even(Fraction(9999 * hours, 743))
    return {"by_day": half_even(Fraction(9999 * days, 31)), "by_second": by_second, "whole": 9999}


def lines(invoice: Invoice) -> dict[str, int]:
    return {line.price_id: line.amount.minor_units for line in invoice.lines}


async def test_a_start_in_the_middle_of_a_month_costs_the_rest_of_it(world: World) -> None:
    await start(world, date(2026, 3, 15))

    march, *_ = await invoiced(world, utc(2026, 4, 2))

    assert (march.period.start, march.period.end) == (utc(2026, 3, 14, 23), MARCH_ENDS)
    assert lines(march) == cents(days=17, hours=17 * 24 - 1)
    assert march.total_minor == sum(lines(march).values())
    assert (march.lines[0].parts[0].kind, march.lines[0].parts[0].quantity, march.lines[0].parts[0].per) == (
        "prorated",
        "17",
        "31",
    )


async def test_months_after_the_first_are_whole(world: World) -> None:
    await start(world, date(2026, 3, 15))
    await world.advance("acme", utc(2026, 4, 2))
    await world.work()

    _, april = await invoiced(world, utc(2026, 5, 2))

    assert lines(april) == {"by_day": 9999, "by_second": 9999, "whole": 9999}


async def test_an_end_in_the_middle_costs_the_days_up_to_it(world: World) -> None:
    await start(world, date(2026, 3, 1))
    await world.advance("acme", utc(2026, 3, 10))

    view = await world.cancel("acme", last_date=date(2026, 3, 20))

    assert view.subscription.ended_at == view.current_period.end == utc(2026, 3, 20, 23)
    assert await invoiced(world, utc(2026, 3, 20, 23)) == []  # The hour of grace is from the new end on.
    [march] = await invoiced(world, utc(2026, 6, 1))
    assert (march.period.start, march.period.end) == (MARCH_BEGINS, utc(2026, 3, 20, 23))
    assert lines(march) == cents(days=20, hours=20 * 24)


async def test_a_start_and_an_end_in_the_same_month_are_of_the_whole_one(world: World) -> None:
    await start(world, date(2026, 3, 15))
    await world.advance("acme", utc(2026, 3, 16))
    await world.cancel("acme", last_date=date(2026, 3, 29))

    [march] = await invoiced(world, utc(2026, 6, 1))

    assert lines(march) == cents(days=15, hours=15 * 24 - 1)


async def test_an_anniversary_is_measured_by_its_own_period(world: World) -> None:
    await start(world, date(2026, 3, 15), BillingAnchor.ANNIVERSARY)
    await world.advance("acme", utc(2026, 3, 16))
    await world.cancel("acme", last_date=date(2026, 3, 15))

    [first] = await invoiced(world, utc(2026, 6, 1))

    # One of the 31 days to 15 April; 24 of 743 hours.
    assert lines(first) == cents(days=1, hours=24)


async def test_an_end_is_published_with_a_higher_version(world: World) -> None:
    await start(world, date(2026, 3, 1))
    before = {item.key: item for item in await stored_periods(world)}
    key = PeriodKey("sub-01", MARCH_BEGINS)

    await world.cancel("acme", last_date=date(2026, 3, 20))

    after = {item.key: item for item in await published(world)}
    assert after.keys() == before.keys()
    assert after[key].version > before[key].version
    assert before[key].whole is None
    assert after[key].whole == before[key].period
    assert {item.key: item for item in await stored_periods(world)} == after


async def test_an_end_can_be_moved_forward_and_never_back(world: World) -> None:
    await start(world, date(2026, 3, 1))
    await world.cancel("acme")
    await world.cancel("acme", last_date=date(2026, 3, 20))
    await world.cancel("acme", last_date=date(2026, 3, 10))

    with pytest.raises(SubscriptionEnded):
        await world.cancel("acme", last_date=date(2026, 3, 11))
    same = await world.cancel("acme", last_date=date(2026, 3, 10))
    [march] = await invoiced(world, utc(2026, 6, 1))

    assert same.subscription.ended_at == utc(2026, 3, 10, 23)
    assert lines(march) == cents(days=10, hours=240)


async def test_the_last_day_of_a_period_cuts_nothing(world: World) -> None:
    await start(world, date(2026, 3, 1))
    before = await stored_periods(world)

    view = await world.cancel("acme", last_date=date(2026, 3, 31))

    assert view.subscription.ended_at == MARCH_ENDS
    assert await stored_periods(world) == before


@pytest.mark.parametrize("last_date", [date(2026, 2, 28), date(2026, 4, 1), date.max], ids=str)
async def test_an_end_outside_the_current_period_is_refused(world: World, last_date: date) -> None:
    await start(world, date(2026, 3, 1))

    with pytest.raises(InvalidInput):
        await world.cancel("acme", last_date=last_date)

    [march, *_] = await invoiced(world, utc(2026, 4, 2))
    assert lines(march) == {"by_day": 9999, "by_second": 9999, "whole": 9999}


async def test_a_request_that_is_repeated_cuts_once(world: World) -> None:
    await start(world, date(2026, 3, 1))
    request = a_request("CancelSubscription")
    first = await world.cancel("acme", last_date=date(2026, 3, 20), request=request)
    after_first = await stored_periods(world)

    again = await world.cancel("acme", last_date=date(2026, 3, 20), request=request)

    assert again == first
    assert await stored_periods(world) == after_first


async def test_two_ends_at_once_leave_one_that_both_know(world: World) -> None:
    await start(world, date(2026, 3, 1))

    ends = await asyncio.gather(
        *(world.cancel("acme", last_date=date(2026, 3, day)) for day in (20, 10, 15)), return_exceptions=True
    )

    assert all(isinstance(end, SubscriptionEnded) for end in ends if isinstance(end, BaseException))
    [march] = await invoiced(world, utc(2026, 6, 1))
    assert lines(march) == cents(days=10, hours=240)


async def test_a_period_that_is_being_invoiced_is_not_cut(world: World) -> None:
    """As if the closer had come between reading the clock and cutting."""
    await start(world, date(2026, 3, 1))
    key = PeriodKey("sub-01", MARCH_BEGINS)
    async with world.worker("acme") as work:
        await work.periods.start_closing([key], world.real())

    with pytest.raises(BillingPeriodClosing):
        await world.cancel("acme", last_date=date(2026, 3, 20))

    [march, *_] = await stored_periods(world)
    assert march.period.end == MARCH_ENDS


@pytest.mark.parametrize(
    ("starts_on", "days"), [pytest.param(1, 16, id="whole-before"), pytest.param(12, 5, id="part-before")]
)
async def test_no_invoice_is_made_from_charges_of_the_longer_period(world: World, starts_on: int, days: int) -> None:
    await start(world, date(2026, 3, starts_on))
    await rate(world)
    await world.advance("acme", utc(2026, 3, 20))
    await world.cancel("acme", last_date=date(2026, 3, 16))

    await world.bill()  # What rating says is what it read before the end.

    assert [invoice.state.value for invoice in await world.invoices("acme")] == ["draft"]
    assert (await world.progress("acme")).progress.problems == (PERIOD_DIFFERS,)
    await rate(world)
    world.real.at += timedelta(minutes=1)
    await world.bill()
    [march] = await world.invoices("acme")
    assert lines(march) == cents(days=days, hours=days * 24)
    assert (await world.progress("acme")).progress.problems == ()


async def test_rating_that_does_not_say_what_its_charges_are_for_is_believed_for_whole_periods_only(
    world: World,
) -> None:
    await start(world, date(2026, 3, 15))
    await rate(world)
    world.rating.periods.clear()
    await world.advance("acme", utc(2026, 5, 2))
    await world.bill()

    states = {invoice.period.start: invoice.state.value for invoice in await world.invoices("acme")}

    assert states == {utc(2026, 3, 14, 23): "draft", MARCH_ENDS: "issued"}


async def test_no_invoice_is_made_if_rating_does_not_know_that_the_period_is_shortened(world: World) -> None:
    """As if rating had read of the period before it ran a release that knows of whole ones."""
    await start(world, date(2026, 3, 15))
    await rate(world)
    world.rating.wholes.clear()
    before = {item.key: item.version for item in await stored_periods(world)}
    await world.advance("acme", utc(2026, 4, 2))
    await world.bill()

    assert [invoice.state.value for invoice in await world.invoices("acme")] == ["draft"]
    after = {item.key: item.version for item in await stored_periods(world)}
    march = PeriodKey("sub-01", utc(2026, 3, 14, 23))
    assert {key for key in before if after[key] > before[key]} == {march}  # So rating takes it in again.
    await rate(world)
    world.real.at += timedelta(minutes=1)
    await world.bill()
    [invoice] = await world.invoices("acme")
    assert lines(invoice) == cents(days=17, hours=17 * 24 - 1)


async def test_a_period_that_rating_has_missed_is_published_again(world: World) -> None:
    await start(world, date(2026, 3, 1))
    await rate(world)
    await world.advance("acme", utc(2026, 3, 20))
    await world.cancel("acme", last_date=date(2026, 3, 10))
    async with world.worker_database.transaction("acme") as connection:
        await connection.exec_driver_sql("DELETE FROM billing_period_marks")  # As if they were sent and lost.

    await world.bill()

    assert [item.key for item in await published(world)] == [PeriodKey("sub-01", MARCH_BEGINS)]
