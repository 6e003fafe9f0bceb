"""From marks to charges."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest

from services.rating.domain.billing_period import PeriodKey
from services.rating.domain.charges import rate_card_charges
from services.rating.domain.price_terms import PercentDiscount, PriceTerms
from services.rating.domain.prices import LinesBefore, Percentage, PerUnit, Stairstep, Step
from services.rating.domain.queue import SetAside
from services.rating.domain.rate_card import Price
from services.rating.usecases.rate_periods import rate_periods
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


async def test_a_live_charge_equals_the_pure_function_on_the_sum(rating: Rating) -> None:
    await rating.start_march()
    quantities = ["1200", "0.5", "37.125", "-2", "900000000"]

    for number, quantity in enumerate(quantities):
        await rating.receive(window(quantity, at=MARCH.start + number * HOUR), window(3, meter=REQUESTS))
        await rating.rate_all()

    usage = {TOKENS: sum(map(Decimal, quantities), Decimal(0)), REQUESTS: Decimal(3)}
    expected = {charge.price_id: (charge.quantity, charge.amount) for charge in rate_card_charges(rate_card(), usage)}
    charges = await rating.charges()
    assert {price: (charge.quantity, charge.amount) for price, charge in charges.items()} == expected
    assert [charge.position for charge in charges.values()] == [0, 1, 2]
    assert sum(part.amount for part in charges["tokens"].parts) == charges["tokens"].amount
    assert await rating.differences() == []


async def test_a_period_without_usage_has_charges(rating: Rating) -> None:
    await rating.start_march()

    amounts = {price: charge.amount for price, charge in (await rating.charges()).items()}

    assert amounts == {"fee": Decimal(20), "tokens": 0, "requests": 0}


async def test_only_changed_charges_get_a_new_version(rating: Rating) -> None:
    await rating.start_march()
    before = await rating.charges()

    await rating.receive(window(5, meter=REQUESTS))
    await rating.rate_all()
    await rating.receive(window(5, meter=REQUESTS))  # A new version of the window, with the same value.
    await rating.rate_all()

    after = await rating.charges()
    assert after["requests"].version > max(charge.version for charge in before.values())
    assert {price: charge.version for price, charge in after.items() if price != "requests"} == {
        price: charge.version for price, charge in before.items() if price != "requests"
    }
    assert [rated.changed_count for rated in rating.rated] == [3, 1, 0]
    assert min(charge.version for charge in before.values()) >= 1 << 40


async def test_an_unknown_card_is_set_aside_and_the_rest_goes_on(rating: Rating) -> None:
    await rating.add_card(rate_card())
    await rating.accept([billing_period("bad", card="missing"), billing_period("good")])

    await rating.rate_all()
    await rating.receive(window(3))
    await rating.rate_all()

    assert [problem.reason for rated in rating.rated for problem in rated.problems.values()] == ["RATE_CARD_UNKNOWN"]
    assert set(await rating.charges("good")) == {"fee", "tokens", "requests"}
    assert await rating.charges("bad") == {}
    assert await rating.sql("SELECT subscription_id, reason FROM rating_problems") == [("bad", "RATE_CARD_UNKNOWN")]


async def test_a_period_that_was_set_aside_is_rated_as_soon_as_its_card_exists(rating: Rating) -> None:
    await rating.accept([billing_period(card="late-card")])
    await rating.rate_all()

    await rating.add_card(rate_card(card_id="late-card"))
    await rating.rate_all()

    assert set(await rating.charges()) == {"fee", "tokens", "requests"}
    assert await rating.sql("SELECT count(*) FROM rating_problems") == [(0,)]
    assert await rating.sql("SELECT count(*) FROM rating_marks") == [(0,)]
    assert await rating.sql("SELECT count(*) FROM rating_retries") == [(0,)]


async def test_a_period_that_was_set_aside_is_tried_again_with_growing_delays(rating: Rating) -> None:
    await rating.accept([billing_period(card="missing")])
    tried = []
    for _ in range(40):
        before = len(rating.rated)
        await rating.rate_all()
        tried.append(len(rating.rated) > before)
        rating.now += timedelta(seconds=1)

    assert [second for second, was_tried in enumerate(tried) if was_tried] == [0, 1, 3, 7, 15, 31]


async def test_an_impossible_amount_is_set_aside(rating: Rating) -> None:
    fine = "0.000000000001"
    card = rate_card(*(Price("tokens", PerUnit(Decimal(fine)), meter_id=TOKENS), *rate_card().prices[::2]))
    await rating.start_march(card)

    await rating.receive(window("9" * 120 + ".000000000001"))
    await rating.rate_all()

    assert await rating.sql("SELECT reason FROM rating_problems") == [("PRICING_FAILED",)]


async def test_a_mark_set_while_its_period_is_rated_is_not_lost(rating: Rating) -> None:
    await rating.start_march()
    await rating.receive(window(3))
    async with rating.open_work() as work:
        seen = await work.queue.waiting(10)
    async with rating.open_work(TENANT) as work:
        await work.queue.take([mark.number for mark in seen])
        await rating.receive(window(5, at=MARCH.start + HOUR))  # In a transaction of its own, while this one rates.

    await rating.rate_all()

    assert (await rating.charges())["tokens"].quantity == 8


async def test_marks_come_back_when_their_rater_dies(rating: Rating) -> None:
    await rating.add_card(rate_card())
    await rating.accept([billing_period()])
    with pytest.raises(ConnectionError):
        await _die_with_marks(rating)

    await rating.rate_all()

    assert len(await rating.charges()) == 3


async def _die_with_marks(rating: Rating) -> None:
    async with rating.open_work(TENANT) as work:
        assert await work.queue.take([mark.number for mark in await work.queue.waiting(10)])
        raise ConnectionError


async def test_marks_that_another_rater_has_taken_are_left_to_it(rating: Rating) -> None:
    await rating.start_march()
    await rating.receive(window(3))
    async with rating.open_work(TENANT) as work:
        await work.queue.take([mark.number for mark in await work.queue.waiting(10)])
        worked = await rating.rate_due()
        changed = await rating.receive(window(4))
        worked_then = await rating.rate_due()

    assert (worked, changed, worked_then) == (False, 1, True)
    assert (await rating.charges())["tokens"].quantity == 4


async def test_many_marks_of_a_period_are_rated_once(rating: Rating) -> None:
    await rating.start_march()
    for number in range(20):
        await rating.receive(window(number))
    before = len(rating.rated)

    await rating.rate_all()

    assert [rated.changed_count for rated in rating.rated[before:]] == [1]
    assert await rating.sql("SELECT count(*) FROM rating_marks") == [(0,)]


async def test_usage_does_not_make_a_period_that_was_set_aside_come_earlier(rating: Rating) -> None:
    await rating.accept([billing_period(card="missing")])
    await rating.rate_all()

    await rating.receive(window(3))
    await rating.rate_all()
    tried, marks = len(rating.rated), await rating.sql("SELECT count(*) FROM rating_marks")
    rating.now += timedelta(seconds=1)
    await rating.rate_all()

    assert [len(rated.problems) for rated in rating.rated] == [1, 0, 1]
    assert (tried, marks) == (2, [(0,)])


async def test_a_card_that_comes_while_its_period_fails_has_it_rated_at_once(rating: Rating) -> None:
    """The rater has not found the card, and the card marks the period before the rater has set it aside."""
    await rating.accept([billing_period(card="late-card")])
    async with rating.open_work(TENANT) as work:
        taken = await work.queue.take([mark.number for mark in await work.queue.waiting(10)])
        problem = await rate_periods(work, [billing_period().key], rating.clock)
        await rating.add_card(rate_card(card_id="late-card"))
        await work.queue.retry_later({billing_period().key: SetAside(9, rating.now + HOUR)})

    await rating.rate_all()

    assert (len(taken), len(problem.problems), len(await rating.charges())) == (1, 1, 3)
    assert await rating.sql("SELECT count(*) FROM rating_retries") == [(0,)]


async def test_two_raters_never_store_an_older_charge(rating: Rating) -> None:
    await rating.start_march()

    async def rate(count: int) -> None:
        for _ in range(count):
            await rating.rate_due()
            await asyncio.sleep(0)

    async def use(meter: str) -> None:
        for number in range(30):
            await rating.receive(window(1, meter=meter, at=MARCH.start + number * HOUR))

    await asyncio.gather(rate(40), rate(40), use(TOKENS), use(REQUESTS))
    await rating.rate_all()

    assert [(await rating.charges())[meter].quantity for meter in (TOKENS, REQUESTS)] == [30, 30]
    assert await rating.differences() == []


class TestTraces:
    ONE = "00-" + "a" * 32 + "-" + "1" * 16 + "-01"
    OTHER = "00-" + "b" * 32 + "-" + "2" * 16 + "-01"

    async def test_a_single_trace_is_continued(self, rating: Rating) -> None:
        await rating.start_march()
        await rating.receive(window(5, trace_parent=self.ONE), window(5, meter=REQUESTS))
        await rating.rate_all()

        charges = await rating.charges()

        assert charges["tokens"].trace_parent.split("-")[1] == "a" * 32
        assert (charges["requests"].trace_parent, charges["fee"].trace_parent) == ("", "")

    async def test_of_several_traces_each_charge_keeps_its_own(self, rating: Rating) -> None:
        await rating.start_march()
        await rating.receive(window(5, trace_parent=self.ONE), window(5, meter=REQUESTS, trace_parent=self.OTHER))
        await rating.rate_all()

        charges = await rating.charges()

        # Where spans are kept, a charge carries on a span of its usage's trace.
        traces = [charges[price].trace_parent.split("-")[1] for price in ("tokens", "requests")]
        assert traces == ["a" * 32, "b" * 32]


async def test_every_change_is_marked_for_publication(rating: Rating) -> None:
    await rating.start_march()

    marks = await rating.sql("SELECT tenant_id, item_key, version FROM charge_marks ORDER BY item_key")

    charges = await rating.charges()
    key = PeriodKey(TENANT, "sub-1", MARCH.start)
    assert marks == [
        (TENANT, f"sub-1|{key.period_start.isoformat()}|{price}", charges[price].version) for price in sorted(charges)
    ]


async def test_a_minimum_for_all_lines_shrinks_as_they_grow(rating: Rating) -> None:
    minimum = Price("minimum", LinesBefore(), terms=PriceTerms(minimum_amount=Decimal(10)))
    await rating.start_march(rate_card(Price("tokens", PerUnit(Decimal("0.333")), meter_id=TOKENS), minimum))
    amounts = []
    for number, quantity in enumerate((0, 10, 30)):
        await rating.receive(window(quantity, at=MARCH.start + number * HOUR))
        await rating.rate_all()
        amounts.append((await rating.charges())["minimum"].amount)
    assert amounts == [10, Decimal("6.67"), 0]
    assert await rating.differences() == []


async def test_terms_act_on_live_charges_and_numbers_of_events_count(rating: Rating) -> None:
    payments = Price(
        "payments",
        Percentage(Decimal("2.9"), Decimal("0.30")),
        meter_id=TOKENS,
        terms=PriceTerms(minimum_amount=Decimal(5), discounts=(PercentDiscount(Decimal(50)),)),
    )
    steps = Price("steps", Stairstep((Step(Decimal(10), Decimal(1)), Step(None, Decimal(9)))), meter_id=REQUESTS)
    await rating.start_march(rate_card(payments, steps))
    assert {price: charge.amount for price, charge in (await rating.charges()).items()} == {
        "payments": Decimal("2.5"),
        "steps": 1,
    }

    await rating.receive(window(1000, events=4), window(500, at=MARCH.start + HOUR), window(11, meter=REQUESTS))
    await rating.rate_all()

    charges = await rating.charges()
    assert charges["payments"].amount == (1500 * Decimal("0.029") + 5 * Decimal("0.30")) / 2
    assert [part.kind for part in charges["payments"].parts] == ["percentage", "events", "discount"]
    assert charges["steps"].amount == 9
    assert await rating.differences() == []
