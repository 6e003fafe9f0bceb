"""Rate cards: what is refused, which version prices what, and that a request counts once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import pytest

from libs.errors import InvalidInput, RequestIdReused, Unavailable, Violation
from services.rating.domain.prices import Flat, PerUnit
from services.rating.domain.rate_card import Price, RateCard
from services.rating.usecases.create_rate_card import Request
from services.rating.usecases.errors import RateCardCurrencyFixed, RateCardEffectiveTimeNotLater
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

REQUEST_ID = "6f0f3f0e-3f43-4f0f-9d6b-3a1f3c1d9a10"
DEAR_TOKENS = Price("tokens", PerUnit(Decimal("0.5")), meter_id=TOKENS)


class TestCardVersions:
    async def test_a_period_is_priced_by_the_version_in_force_at_its_start(self, rating: Rating) -> None:
        await rating.add_card(rate_card())
        await rating.add_card(rate_card(Price("fee", Flat(Decimal(30))), effective_at=APRIL.start))
        await rating.accept([billing_period(), billing_period(period=APRIL)])
        await rating.rate_all()

        march, april = await rating.charges(), await rating.charges(at=APRIL.start)

        assert (march["fee"].amount, march["fee"].rate_card_version) == (Decimal(20), 1)
        assert {price: (charge.amount, charge.rate_card_version) for price, charge in april.items()} == {
            "fee": (Decimal(30), 2)
        }

    async def test_a_later_version_rates_known_periods_again_and_withdraws_what_it_lacks(self, rating: Rating) -> None:
        await rating.start_march()
        await rating.receive(window(4), window(7, meter=REQUESTS))
        await rating.rate_all()
        before = await rating.charges()

        await rating.add_card(rate_card(DEAR_TOKENS, effective_at=MARCH.start - HOUR))
        await rating.rate_all()

        after = await rating.charges()
        assert {price: charge.amount for price, charge in after.items()} == {"tokens": 2, "fee": 0, "requests": 0}
        assert list(after) == ["tokens", "fee", "requests"]  # Withdrawn ones last.
        assert all(after[price].version > before[price].version for price in after)
        assert await rating.differences() == []

    async def test_a_version_must_take_effect_after_the_one_before(self, rating: Rating) -> None:
        await rating.add_card(rate_card(effective_at=MARCH.start))

        for effective_at in (None, MARCH.start, MARCH.start - HOUR):
            with pytest.raises(RateCardEffectiveTimeNotLater):
                await rating.add_card(rate_card(effective_at=effective_at))
        await rating.add_card(rate_card(effective_at=MARCH.start + HOUR))

        assert (await rating.get_rate_cards.get(TENANT, "standard", 0)).card.version == 2

    async def test_a_card_keeps_its_currency(self, rating: Rating) -> None:
        await rating.add_card(rate_card())

        with pytest.raises(RateCardCurrencyFixed):
            await rating.add_card(rate_card(currency="EUR", effective_at=APRIL.start))

    async def test_without_a_version_in_force_a_period_is_set_aside(self, rating: Rating) -> None:
        await rating.start_march(rate_card(effective_at=APRIL.start))

        assert await rating.sql("SELECT reason FROM rating_problems") == [("RATE_CARD_NOT_IN_FORCE",)]


class TestCreate:
    async def test_the_same_request_again_gives_the_first_result(self, rating: Rating) -> None:
        request = Request(TENANT, REQUEST_ID, b"card")
        first = await rating.create_rate_card(request, rate_card(), [])
        await rating.add_card(rate_card(effective_at=APRIL.start))

        again = await rating.create_rate_card(request, rate_card(), [])

        assert again == first
        assert first.card == replace(rate_card(), version=1)

    async def test_the_same_request_id_for_another_card_is_refused(self, rating: Rating) -> None:
        await rating.create_rate_card(Request(TENANT, REQUEST_ID, b"card"), rate_card(), [])

        with pytest.raises(RequestIdReused):
            await rating.create_rate_card(Request(TENANT, REQUEST_ID, b"other"), rate_card(currency="EUR"), [])

    async def test_concurrent_requests_make_consecutive_versions(self, rating: Rating) -> None:
        cards = [rate_card(effective_at=MARCH.start + number * HOUR) for number in range(4)]
        outcomes = await asyncio.gather(*(rating.add_card(card) for card in cards), return_exceptions=True)

        stored = await rating.sql("SELECT version FROM rate_cards ORDER BY version")

        refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert [version for (version,) in stored] == list(range(1, 5 - len(refused)))
        assert all(isinstance(outcome, RateCardEffectiveTimeNotLater) for outcome in refused)

    async def test_unknown_meters_are_named(self, rating: Rating) -> None:
        rating.ingest.meters = {REQUESTS}

        assert await _violations(rating, rate_card()) == [("prices[1].meter_id", "METER_UNKNOWN")]

    async def test_an_archived_meter_is_priced_by_cards_that_did_so_before_only(self, rating: Rating) -> None:
        first = Request(TENANT, "first", b"card")
        await rating.create_rate_card(first, rate_card(), [])
        rating.ingest.archived = {TOKENS}

        assert await _violations(rating, rate_card(card_id="new")) == [("prices[1].meter_id", "METER_ARCHIVED")]
        await rating.add_card(rate_card(effective_at=APRIL.start))
        assert (await rating.create_rate_card(first, rate_card(), [])).card.version == 1
        await rating.add_card(rate_card(Price("fee", Flat(Decimal(1))), effective_at=APRIL.start + HOUR))
        again = rate_card(effective_at=APRIL.start + 2 * HOUR)
        assert await _violations(rating, again) == [("prices[1].meter_id", "METER_ARCHIVED")]

    async def test_everything_wrong_with_a_card_is_named_once(self, rating: Rating) -> None:
        card = rate_card(Price("a b", PerUnit(Decimal("NaN")), meter_id=TOKENS), card_id="", currency="usd")
        unreadable = Violation("prices[0].per_unit.unit_amount", "EMPTY", "empty text is not a number")

        assert await _violations(rating, card, [unreadable]) == [
            ("rate_card_id", "REQUIRED"),
            ("currency", "UNKNOWN_CURRENCY"),
            ("prices[0].price_id", "INVALID_ID"),
            ("prices[0].per_unit.unit_amount", "EMPTY"),
        ]
        assert rating.ingest.calls == []

    async def test_without_ingest_no_card_is_stored(self, rating: Rating) -> None:
        rating.ingest.down = True

        with pytest.raises(Unavailable):
            await rating.add_card(rate_card())

        assert await rating.sql("SELECT count(*) FROM rate_cards") == [(0,)]


class TestTimesThatAreOver:
    async def test_are_refused_and_nothing_is_rated_again(self, rating: Rating) -> None:
        await rating.start_march()
        fixed = rate_card(DEAR_TOKENS, effective_at=MARCH.start)

        with pytest.raises(InvalidInput) as caught:
            await rating.add_card(fixed, allow_past=False)

        assert [(item.field, item.reason) for item in caught.value.violations] == [
            ("effective_time", "EFFECTIVE_TIME_PAST")
        ]
        assert await rating.sql("SELECT count(*) FROM rating_marks") == [(0,)]
        await rating.add_card(fixed)
        await rating.rate_all()
        assert (await rating.charges())["tokens"].rate_card_version == 2

    async def test_begin_at_the_tenants_clock(self, rating: Rating) -> None:
        now = rating.now
        await rating.add_card(rate_card(card_id="now", effective_at=now), allow_past=False)
        rating.test_clocks = {TENANT: now - HOUR}
        await rating.add_card(rate_card(card_id="to-come", effective_at=now - HOUR), allow_past=False)
        rating.test_clocks = {TENANT: now + HOUR}

        with pytest.raises(InvalidInput):
            await rating.add_card(rate_card(card_id="over", effective_at=now), allow_past=False)

    async def test_of_what_is_there_already_are_no_matter(self, rating: Rating) -> None:
        first = rate_card(effective_at=rating.now)
        stored = await rating.add_card(first, allow_past=False, request_id=REQUEST_ID)
        rating.now += HOUR

        again = await rating.add_card(first, allow_past=False, request_id=REQUEST_ID)
        planned = await rating.create_rate_card.plan(TENANT, first, [])

        assert again == stored
        assert planned == stored.card


async def _violations(rating: Rating, card: RateCard, found: Sequence[Violation] = ()) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as caught:
        await rating.create_rate_card(Request(TENANT, REQUEST_ID, b"card"), card, found)
    return [(violation.field, violation.reason) for violation in caught.value.violations]
