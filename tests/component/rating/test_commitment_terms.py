"""Commitments over several billing periods, over a real database."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta

from libs.periods import Period
from services.rating.domain.billing_period import BillingPeriod, PeriodKey
from services.rating.domain.price_override import PriceOverride
from services.rating.domain.price_terms import Commitment, CommitmentKind, PriceTerms
from services.rating.domain.prices import Flat, LinesBefore, NegativeQuantity, PerUnit, PricingOptions
from services.rating.domain.rate_card import Price, RateCard
from services.rating.domain.usage import WindowRow
from services.rating.usecases.confirm_charges import ConfirmedCharges
from services.rating.usecases.price_overrides import OverrideRequest
from services.rating.usecases.rate_periods import rate_periods
from tests.component.rating.committed import (
    YEAR,
    D,
    amounts,
    amounts_at,
    committed,
    expected,
    month,
    settle,
    start,
    used,
)
from tests.component.rating.support import REQUESTS, TENANT, TOKENS, Rating, billing_period, rate_card, window

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def version(price: Price, effective_at: datetime) -> RateCard:
    return rate_card(price, effective_at=effective_at)


class TestOneTerm:
    async def test_is_due_as_it_is_used_until_it_is_crossed_and_then_with_overage(self, rating: Rating) -> None:
        quantities = [150_000] * 12
        await start(rating, quantities)

        assert await amounts(rating, 12) == expected(quantities)
        assert (await amounts(rating, 12))[7:9] == [1500, 2250]
        assert sum(await amounts(rating, 12)) == 12_000 + 6_000 * D("1.5")
        assert await rating.differences() == []

    async def test_owes_what_is_missing_in_the_last_period(self, rating: Rating) -> None:
        quantities = [50_000, 0, 70_000, *[40_000] * 9]
        await start(rating, quantities)

        assert await amounts(rating, 12) == expected(quantities)
        assert sum(await amounts(rating, 12)) == 12_000

    async def test_is_followed_by_another_one(self, rating: Rating) -> None:
        await start(rating, [100, 200, 300, 400, 500], rate_card(committed("4", periods=2)))
        # 1 and 3 of 4 (1 + 2 + 1 missing); 4 of 4 in two periods of 3 and 4; the third term goes on.
        assert await amounts(rating, 5) == [1, 3, 3, D("5.5"), D("5.5")]

    async def test_says_in_the_breakdown_what_came_before_and_what_was_left(self, rating: Rating) -> None:
        await start(rating, [150_000] * 9)

        explained = await rating.get_charges.explain(TENANT, "sub-1", month(8).start, "tokens")
        after = await rating.get_charges.explain(TENANT, "sub-1", month(9).start, "tokens")

        parts: list[tuple[object, ...]] = [
            (part.kind.value, part.quantity, part.amount, part.label) for part in explained.charge.parts
        ]
        assert parts == [
            ("per_unit", 150_000, 1_500, ""),
            ("term_used", 10_500, 0, "period 8 of 12"),
            ("term_left", 1_500, 0, ""),
        ]
        crossed: list[tuple[object, ...]] = [
            (part.kind.value, part.quantity, part.amount) for part in after.charge.parts[1:]
        ]
        assert crossed == [
            ("term_used", 12_000, 0),
            ("term_left", 0, 0),
            ("overage", 1_500, 750),
        ]

    async def test_of_several_prices_together(self, rating: Rating) -> None:
        terms = PriceTerms(commitment=Commitment(CommitmentKind.AMOUNT, D(100), D(2), periods=3))
        card = rate_card(
            Price("tokens", PerUnit(D("0.333")), TOKENS),
            Price("fee", Flat(D(10))),
            Price("quarter", LinesBefore(), terms=terms),
        )
        await start(rating, [100, 200, 10], card)
        # 43.30 and 76.60 of 100: 19.90 too much; nothing is missing, and 13.33 more is above it.
        assert await amounts(rating, 3, "quarter") == [0, D("19.9"), D("13.33")]
        await rating.receive(used(-90, 1, hour=1), used(-200, 2, hour=1))
        await settle(rating)
        # 13.33 + 10 + 13.33
        assert await amounts(rating, 3, "quarter") == [0, 0, D("63.34")]

    async def test_subscriptions_of_one_customer_have_terms_of_their_own(self, rating: Rating) -> None:
        await rating.add_card(rate_card(committed("10", periods=2)))
        for name in ("sub-1", "sub-2"):
            await rating.accept([billing_period(name, period=month(number)) for number in (1, 2)])
        await rating.receive(used(800, 1), used(800, 2))
        await settle(rating)
        for name in ("sub-1", "sub-2"):
            assert await amounts(rating, 2, subscription=name) == [8, 11]


class TestLateUsage:
    async def test_moves_the_later_periods_of_the_term(self, rating: Rating) -> None:
        quantities = [150_000] * 9
        await start(rating, quantities)
        before = await amounts(rating, 9)

        await rating.receive(used(75_050, 2, hour=5))
        await settle(rating)

        quantities[1] += 75_050
        assert await amounts(rating, 9) == expected(quantities) != before
        assert await rating.differences() == []

    async def test_of_an_earlier_term_moves_nothing_of_the_next_one(self, rating: Rating) -> None:
        await start(rating, [100, 200, 300, 400], rate_card(committed("4", periods=2)))
        known = [(await rating.charges(at=month(number).start))["tokens"].version for number in (3, 4)]

        await rating.receive(used(1_000, 1, hour=1))
        await settle(rating)

        assert await amounts(rating, 4) == [D(4) + D(7) * D("1.5"), 3, 3, D("5.5")]
        assert [(await rating.charges(at=month(number).start))["tokens"].version for number in (3, 4)] == known

    async def test_that_has_not_moved_the_later_periods_yet_is_a_difference(self, rating: Rating) -> None:
        await start(rating, [100, 100, 100])
        await rating.sql("UPDATE committed_costs SET cost = cost + 1 WHERE period_start < '2026-01-15'")
        found = [item for item in await rating.reconcile(TENANT, None) if not item.ok]
        assert [(item.name, len(item.differences)) for item in found] == [
            ("used of commitments = earlier periods of the term", 2)
        ]

    async def test_that_changes_no_cost_has_nothing_rated_again(self, rating: Rating) -> None:
        await start(rating, [100] * 6)
        await rating.receive(window(5, meter=REQUESTS, at=month(2).start))
        await rating.rate_due()
        assert await rating.sql("SELECT count(*) FROM rating_marks") == [(0,)]

    async def test_a_void_gives_the_later_periods_back_what_it_had_used(self, rating: Rating) -> None:
        await start(rating, [150_000] * 9)
        row = next(row for row in rating.ingest.known.values() if row.start_s == int(month(3).start.timestamp()))
        await rating.receive(window(0, at=month(3).start, version=row.version + (1 << 20), events=0))
        await settle(rating)
        assert await amounts(rating, 9) == expected([150_000] * 2 + [0] + [150_000] * 6)

    async def test_in_any_order_with_several_raters_comes_to_the_same(self, rating: Rating) -> None:
        rng = random.Random(7)
        quantities = [0] * 12
        await start(rating, quantities)
        raters = [rating.another_rater() for _ in range(3)]

        async def rate(rater: Callable[[], Awaitable[bool]]) -> None:
            for _ in range(12):
                await rater()
                await asyncio.sleep(0)

        async def use() -> None:
            for hour in range(1, 31):
                at, quantity = rng.randrange(12), rng.randrange(1, 120_000)
                quantities[at] += quantity
                await rating.receive(used(quantity, at + 1, hour=hour))

        async def confirm() -> None:
            for number in (3, 7, 12, 9):
                await rating.confirm_charges(TENANT, [("sub-1", month(number).start)])

        await asyncio.gather(use(), confirm(), *map(rate, raters))
        await settle(rating)

        assert await amounts(rating, 12) == expected(quantities)
        assert await rating.differences() == []

    async def test_two_who_rate_periods_of_a_term_at_once_do_not_miss_each_other(self, rating: Rating) -> None:
        """The later period is priced while the earlier one is not committed, and did not exist before."""
        await start(rating, [100_000, 100_000])
        await rating.receive(used(1_050_000, 1, hour=1))
        key = PeriodKey(TENANT, "sub-1", month(1).start)
        async with rating.open_work(TENANT) as work:
            await work.queue.take([mark.number for mark in await work.queue.waiting(10)])
            await rate_periods(work, [key], rating.clock)
            await rating.accept([billing_period(period=month(3))])
            await rating.receive(used(100_000, 3))
            other = asyncio.ensure_future(rating.rate_due())
            # Until it waits, or has priced without what is not committed.
            while not other.done() and await rating.sql(WAITING) == [(0,)]:
                pass
        await other
        await settle(rating)
        assert await amounts(rating, 3) == expected([1_150_000, 100_000, 100_000])


class TestEverythingAtOnce:
    SUBSCRIPTIONS, MONTHS = 4, 7

    async def test_comes_to_what_a_calm_tenant_comes_to(self, rating: Rating) -> None:
        """Usage, periods in any order, cards that change, raters and confirmations, against the same in good order."""
        rng = random.Random(11)
        newest: dict[tuple[str, int], BillingPeriod] = {}
        windows: list[WindowRow] = []
        for tenant in (TENANT, "calm"):
            for card in ("standard", "other"):
                await rating.add_card(rate_card(committed("40", periods=3), card_id=card), tenant=tenant)

        async def accept() -> None:
            for count in range(60):
                name, number = f"sub-{rng.randrange(self.SUBSCRIPTIONS)}", rng.randrange(self.MONTHS) + 1
                card = rng.choice(("standard", "standard", "other"))
                period = billing_period(name, customer=f"of-{name}", period=month(number), card=card, version=count + 1)
                newest[name, number] = period
                await rating.accept([period])

        async def use(first_hour: int) -> None:
            for hour in range(first_hour, first_hour + 60):
                customer = f"of-sub-{rng.randrange(self.SUBSCRIPTIONS)}"
                row = used(rng.randrange(1, 2_000), rng.randrange(self.MONTHS) + 1, hour=hour, customer=customer)
                windows.append(row)
                await rating.receive(row)

        async def rate(rater: Callable[[], Awaitable[bool]]) -> None:
            for _ in range(60):
                await rater()
                await asyncio.sleep(0)

        async def confirm() -> None:
            for _ in range(15):
                asked = [(f"sub-{rng.randrange(self.SUBSCRIPTIONS)}", month(n + 1).start) for n in range(self.MONTHS)]
                await rating.confirm_charges(TENANT, asked)

        await asyncio.gather(accept(), use(0), confirm(), *(rate(rating.another_rater()) for _ in range(3)))
        for name, number in newest:
            newest[name, number] = replace(newest[name, number], rate_card_id="standard", version=100)
        await rating.accept(list(newest.values()))
        await asyncio.gather(use(60), *(rate(rating.another_rater()) for _ in range(3)))
        await settle(rating)
        calm = [replace(p, key=p.key._replace(tenant_id="calm")) for p in newest.values()]
        await rating.accept(calm)
        await rating.receive(*(row._replace(tenant_id="calm") for row in windows))
        await settle(rating)

        for name, number in newest:
            at = month(number).start
            busy, quiet = [await rating.charges(name, at=at, tenant=tenant) for tenant in (TENANT, "calm")]
            assert (busy["tokens"].amount, busy["tokens"].parts) == (quiet["tokens"].amount, quiet["tokens"].parts)


class TestPeriodsThatChange:
    async def test_one_that_comes_late_moves_the_counting(self, rating: Rating) -> None:
        await rating.add_card(rate_card(committed("10", periods=3)))
        await rating.accept([billing_period(period=month(number)) for number in (2, 3, 4)])
        await rating.receive(*(used(100, number) for number in (1, 2, 3, 4)))
        await settle(rating)
        late = (await rating.charges(at=month(4).start))["tokens"].amount

        await rating.accept([billing_period(period=month(1))])
        await settle(rating)

        assert late == 8
        assert await amounts(rating, 4) == [1, 1, 8, 1]

    async def test_one_in_the_middle_joins_what_was_apart(self, rating: Rating) -> None:
        await rating.add_card(rate_card(committed("10", periods=3)))
        await rating.accept([billing_period(period=month(number)) for number in (1, 3, 4, 5)])
        await rating.receive(*(used(100, number) for number in (1, 2, 3, 4, 5)))
        await settle(rating)
        assert [(await amounts_at(rating, number)) for number in (1, 3, 4, 5)] == [1, 1, 1, 8]

        await rating.accept([billing_period(period=month(2))])
        await settle(rating)
        assert await amounts(rating, 5) == [1, 1, 8, 1, 1]

    async def test_another_card_from_the_middle_on_ends_the_term_without_more(self, rating: Rating) -> None:
        await start(rating, [100] * 4, rate_card(committed("10", periods=4)))
        await rating.add_card(replace(rate_card(committed("10", periods=2)), rate_card_id="other"))

        changed = [billing_period(period=month(n), card="other", version=2) for n in (3, 4)]
        await rating.accept(changed)
        await settle(rating)

        assert await amounts(rating, 4) == [1, 1, 1, 9]

    async def test_one_that_no_card_prices_any_more_gives_back_what_it_had_used(self, rating: Rating) -> None:
        await start(rating, [100, 100, 100], rate_card(committed("10", periods=3)))
        later = rate_card(committed("10", periods=3), card_id="later", effective_at=month(2).start)
        await rating.add_card(later)

        await rating.accept([billing_period(period=month(n), card="later", version=2) for n in (1, 2, 3)])
        await settle(rating)

        assert [await amounts_at(rating, number) for number in (2, 3)] == [1, 9]
        assert await rating.differences() == ["rated billing periods = billing periods"]

    async def test_parts_of_a_split_period_share_a_place(self, rating: Rating) -> None:
        await start(rating, [100, 100, 100], rate_card(committed("10", periods=3)))
        assert await amounts(rating, 3) == [1, 1, 8]
        middle = month(3).start + timedelta(days=10)
        first = billing_period(period=Period(month(3).start, middle), whole=month(3), version=2)
        await rating.accept([first])
        await settle(rating)
        assert await amounts(rating, 3) == [1, 1, 8]

        await rating.accept([billing_period(period=Period(middle, month(3).end), whole=month(3))])
        await rating.receive(window(200, at=middle))
        await settle(rating)

        assert await amounts(rating, 3) == [1, 1, 1]
        assert (await rating.charges(at=middle))["tokens"].amount == 7

    async def test_a_term_that_ends_early_owes_nothing_more(self, rating: Rating) -> None:
        await start(rating, [100, 100], rate_card(committed("10", periods=3)))
        cut = Period(month(2).start, month(2).start + timedelta(days=10))
        await rating.accept([billing_period(period=cut, whole=month(2), version=2)])
        await settle(rating)
        assert await amounts(rating, 2) == [1, 1]


class TestPricesThatChange:
    async def test_periods_are_priced_by_their_own_version_and_count_for_the_next_one(self, rating: Rating) -> None:
        await start(rating, [100] * 3, rate_card(committed("10", periods=3)))
        await rating.add_card(version(committed("2", periods=3), month(2).start))
        await settle(rating)
        assert await amounts(rating, 3) == [1, 1, D("1.5")]

    async def test_a_version_without_such_a_commitment_counts_for_nobody(self, rating: Rating) -> None:
        await start(rating, [100] * 3, rate_card(committed("10", periods=3)))
        await rating.add_card(version(Price("tokens", PerUnit(D("0.01")), TOKENS), month(2).start))
        await settle(rating)
        assert await amounts(rating, 3) == [1, 1, 1]
        assert await rating.sql("SELECT count(*) FROM committed_costs") == [(1,)]

    async def test_an_override_has_a_commitment_that_the_card_has_not(self, rating: Rating) -> None:
        await start(rating, [100] * 4, rate_card(Price("tokens", PerUnit(D("0.01")), TOKENS)))
        agreed = PriceOverride("o-1", "standard", "", "sub-1", (committed("10", periods=2),), month(3).start, None)
        request = OverrideRequest(TENANT, str(uuid.uuid4()), repr(agreed).encode())
        await rating.price_overrides.create(request, agreed, [])
        await settle(rating)
        # Places are counted under the card: March is the first one of the second term.
        assert await amounts(rating, 4) == [1, 1, 1, 9]

        await rating.accept([billing_period(period=month(5))])
        await rating.receive(used(50, 3, hour=1))
        await settle(rating)
        assert await amounts(rating, 4) == [1, 1, D("1.5"), D("8.5")]


class TestConfirm:
    async def confirm(self, rating: Rating, *months: int) -> list[ConfirmedCharges]:
        return await rating.confirm_charges(TENANT, [("sub-1", month(number).start) for number in months])

    async def test_rates_earlier_periods_first_if_they_wait(self, rating: Rating) -> None:
        await start(rating, [150_000] * 9)
        await rating.receive(used(150_000, 2, hour=1))

        (ninth,) = await self.confirm(rating, 9)
        (eighth,) = await self.confirm(rating, 8)

        assert (eighth.reason, ninth.reason) == ("", "")
        assert [eighth.charges[0].amount, ninth.charges[0].amount] == [D(2_250), D(2_250)]
        await settle(rating)
        assert await amounts(rating, 9) == expected([150_000, 300_000, *[150_000] * 7])

    async def test_of_periods_that_were_never_rated_prices_them_in_order(self, rating: Rating) -> None:
        await rating.add_card(YEAR)
        quantities = [150_000] * 12
        await rating.accept([billing_period(period=month(number)) for number in range(12, 0, -1)])
        await rating.receive(*(used(quantity, number) for number, quantity in enumerate(quantities, 1)))

        confirmed = await self.confirm(rating, 12, 8, 9)

        wanted = expected(quantities)
        assert [item.charges[0].amount for item in confirmed] == [wanted[11], wanted[7], wanted[8]]

    async def test_waits_for_an_earlier_period_that_cannot_be_rated(self, rating: Rating) -> None:
        strict = replace(committed("10", periods=2), options=PricingOptions(negative_quantity=NegativeQuantity.ERROR))
        await start(rating, [100, 100], rate_card(strict))
        await rating.receive(used(-200, 1, hour=1))

        refused = await self.confirm(rating, 2)
        both = await self.confirm(rating, 1, 2)
        await rating.receive(used(0, 1, hour=1))
        confirmed = await self.confirm(rating, 2)

        assert [item.reason for item in refused] == ["EARLIER_PERIOD_NOT_RATED"]
        assert [item.reason for item in both] == ["PRICING_FAILED", "EARLIER_PERIOD_NOT_RATED"]
        assert [item.reason for item in confirmed] == [""]
        assert [item.charges[0].amount for item in confirmed] == [9]

    async def test_does_not_wait_for_one_before_the_first_version(self, rating: Rating) -> None:
        """Nothing will ever price it; it takes its place and counts nothing."""
        await start(rating, [100, 100, 100], rate_card(committed("10", periods=3), effective_at=month(2).start))
        first, second, third = await self.confirm(rating, 1, 2, 3)
        assert [first.reason, second.reason, third.reason] == ["RATE_CARD_NOT_IN_FORCE", "", ""]
        assert [second.charges[0].amount, third.charges[0].amount] == [1, 9]

    async def test_fetches_earlier_periods_that_are_unknown_here(self, rating: Rating) -> None:
        """As the stream has brought the first and the third one: without the second one a term would begin anew."""
        periods = [billing_period(period=month(number)) for number in (1, 2, 3)]
        rating.billing.known = periods
        await rating.add_card(rate_card(committed("10", periods=3)))
        await rating.accept([periods[0], periods[2]])
        await rating.receive(*(used(100, number) for number in (1, 2, 3)))
        await settle(rating)
        assert await amounts_at(rating, 3) == 1

        (third,) = await self.confirm(rating, 3)

        assert [third.reason, third.charges[0].amount] == ["", 8]
        assert await amounts(rating, 3) == [1, 1, 8]

    async def test_takes_in_how_an_earlier_period_has_changed(self, rating: Rating) -> None:
        await start(rating, [100, 100], rate_card(committed("10", periods=2)))
        other = billing_period(period=month(1), card="other", version=2)
        rating.billing.known = [other, billing_period(period=month(2))]

        (second,) = await self.confirm(rating, 2)

        assert [second.reason, second.charges[0].amount] == ["", 1]

    async def test_is_not_sure_of_a_term_without_billing(self, rating: Rating) -> None:
        await start(rating, [100, 100])
        await rating.accept([billing_period("sub-2", card="plain")])
        await rating.add_card(rate_card(Price("tokens", PerUnit(D(1)), TOKENS), card_id="plain"))
        rating.billing.down = True

        (second,) = await self.confirm(rating, 2)
        (other,) = await rating.confirm_charges(TENANT, [("sub-2", month(3).start)])

        assert [second.reason, other.reason] == ["EARLIER_PERIODS_UNKNOWN", ""]

    async def test_does_not_wait_for_one_of_an_earlier_term(self, rating: Rating) -> None:
        strict = replace(committed("10", periods=2), options=PricingOptions(negative_quantity=NegativeQuantity.ERROR))
        await start(rating, [100, 100, 100], rate_card(strict))
        await rating.receive(used(-200, 2, hour=1))
        assert [item.reason for item in await self.confirm(rating, 3)] == [""]

    async def test_waits_for_usage_of_an_earlier_period_that_is_asked_for_with_it(self, rating: Rating) -> None:
        await start(rating, [100, 100])
        extra = used(5, 1, hour=1)
        await rating.receive(extra)
        del rating.ingest.known[extra[:5]]
        first, second = await self.confirm(rating, 1, 2)
        assert (first.reason, second.reason) == ("USAGE_DIFFERS", "EARLIER_PERIOD_NOT_RATED")
