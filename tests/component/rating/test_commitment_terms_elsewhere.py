"""Commitments over several billing periods in what only reads: simulations, forecasts, estimates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

import pytest

from libs.periods import Period
from services.rating.domain.billing_period import PeriodScope
from services.rating.domain.estimate import MeasuredEvent, MeasuredQuantity
from services.rating.domain.period_charge import PeriodCharge
from services.rating.domain.prices import NegativeQuantity, PerUnit, PricingOptions
from services.rating.domain.rate_card import Price, RateCard
from services.rating.usecases import simulate
from services.rating.usecases.estimate_event import EstimateEvent
from tests.component.rating.committed import YEAR, amounts, committed, expected, month, settle, start, used
from tests.component.rating.support import TENANT, TOKENS, Rating, billing_period, rate_card, window

PLAIN = rate_card(Price("tokens", PerUnit(Decimal("0.01")), TOKENS), card_id="plain")


def scope(first: int, last: int) -> PeriodScope:
    return PeriodScope(TENANT, Period(month(first).start, month(last).end))


async def simulated(rating: Rating, card: RateCard, first: int, last: int) -> list[tuple[int, int]]:
    """What each month costs by the card in force and by another one."""
    found = await rating.simulate.page(scope(first, last), card, None, 100)
    assert [item.problem for item in found] == [None] * len(found)
    return [(item.current, item.simulated) for item in found]


def minor(values: Sequence[Decimal]) -> list[int]:
    return [int(value * 100) for value in values]


class TestSimulation:
    QUANTITIES = (150_000,) * 9

    @pytest.mark.parametrize("first", [1, 7, 9])
    async def test_of_the_card_in_force_changes_nothing(self, rating: Rating, first: int) -> None:
        await start(rating, self.QUANTITIES)

        found = await simulated(rating, YEAR, first, 9)

        assert [current for current, _ in found] == minor(await amounts(rating, 9))[first - 1 :]
        assert all(current == then for current, then in found)

    async def test_counts_for_each_card_what_it_would_have_charged_itself(self, rating: Rating) -> None:
        await start(rating, self.QUANTITIES)
        dearer = replace(committed("12000"), model=PerUnit(Decimal("0.02")))

        found = await simulated(rating, rate_card(dearer), 1, 9)

        assert [current for current, _ in found] == minor(expected(self.QUANTITIES))
        assert [then for _, then in found] == minor(expected([2 * quantity for quantity in self.QUANTITIES]))

    async def test_of_a_further_version_counts_what_was_before_as_it_is(self, rating: Rating) -> None:
        await start(rating, self.QUANTITIES)
        found = await simulated(rating, rate_card(committed("6750")), 5, 6)
        # 6,000 before: 750 are left of 6,750, and then nothing.
        assert found == [(1_500_00, 750_00 + 1_125_00), (1_500_00, 2_250_00)]

    async def test_of_another_card_begins_a_term(self, rating: Rating) -> None:
        await start(rating, self.QUANTITIES)
        other = rate_card(committed("2000", periods=2), card_id="other")
        found = await simulated(rating, other, 8, 9)
        assert found == [(1_500_00, 1_500_00), (2_250_00, 500_00 + 1_500_00)]

    async def test_of_a_card_with_a_term_where_there_was_none(self, rating: Rating) -> None:
        await start(rating, [100, 200, 300], rate_card(*PLAIN.prices))
        found = await simulated(rating, rate_card(committed("10", periods=3)), 1, 3)
        assert found == [(1_00, 1_00), (2_00, 2_00), (3_00, 7_00)]

    async def test_of_a_card_without_a_term_where_there_was_one(self, rating: Rating) -> None:
        await start(rating, [100, 200, 300], rate_card(committed("10", periods=3)))
        assert await simulated(rating, PLAIN, 2, 3) == [(2_00, 2_00), (7_00, 3_00)]

    @pytest.mark.parametrize("size", [1, 2, 5])
    async def test_in_pages_comes_to_the_same(self, rating: Rating, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
        await start(rating, self.QUANTITIES)
        await rating.accept([billing_period("sub-2", period=month(number)) for number in range(1, 10)])
        card = rate_card(committed("6000"), card_id="other")
        whole = await simulated(rating, card, 2, 9)
        monkeypatch.setattr(simulate, "CHUNK", size)

        paged = [(item.current, item.simulated) async for item in rating.simulate.all(scope(2, 9), card)]

        assert len(paged) == 16
        assert paged == whole

    async def test_does_not_compare_what_depends_on_a_period_without_a_price(self, rating: Rating) -> None:
        strict = replace(committed("10", periods=3), options=PricingOptions(negative_quantity=NegativeQuantity.ERROR))
        await start(rating, [100, 100, 100, 100], rate_card(strict))
        await rating.receive(used(-200, 2, hour=1))

        found = await rating.simulate.page(scope(1, 4), rate_card(committed("20", periods=3)), None, 100)

        reasons = [item.problem.reason if item.problem else "" for item in found]
        assert reasons == ["", "PRICING_FAILED", "EARLIER_PERIOD_NOT_RATED", ""]


async def test_a_forecast_counts_what_the_term_has_come_to(rating: Rating) -> None:
    await start(rating, [150_000] * 9)
    found = [
        (await rating.forecast_charges(TENANT, "sub-1", month(number).start, month(number).end)).lines[0].expected
        for number in (8, 9)
    ]
    assert found == [1_500_00, 2_250_00]


async def test_an_estimate_is_what_really_sending_it_changes(rating: Rating) -> None:
    await start(rating, [150_000] * 8)

    class Measured:
        async def measure(self, _tenant: str, _event: bytes) -> MeasuredEvent:
            return MeasuredEvent(month(8).start, [MeasuredQuantity(TOKENS, Decimal(100), "", {}, True)])

    async def no_watermark(tenant_id: str) -> datetime | None:
        return None

    estimate = EstimateEvent(rating.open_api, Measured(), no_watermark)
    [period] = (await estimate(TENANT, "cust-1", b"event")).periods
    [line] = period.lines
    await rating.receive(window(100, at=month(8).start))
    await rating.receive(used(100, 8, hour=1), used(150_000, 8))
    await settle(rating)

    assert isinstance(line.after, PeriodCharge)
    assert [line.before.amount, line.marginal] == [1_500, Decimal("1.5")]
    assert line.after.amount == (await amounts(rating, 8))[7]
