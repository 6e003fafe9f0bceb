"""Another rate card over past usage."""

from __future__ import annotations

from decimal import Decimal

import pytest

from libs.money import round_to_minor
from libs.periods import Period
from services.rating.domain.billing_period import PeriodScope
from services.rating.domain.exact_usage import ExactUsage
from services.rating.domain.prices import Flat, Matrix, MatrixRow, PerUnit
from services.rating.domain.rate_card import Price, RateCard
from services.rating.domain.simulation import SimulatedLine, SimulatedPeriod
from services.rating.usecases import simulate
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
MARCH_OF_ALL = PeriodScope(TENANT, MARCH)
DEARER = rate_card(
    Price("fee", Flat(Decimal("25.00"))),
    Price("tokens", PerUnit(Decimal("0.02")), meter_id=TOKENS),
    Price("support", Flat(Decimal("1.005"))),
)


async def compared(rating: Rating, card: RateCard, scope: PeriodScope = MARCH_OF_ALL) -> list[SimulatedPeriod]:
    return await rating.simulate.page(scope, card, None, 100)


class TestComparison:
    async def test_lines_of_both_cards_rounded_as_an_invoice_rounds_them(self, rating: Rating) -> None:
        await rating.start_march()
        await rating.receive(window(1_200), window(4_001, meter=REQUESTS))

        (found,) = await compared(rating, DEARER)

        assert found.lines == [
            SimulatedLine("fee", 20_00, 25_00),
            SimulatedLine("requests", 50, None),  # 0.500125
            SimulatedLine("support", None, 1_00),  # 1.005, half-even
            SimulatedLine("tokens", 11_25, 24_00),
        ]
        assert (found.current, found.simulated, found.problem) == (31_75, 50_00, None)

    async def test_the_card_in_force_changes_nothing(self, rating: Rating) -> None:
        await rating.start_march()
        await rating.receive(window(5_000), window(77, meter=REQUESTS))
        await rating.rate_all()

        (found,) = await compared(rating, rate_card())

        assert found.current == found.simulated
        charged = (await rating.charges()).values()
        rounded = [round_to_minor(charge.amount, "USD", charge.rounding_mode) for charge in charged]
        assert found.current == sum(money.minor_units for money in rounded)

    async def test_usage_that_was_not_rated_yet_counts_on_both_sides(self, rating: Rating) -> None:
        await rating.start_march()
        await rating.receive(window(5_000))

        (found,) = await compared(rating, rate_card())

        assert found.current == found.simulated == 40_75  # 20 + 1000 x 0.01 + 3900 x 0.0025 + 1

    async def test_nothing_is_stored(self, rating: Rating) -> None:
        await rating.start_march()
        await rating.receive(window(100_000))
        await rating.rate_all()
        before = await rating.charges()

        await compared(rating, DEARER)
        await rating.rate_all()

        assert await rating.charges() == before

    async def test_usage_is_split_by_dimensions_that_only_the_simulated_card_prices(self, rating: Rating) -> None:
        await rating.start_march()
        await rating.receive(
            window(10, dimensions='{"region":"eu"}'),
            window(5, dimensions='{"region":"us"}'),
            window(4, dimensions='{"region":"eu"}', at=MARCH.start + HOUR),
            window(1_000, dimensions='{"region":"eu"}', at=MARCH.end),
        )
        matrix = Matrix((MatrixRow((("region", "eu"),), Decimal(2)),), Decimal(1))

        (found,) = await compared(rating, rate_card(Price("tokens", matrix, meter_id=TOKENS)))

        assert found.simulated == (14 * 2 + 5) * 100

    async def test_ingest_is_asked_for_meters_that_do_not_add_up(self, rating: Rating) -> None:
        rating.ingest.exact[TENANT, "cust-1", SEATS, MARCH.start] = ExactUsage(Decimal(7), 3, 5)
        await rating.start_march()
        seats = rate_card(Price("seats", PerUnit(Decimal(10)), meter_id=SEATS, exact_usage=True))

        (found,) = await compared(rating, seats)

        assert (found.simulated, found.current) == (70_00, 20_00)

    async def test_without_an_answer_there_is_no_comparison(self, rating: Rating) -> None:
        await rating.start_march()
        rating.ingest.mute = True
        seats = rate_card(Price("seats", PerUnit(Decimal(10)), meter_id=SEATS, exact_usage=True))

        (found,) = await compared(rating, seats)

        assert found.problem is not None
        assert found.problem.reason == "USAGE_UNAVAILABLE"
        assert not found.lines

    async def test_another_currency_is_no_comparison(self, rating: Rating) -> None:
        await rating.start_march()

        (found,) = await compared(rating, rate_card(currency="EUR"))

        assert found.problem is not None
        assert found.problem.reason == "CURRENCY_DIFFERS"

    async def test_without_a_card_in_force_there_is_none(self, rating: Rating) -> None:
        await rating.accept([billing_period(card="unheard-of")])

        (found,) = await compared(rating, DEARER)

        assert found.problem is not None
        assert found.problem.reason == "RATE_CARD_UNKNOWN"


class TestScope:
    @pytest.fixture
    async def three(self, rating: Rating) -> Rating:
        await rating.add_card(rate_card())
        await rating.add_card(rate_card(card_id="other"))
        await rating.accept(
            [
                billing_period("sub-1", customer="cust-b"),
                billing_period("sub-2", customer="cust-a", card="other"),
                billing_period("sub-3", customer="cust-b", period=APRIL),
                billing_period("sub-0", customer="cust-c"),
            ]
        )
        return rating

    async def _found(self, rating: Rating, scope: PeriodScope) -> list[tuple[str, str]]:
        return [item.place[:2] for item in await compared(rating, DEARER, scope)]

    async def test_periods_that_start_in_it_by_customer(self, three: Rating) -> None:
        expected = [("cust-a", "sub-2"), ("cust-b", "sub-1"), ("cust-c", "sub-0")]
        assert await self._found(three, MARCH_OF_ALL) == expected

    async def test_of_one_card(self, three: Rating) -> None:
        assert await self._found(three, replace_scope(priced_by="other")) == [("cust-a", "sub-2")]

    async def test_of_some_customers(self, three: Rating) -> None:
        scope = replace_scope(within=Period(MARCH.start, APRIL.end), customer_ids=("cust-b", "nobody"))
        assert await self._found(three, scope) == [("cust-b", "sub-1"), ("cust-b", "sub-3")]

    async def test_of_one_tenant(self, three: Rating) -> None:
        await three.add_card(rate_card(), tenant="other")
        await three.accept([billing_period("sub-9", tenant="other")])

        assert await self._found(three, PeriodScope("other", MARCH)) == [("cust-1", "sub-9")]

    async def test_pages_miss_nothing(self, three: Rating, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(simulate, "CHUNK", 1)

        found = [item.place[:2] async for item in three.simulate.all(MARCH_OF_ALL, DEARER)]

        assert found == [("cust-a", "sub-2"), ("cust-b", "sub-1"), ("cust-c", "sub-0")]

    async def test_the_summary_is_of_all(self, three: Rating) -> None:
        summary = (await three.simulate.summaries(MARCH_OF_ALL, DEARER))["USD"]

        assert (summary.periods, summary.losers, summary.current, summary.simulated) == (3, 3, 60_00, 78_00)


def replace_scope(**changes: object) -> PeriodScope:
    return MARCH_OF_ALL._replace(**changes)  # type: ignore[arg-type]
