"""What one more event would cost, over real PostgreSQL, with ingest's meters played by plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

import pytest

from libs.errors import InvalidInput, Unavailable
from libs.money import plain
from services.rating.domain.estimate import (
    EstimatedLine,
    EstimatedPeriod,
    MeasuredEvent,
    MeasuredQuantity,
    NotEstimable,
)
from services.rating.domain.exact_usage import ExactUsage
from services.rating.domain.price_terms import Commitment, CommitmentKind, PercentDiscount, PriceTerms
from services.rating.domain.prices import Flat, LinesBefore, Matrix, MatrixRow, Percentage, PerUnit
from services.rating.domain.rate_card import Price, RateCard
from services.rating.usecases.estimate_event import Estimate, EstimateEvent
from tests.component.rating.support import (
    APRIL,
    HOUR,
    MARCH,
    NOW,
    REQUESTS,
    TENANT,
    TOKENS,
    Rating,
    billing_period,
    rate_card,
    window,
)

USERS = "users"


def measured(quantity: str | int, meter: str = TOKENS, *, additive: bool = True, **dimensions: str) -> MeasuredQuantity:
    return MeasuredQuantity(meter, Decimal(quantity), "", dimensions, additive)


@dataclass
class Asked:
    """What is asked of others: ingest's measuring and the watermark."""

    rating: Rating
    watermark: datetime | None = NOW
    seen: list[tuple[str, bytes]] = field(default_factory=list)
    found: MeasuredEvent = field(default_factory=lambda: MeasuredEvent(MARCH.start + HOUR, ()))
    failure: Exception | None = None

    async def measure(self, tenant_id: str, event: bytes) -> MeasuredEvent:
        self.seen.append((tenant_id, event))
        if self.failure:
            raise self.failure
        return self.found

    async def passed(self, tenant_id: str) -> datetime | None:
        return self.watermark

    async def estimate(
        self, *quantities: MeasuredQuantity, at: datetime = MARCH.start + HOUR, tenant: str = TENANT
    ) -> Estimate:
        """The estimate of an event of cust-1 in which this is measured."""
        self.found = MeasuredEvent(at, quantities)
        estimate = EstimateEvent(self.rating.open_api, self, self.passed)
        return await estimate(tenant, "cust-1", b"event")

    async def period(self, *quantities: MeasuredQuantity) -> EstimatedPeriod:
        """The same of its only billing period."""
        [period] = (await self.estimate(*quantities)).periods
        return period


@pytest.fixture
def asked(rating: Rating) -> Asked:
    return Asked(rating)


def amounts(lines: Sequence[EstimatedLine]) -> dict[str, tuple[str, str, str]]:
    """Before, after and what is added, of lines that can be estimated."""
    found = {}
    for line in lines:
        assert not isinstance(line.after, NotEstimable), line
        assert line.marginal is not None
        found[line.before.price_id] = (plain(line.before.amount), plain(line.after.amount), plain(line.marginal))
    return found


class TestMarginalAmounts:
    @pytest.mark.parametrize(
        ("used", "more", "expected"),
        [
            # 100 are included, then 1,000 at 0.01, then 1 at once and 0.0025 each.
            (0, "100", (0, 0, 0)),
            (50, "60", (0, "0.1", "0.1")),
            (1000, "100", (9, 10, 1)),
            (1100, "1", (10, "11.0025", "1.0025")),
            (1050, "100", ("9.5", "11.125", "1.625")),
            (3000, "0.5", ("15.75", "15.75125", "0.00125")),
            (1200, "-150", ("11.25", "9.5", "-1.75")),
        ],
        ids=["included", "into the first", "to its edge", "into the second", "over the edge", "deep", "less"],
    )
    async def test_through_tiers(
        self, asked: Asked, used: int, more: str, expected: tuple[Decimal, Decimal, Decimal]
    ) -> None:
        await asked.rating.start_march()
        await asked.rating.receive(window(used))

        found = await asked.period(measured(more))

        [line] = found.lines
        assert not isinstance(line.after, NotEstimable)
        assert (line.before.amount, line.after.amount, line.marginal) == tuple(map(Decimal, expected))
        assert (line.before.quantity, line.after.quantity) == (Decimal(used), Decimal(used) + Decimal(more))
        assert found.marginal == Decimal(expected[2])

    async def test_are_what_really_sending_it_changes(self, asked: Asked) -> None:
        rating = asked.rating
        discount = PriceTerms(discounts=(PercentDiscount(Decimal(10)),))
        await rating.start_march(
            rate_card(
                *rate_card().prices,
                Price("share", Percentage(Decimal(3), fixed_per_event=Decimal("0.25")), meter_id=REQUESTS),
                Price("together", LinesBefore(), terms=discount),
            )
        )
        await rating.receive(window(1050, events=3), window(10, meter=REQUESTS, events=4))
        await rating.rate_all()
        before = await rating.charges()

        found = await asked.period(measured(100), measured(7, REQUESTS))
        await rating.receive(
            window(100, at=MARCH.start + HOUR), window(7, meter=REQUESTS, at=MARCH.start + HOUR, events=1)
        )
        await rating.rate_all()

        after = await rating.charges()
        assert [line.before.price_id for line in found.lines] == ["tokens", "requests", "share", "together"]
        for line in found.lines:
            price_id = line.before.price_id
            assert not isinstance(line.after, NotEstimable)
            assert (line.before.amount, line.after.amount) == (before[price_id].amount, after[price_id].amount)
        # tokens 1.625; 7 x 0.000125; 3 % of 7 and one event; a tenth of the lines before, rounded to cents, less:
        # 20 + 9.5 + 0 + 1.3 = 30.8 becomes 20 + 11.12 + 0 + 1.76 = 32.88.
        assert amounts(found.lines) == {
            "tokens": ("9.5", "11.125", "1.625"),
            "requests": ("0.00125", "0.002125", "0.000875"),
            "share": ("1.3", "1.76", "0.46"),
            "together": ("-3.08", "-3.288", "-0.208"),
        }
        assert found.marginal == Decimal("1.877875")

    async def test_below_a_minimum_usage_is_free_and_above_a_commitment_it_is_overage(self, asked: Asked) -> None:
        minimum = PriceTerms(minimum_amount=Decimal(50))
        committed = PriceTerms(commitment=Commitment(CommitmentKind.AMOUNT, Decimal(10), Decimal("1.5")))
        await asked.rating.start_march(
            rate_card(
                Price("least", PerUnit(Decimal("0.1")), meter_id=TOKENS, terms=minimum),
                Price("committed", PerUnit(Decimal("0.1")), meter_id=REQUESTS, terms=committed),
            )
        )
        await asked.rating.receive(window(300), window(90, meter=REQUESTS))

        found = await asked.period(measured(100), measured(30, REQUESTS))

        # 9 of 10 committed are used; of 3 more 2 are overage, at half as much again.
        assert amounts(found.lines) == {"least": ("50", "50", "0"), "committed": ("10", "13", "3")}

    async def test_by_dimensions(self, asked: Asked) -> None:
        matrix = Matrix(
            (MatrixRow((("region", "eu"),), Decimal(2)), MatrixRow((("region", "us"),), Decimal(3))), Decimal(1)
        )
        await asked.rating.start_march(rate_card(Price("tokens", matrix, meter_id=TOKENS)))
        await asked.rating.receive(window(10, dimensions='{"region":"eu"}'))

        found = {
            name: (await asked.period(quantity)).marginal
            for name, quantity in {
                "known": measured(5, region="eu"),
                "new": measured(5, region="us"),
                "none": measured(5),
            }.items()
        }

        assert found == {"known": 10, "new": 15, "none": 5}

    async def test_nothing_is_stored(self, asked: Asked) -> None:
        await asked.rating.start_march()
        before = await asked.rating.charges()

        await asked.period(measured(100))
        await asked.rating.rate_all()

        assert await asked.rating.charges() == before
        assert await asked.rating.differences() == []


def card_with_users() -> RateCard:
    """A price on distinct users between others, and a tenth off all of them."""
    discount = PriceTerms(discounts=(PercentDiscount(Decimal(10)),))
    return rate_card(
        Price("users", PerUnit(Decimal(4)), meter_id=USERS),
        Price("requests", PerUnit(Decimal(2)), meter_id=REQUESTS),
        Price("together", LinesBefore(), terms=discount),
    )


class TestWhatCannotBeEstimated:
    async def test_quantities_that_do_not_add_up_and_what_depends_on_them(self, asked: Asked) -> None:
        rating = asked.rating
        rating.ingest.meters.add(USERS)
        rating.ingest.not_additive.add(USERS)
        rating.ingest.exact[TENANT, "cust-1", USERS, MARCH.start] = ExactUsage(Decimal(3), 9, 1)
        await rating.start_march(card_with_users())

        found = await asked.period(measured(1, USERS, additive=False), measured(5, REQUESTS))

        users, requests, together = found.lines
        assert (users.before.amount, users.after) == (Decimal(12), NotEstimable.NOT_ADDITIVE)
        assert users.marginal is None
        assert requests.marginal == 10
        assert (together.before.amount, together.after) == (Decimal("-1.2"), NotEstimable.OTHER_LINE)
        assert found.marginal is None

        other = await asked.period(measured(5, REQUESTS))
        assert amounts(other.lines) == {"requests": ("0", "10", "10"), "together": ("-1.2", "-2.2", "-1")}

    async def test_a_period_without_a_price(self, asked: Asked) -> None:
        await asked.rating.accept([billing_period()])

        found = await asked.period(measured(5))

        assert found.problem is not None
        assert (found.problem.reason, found.lines, found.marginal) == ("RATE_CARD_UNKNOWN", (), None)

    async def test_a_quantity_that_ingest_has_not_told(self, asked: Asked) -> None:
        rating = asked.rating
        rating.ingest.meters.add(USERS)
        rating.ingest.not_additive.add(USERS)
        rating.ingest.mute = True
        await rating.start_march(card_with_users())

        found = await asked.period(measured(5, REQUESTS))

        assert found.problem is not None
        assert (found.problem.reason, found.lines) == ("USAGE_UNAVAILABLE", ())

    @pytest.mark.parametrize("failure", [Unavailable("down"), InvalidInput.of("event.properties.n", "X", "is bad")])
    async def test_what_ingest_says_is_passed_on(self, asked: Asked, failure: Exception) -> None:
        asked.failure = failure
        with pytest.raises(type(failure)):
            await asked.estimate()


class TestPeriods:
    async def test_of_all_subscriptions_that_are_open_then(self, asked: Asked) -> None:
        rating = asked.rating
        await rating.start_march(
            rate_card(), rate_card(Price("x", PerUnit(Decimal(1)), meter_id=TOKENS), card_id="other")
        )
        await rating.accept(
            [
                billing_period("sub-2", card="other"),
                billing_period("sub-2", card="other", period=APRIL),
                billing_period("sub-3", customer="cust-2"),
            ]
        )

        estimate = await asked.estimate(measured(200), at=MARCH.end - HOUR)
        april = await asked.estimate(measured(200), at=APRIL.start)

        found = {period.period.key.subscription_id: period.marginal for period in estimate.periods}
        assert found == {"sub-1": 1, "sub-2": 200}
        assert [period.period.key.subscription_id for period in april.periods] == ["sub-2"]
        assert (estimate.watermark, estimate.quantities) == (NOW, (measured(200),))
        assert asked.seen == [(TENANT, b"event")] * 2

    async def test_another_tenant_has_none(self, asked: Asked) -> None:
        await asked.rating.start_march()

        assert (await asked.estimate(measured(200), tenant="initech")).periods == []

    async def test_of_a_part_of_a_period_for_its_share(self, asked: Asked) -> None:
        await asked.rating.add_card(rate_card())
        half = replace(MARCH, end=MARCH.start + 10 * 24 * HOUR)
        await asked.rating.accept([billing_period(period=half, whole=MARCH)])

        assert (await asked.period(measured(200))).marginal == 1

    async def test_what_no_meter_counts_adds_nothing(self, asked: Asked) -> None:
        await asked.rating.start_march(rate_card(Price("fee", Flat(Decimal(5)))))

        found = await asked.period()

        assert (list(found.lines), found.marginal) == ([], Decimal(0))
