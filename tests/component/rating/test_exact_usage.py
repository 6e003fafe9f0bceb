"""Prices on meters whose windows do not add up: ingest tells the quantity of the period."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest

from libs.periods import Period
from services.rating.domain.billing_period import PeriodKey
from services.rating.domain.exact_usage import Answers, ExactUsage
from services.rating.domain.prices import PerUnit
from services.rating.domain.rate_card import Price, RateCard
from services.rating.usecases import rate_due_periods
from services.rating.usecases.ask_quantities import AskQuantities
from services.rating.usecases.rate_periods import rate_periods
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

SEATS = "seats"
CARD = rate_card(
    Price("seats", PerUnit(Decimal(10)), meter_id=SEATS), Price("tokens", PerUnit(Decimal(1)), meter_id=TOKENS)
)
MARCH_1 = PeriodKey(TENANT, "sub-1", MARCH.start)


@pytest.fixture
def exact(rating: Rating) -> Rating:
    """Ingest has the meter `seats`, whose windows do not add up."""
    rating.ingest.meters.add(SEATS)
    rating.ingest.not_additive.add(SEATS)
    return rating


def tell(rating: Rating, value: str, version: int, *, customer: str = "cust-1", tenant: str = TENANT) -> None:
    """What ingest answers for March from now on."""
    rating.ingest.exact[tenant, customer, SEATS, MARCH.start] = ExactUsage(Decimal(value), 3, version)


async def quantity(rating: Rating, price: str = "seats", **where: object) -> Decimal:
    return (await rating.charges(**where))[price].quantity  # type: ignore[arg-type]


class TestRating:
    async def test_the_quantity_is_what_ingest_tells_and_not_the_sum_of_windows(self, exact: Rating) -> None:
        tell(exact, "7", 5)
        await exact.start_march(CARD)
        await exact.receive(window(4, meter=SEATS), window(5, meter=SEATS, at=MARCH.start + HOUR), window(100))
        await exact.rate_all()

        charges = await exact.charges()
        assert {price: charge.quantity for price, charge in charges.items()} == {"seats": 7, "tokens": 100}
        assert charges["seats"].amount == 70
        assert await exact.differences() == []

    async def test_days_are_those_of_the_zone_of_the_billing_period(self, exact: Rating) -> None:
        await exact.start_march(CARD)
        assert exact.ingest.zones == {"UTC"}

        await exact.accept([billing_period(version=2, time_zone="Asia/Kathmandu")])
        exact.ingest.zones.clear()
        await exact.rate_all()

        assert exact.ingest.zones == {"Asia/Kathmandu"}

    async def test_nothing_used_is_zero(self, exact: Rating) -> None:
        await exact.start_march(CARD)
        assert await quantity(exact) == 0

    async def test_every_change_asks_again(self, exact: Rating) -> None:
        await exact.start_march(CARD)
        for number in range(1, 4):
            tell(exact, str(number), number)
            await exact.receive(window(number, meter=SEATS))
            await exact.rate_all()
            assert await quantity(exact) == number

    async def test_prices_on_sums_ask_nothing(self, exact: Rating) -> None:
        await exact.start_march()
        await exact.receive(window(4, meter=REQUESTS))
        exact.ingest.calls.clear()
        await exact.rate_all()
        assert exact.ingest.calls == []

    async def test_all_periods_of_a_tenant_are_asked_for_at_once(self, exact: Rating) -> None:
        await exact.add_card(CARD)
        await exact.accept([billing_period(f"sub-{number}", customer=f"cust-{number}") for number in range(9)])
        exact.ingest.calls.clear()
        await exact.rate_all()
        assert exact.ingest.calls == ["quantities"]

    async def test_a_card_that_gets_such_a_price_later_has_its_periods_rated_by_it(self, exact: Rating) -> None:
        await exact.start_march()
        tell(exact, "3", 1)
        await exact.add_card(rate_card(*CARD.prices, effective_at=MARCH.start))
        await exact.rate_all()
        assert await quantity(exact) == 3

    async def test_periods_of_several_tenants_do_not_mix(self, exact: Rating) -> None:
        for tenant, value in ((TENANT, "2"), ("bolt", "9")):
            tell(exact, value, 1, tenant=tenant)
            await exact.add_card(CARD, tenant=tenant)
            await exact.accept([billing_period(tenant=tenant)])
        await exact.rate_all()
        assert [await quantity(exact), await quantity(exact, tenant="bolt")] == [2, 9]


class TestVersions:
    async def test_an_answer_from_before_does_not_replace_a_later_one(self, exact: Rating) -> None:
        await exact.start_march(CARD)
        ask = AskQuantities(exact.open_work, exact.ingest)
        answers = []
        # The first two in the order in which windows may be committed: the higher version is seen before the lower one.
        for value, version in (("5", 50), ("6", 50), ("4", 40), ("7", 60)):
            tell(exact, value, version)
            answers.append(await ask(await ask.questions([MARCH_1])))
        kept = []
        for turn in (1, 0, 2, 3, 1):
            async with exact.open_work(TENANT) as work:
                await rate_periods(work, [MARCH_1], exact.clock, answers[turn])
            kept.append(await quantity(exact))
        assert kept == [6, 6, 4, 7, 7]

    async def test_a_period_that_ends_earlier_is_charged_for_what_is_left(self, exact: Rating) -> None:
        """Its newest window may be gone, and the version of what is left is then lower than before."""
        tell(exact, "5", 50)
        await exact.start_march(CARD)
        tell(exact, "2", 30)
        await exact.accept([billing_period(period=Period(MARCH.start, MARCH.start + timedelta(days=7)), version=2)])
        await exact.rate_all()
        assert await quantity(exact) == 2

    async def test_an_answer_to_what_the_period_was_is_none(self, exact: Rating) -> None:
        await exact.start_march(CARD)
        ask = AskQuantities(exact.open_work, exact.ingest)
        tell(exact, "5", 5)
        answers = await ask(await ask.questions([MARCH_1]))
        shorter = Period(MARCH.start, MARCH.start + timedelta(days=7))
        await exact.accept([billing_period(period=shorter, version=2)])
        async with exact.open_work(TENANT) as work:
            rated = await rate_periods(work, [MARCH_1], exact.clock, answers)
        assert rated.problems[MARCH_1].reason == "USAGE_UNAVAILABLE"
        await exact.rate_all()
        assert await quantity(exact) == 5

    async def test_raters_at_the_same_time_end_with_the_newest(self, exact: Rating) -> None:
        await exact.start_march(CARD)
        for number in range(1, 11):
            tell(exact, str(number), number)
            await exact.receive(window(number, meter=SEATS, at=MARCH.start + number * HOUR))
            await asyncio.gather(exact.rate_all(), exact.rate_all(), exact.rate_all())
        assert await quantity(exact) == 10

    async def test_what_changes_while_ingest_is_asked_is_asked_for_again(self, exact: Rating) -> None:
        await exact.start_march(CARD)
        tell(exact, "1", 1)
        await exact.receive(window(1, meter=SEATS))
        late = window(2, meter=SEATS, at=MARCH.start + HOUR)
        pending: list[asyncio.Task[int]] = []

        async def change() -> None:
            if not pending:
                pending.append(asyncio.create_task(exact.receive(late)))

        exact.ingest.before_quantities = change
        await exact.rate_all()
        await pending[0]
        tell(exact, "2", 2)
        await exact.rate_all()
        assert await quantity(exact) == 2


class TestWithoutIngest:
    async def test_the_period_waits_and_the_others_are_rated(self, exact: Rating) -> None:
        plain = RateCard("plain", 0, "USD", None, (Price("tokens", PerUnit(Decimal(1)), meter_id=TOKENS),))
        await exact.start_march(CARD, plain)
        await exact.accept([billing_period("sub-2", customer="cust-2", card="plain")])
        tell(exact, "5", 5)
        await exact.receive(window(5, meter=SEATS), window(8, customer="cust-2"))
        exact.ingest.down = True
        await exact.rate_all()

        assert await quantity(exact) == 0
        assert await quantity(exact, "tokens", subscription="sub-2") == 8
        assert [problem.reason for rated in exact.rated for problem in rated.problems.values()] == ["USAGE_UNAVAILABLE"]

        exact.ingest.down = False
        exact.now += timedelta(minutes=1)
        await exact.rate_all()
        assert await quantity(exact) == 5
        assert exact.rated[-1].problems == {}

    async def test_no_invoice_is_confirmed(self, exact: Rating) -> None:
        tell(exact, "5", 5)
        await exact.start_march(CARD)
        ask = exact.confirm_charges._ask_quantities

        class InVain(AskQuantities):
            async def __call__(self, questions: object) -> Answers:
                return Answers()

        exact.confirm_charges._ask_quantities = InVain(exact.open_api, exact.ingest)
        [refused] = await exact.confirm_charges(TENANT, [("sub-1", MARCH.start)])
        exact.confirm_charges._ask_quantities = ask
        [confirmed] = await exact.confirm_charges(TENANT, [("sub-1", MARCH.start)])

        assert (refused.reason, refused.charges) == ("USAGE_UNAVAILABLE", [])
        assert confirmed.reason == ""
        assert confirmed.charges[0].quantity == 5

    async def test_ingest_is_not_asked_for_periods_that_rest(self, exact: Rating) -> None:
        await exact.start_march(CARD)
        exact.ingest.mute = True
        await exact.receive(window(8, meter=SEATS))
        await exact.rate_all()
        exact.ingest.calls.clear()

        for number in range(5):
            await exact.receive(window(number, meter=SEATS, at=MARCH.start + number * HOUR))
            await exact.rate_all()
        asked_while_resting = list(exact.ingest.calls)
        exact.now += timedelta(seconds=1)
        await exact.rate_all()

        assert (asked_while_resting, exact.ingest.calls) == ([], ["quantities"])

    async def test_a_meter_that_ingest_does_not_know_holds_up_its_own_prices_only(self, exact: Rating) -> None:
        exact.ingest.meters.add("peak")
        exact.ingest.not_additive.add("peak")
        await exact.add_card(CARD)
        await exact.add_card(rate_card(Price("peak", PerUnit(Decimal(1)), meter_id="peak"), card_id="peaks"))
        await exact.accept([billing_period(), billing_period("sub-2", customer="cust-2", card="peaks")])
        exact.ingest.gone.add("peak")
        tell(exact, "5", 5)
        await exact.rate_all()

        assert await quantity(exact) == 5
        assert await exact.charges("sub-2") == {}


class TestBesideOthers:
    """Ingest may take its time: who needs no answer does not wait for it."""

    @pytest.fixture
    async def both(self, exact: Rating) -> Rating:
        """sub-1 of cust-1 needs answers, plain of cust-2 does not."""
        await exact.start_march(CARD, rate_card(card_id="plain"))
        await exact.accept([billing_period("plain", customer="cust-2", card="plain")])
        await exact.rate_all()
        return exact

    async def test_other_periods_are_rated_while_ingest_is_asked(self, both: Rating) -> None:
        meanwhile: list[Decimal] = []
        asked = 0

        async def use() -> None:
            nonlocal asked
            both.ingest.after_quantities, asked = _never_again, asked + 1
            for number in range(3):
                await both.receive(window(5, at=MARCH.start + number * HOUR, customer="cust-2"))
                await both.receive(window(5, at=MARCH.start + number * HOUR, meter=SEATS))
                await rate()
            meanwhile.append(await quantity(both, "tokens", subscription="plain"))

        rate = both.rate_due
        both.ingest.calls.clear()
        await both.receive(window(1, meter=SEATS))
        both.ingest.after_quantities = use
        await rate()
        calls = len(both.ingest.calls)
        tell(both, "9", 9)
        await rate()

        assert meanwhile == [15]
        assert (asked, calls) == (1, 1)  # The period is not asked for twice at once,
        assert await quantity(both) == 9  # and what changed meanwhile is asked for afterwards.

    async def test_they_are_rated_also_if_a_pass_sees_nothing_but_marks_of_such_periods(
        self, both: Rating, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rate_due_periods, "MARKS_MAX", 2)
        meanwhile: list[Decimal] = []

        async def use() -> None:
            both.ingest.after_quantities = _never_again
            for number in range(5):
                await both.receive(window(1, meter=SEATS, at=MARCH.start + number * HOUR))
            await both.receive(window(7, customer="cust-2"))
            await both.rate_due()
            meanwhile.append(await quantity(both, "tokens", subscription="plain"))

        await both.receive(window(1, meter=SEATS))
        both.ingest.after_quantities = use
        await both.rate_due()

        assert meanwhile == [7]

    async def test_a_period_comes_again_when_something_fails_while_it_is_asked_for(self, both: Rating) -> None:
        async def fail() -> None:
            both.ingest.after_quantities = _never_again
            raise ConnectionError

        tell(both, "3", 3)
        await both.receive(window(3, meter=SEATS))
        both.ingest.after_quantities = fail
        with pytest.raises(ConnectionError):
            await both.rate_due()
        await both.rate_due()

        assert await quantity(both) == 3


async def _never_again() -> None:
    """A hook that has done its work."""


class TestConfirmation:
    async def test_asks_once_more(self, exact: Rating) -> None:
        tell(exact, "5", 5)
        await exact.start_march(CARD)
        tell(exact, "6", 6)  # And no message tells.
        [confirmed] = await exact.confirm_charges(TENANT, [("sub-1", MARCH.start)])
        assert confirmed.reason == ""
        assert confirmed.charges[0].quantity == 6


class TestCarryOver:
    async def test_usage_before_a_period_has_the_period_rated_again(self, exact: Rating) -> None:
        await exact.start_march(CARD)
        await exact.accept([billing_period("sub-1", period=APRIL)])
        await exact.rate_all()
        exact.ingest.exact[TENANT, "cust-1", SEATS, APRIL.start] = ExactUsage(Decimal(4), 0, 9)
        await exact.receive(window(4, meter=SEATS, at=MARCH.end - HOUR))
        await exact.rate_all()
        assert await quantity(exact, at=APRIL.start) == 4

    async def test_usage_of_others_and_of_other_meters_has_not(self, exact: Rating) -> None:
        await exact.start_march(CARD)
        await exact.accept([billing_period("sub-1", period=APRIL)])
        await exact.rate_all()
        exact.rated.clear()
        await exact.receive(window(4, at=MARCH.start), window(4, meter=SEATS, customer="cust-2"))
        await exact.rate_all()
        assert [key.period_start for rated in exact.rated for key in rated.periods] == [MARCH.start]


class TestExplanation:
    async def test_days_have_events_and_no_quantity(self, exact: Rating) -> None:
        tell(exact, "5", 5)
        await exact.start_march(CARD)
        await exact.receive(window(5, meter=SEATS, events=2), window(7))
        await exact.rate_all()

        seats = await exact.get_charges.explain(TENANT, "sub-1", MARCH.start, "seats")
        tokens = await exact.get_charges.explain(TENANT, "sub-1", MARCH.start, "tokens")
        assert [(day.quantity, day.event_count) for day in seats.usage] == [(None, 2)]
        assert [(day.quantity, day.event_count) for day in tokens.usage] == [(Decimal(7), 1)]
        assert seats.charge.quantity == 5
