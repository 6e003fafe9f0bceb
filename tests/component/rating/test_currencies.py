"""One card with amounts in several currencies: each subscription is priced in its own, nothing is converted."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

import pytest

from libs.errors import InvalidInput
from services.rating.domain.billing_period import PeriodScope
from services.rating.domain.price_override import PriceOverride
from services.rating.domain.prices import Flat, PerUnit, WindowPricing, WindowSize
from services.rating.domain.rate_card import CurrencyPrices, Price, RateCard
from services.rating.domain.rollout_guard import RolloutGuard
from services.rating.usecases.current_charges import GetCurrentCharges
from services.rating.usecases.errors import RateCardCurrencyFixed, RolloutGuardExceeded
from services.rating.usecases.get_charges import PreviewCharge
from services.rating.usecases.price_overrides import OverrideRequest
from services.rating.usecases.simulate import CURRENCY_DIFFERS
from tests.component.rating.support import APRIL, MARCH, TENANT, TOKENS, Rating, billing_period, rate_card, window

MARCH_OF_ALL = PeriodScope(TENANT, MARCH)
DOLLARS, EUROS = ("10", "1"), ("9", "0.8")
FEES = replace(
    rate_card(Price("fee", Flat(Decimal(10)))),
    further_currencies=(CurrencyPrices("EUR", (Price("fee", Flat(Decimal(9))),)),),
)


def prices(fee: str, unit: str) -> tuple[Price, ...]:
    hourly = WindowPricing(WindowSize.HOUR)
    return (
        Price("fee", Flat(Decimal(fee))),
        Price("tokens", PerUnit(Decimal(unit)), meter_id=TOKENS),
        Price("hourly", PerUnit(Decimal(unit)), meter_id=TOKENS, per_window=hourly),
    )


def card(
    dollars: tuple[str, str] = DOLLARS, euros: tuple[str, str] | None = EUROS, at: datetime | None = None
) -> RateCard:
    further = () if euros is None else (CurrencyPrices("EUR", prices(*euros)),)
    return replace(rate_card(*prices(*dollars), effective_at=at), further_currencies=further)


async def amounts(rating: Rating, subscription: str, at: datetime = MARCH.start) -> list[tuple[str, str]]:
    charges = await rating.charges(subscription, at=at)
    return [(f"{charge.amount.normalize():f}", charge.currency) for _, charge in sorted(charges.items())]


@pytest.fixture
async def sold(rating: Rating) -> Rating:
    """100 tokens in March of three customers: with a subscription in dollars, in euros, and in none that is stated."""
    await rating.add_card(card())
    stated = {"usd": "USD", "eur": "EUR", "old": ""}
    await rating.accept([billing_period(name, customer=name, currency=currency) for name, currency in stated.items()])
    await rating.receive(*(window(100, customer=name) for name in stated))
    await rating.rate_all()
    return rating


class TestRating:
    async def test_each_subscription_is_charged_in_its_currency(self, sold: Rating) -> None:
        assert await amounts(sold, "eur") == [("9", "EUR"), ("80", "EUR"), ("80", "EUR")]
        for name in ("usd", "old"):
            assert await amounts(sold, name) == [("10", "USD"), ("100", "USD"), ("100", "USD")]

    async def test_the_card_is_kept_as_it_was_stated(self, sold: Rating) -> None:
        stored = (await sold.get_rate_cards.get(TENANT, "standard", 0)).card

        assert replace(stored, version=0) == card()
        assert await sold.create_rate_card.plan(TENANT, card(), []) == stored

    async def test_a_card_without_the_currency_prices_nothing(self, sold: Rating) -> None:
        await sold.accept([billing_period("gbp", customer="usd", currency="GBP")])
        await sold.rate_all()

        assert await amounts(sold, "gbp") == []
        [(reason,)] = await sold.sql("SELECT reason FROM rating_problems WHERE subscription_id = 'gbp'")
        assert reason == "RATE_CARD_LACKS_CURRENCY"

    async def test_a_version_with_the_currency_prices_what_had_none(self, rating: Rating) -> None:
        await rating.add_card(card(euros=None))
        await rating.accept([billing_period(period=APRIL, currency="EUR")])
        await rating.rate_all()
        assert await amounts(rating, "sub-1", APRIL.start) == []

        await rating.add_card(card(at=APRIL.start))
        await rating.rate_all()

        assert await amounts(rating, "sub-1", APRIL.start) == [("9", "EUR"), ("0", "EUR"), ("0", "EUR")]

    async def test_a_period_from_before_gets_its_currency_from_a_later_state(self, sold: Rating) -> None:
        await sold.accept([billing_period("old", customer="old", currency="EUR", version=2)])
        await sold.rate_all()

        assert await amounts(sold, "old") == [("9", "EUR"), ("80", "EUR"), ("80", "EUR")]

    async def test_what_an_open_period_costs_now_is_in_its_currency(self, rating: Rating) -> None:
        await rating.add_card(FEES)
        await rating.accept([billing_period(currency="EUR")])

        (found,) = await GetCurrentCharges(rating.open_api, rating.ingest)(TENANT, "cust-1", MARCH.start)

        assert [(charge.amount, charge.currency) for charge in found.charges] == [(Decimal(9), "EUR")]

    async def test_windows_of_a_charge_are_those_of_its_currency(self, sold: Rating) -> None:
        explained = await sold.get_charges.explain(TENANT, "eur", MARCH.start, "hourly")

        assert [found.amount for found in explained.windows.windows] == [Decimal(80)]

    async def test_a_forecast_is_in_the_currency(self, rating: Rating) -> None:
        await rating.add_card(FEES)
        await rating.accept([billing_period(currency="EUR")])

        forecast = await rating.forecast_charges(TENANT, "sub-1", MARCH.start, rating.now)

        assert (forecast.currency, [line.expected for line in forecast.lines]) == ("EUR", [9_00])

    async def test_exact_quantities_are_asked_for_in_every_currency(self, rating: Rating) -> None:
        rating.ingest.not_additive.add(TOKENS)
        units = {
            code: Price("tokens", PerUnit(Decimal(unit)), meter_id=TOKENS)
            for code, unit in (("USD", "1"), ("EUR", "2"))
        }
        both = replace(rate_card(units["USD"]), further_currencies=(CurrencyPrices("EUR", (units["EUR"],)),))

        stored = (await rating.add_card(both)).card

        assert [price.exact_usage for item in stored.further_currencies for price in item.prices] == [True]


class TestVersions:
    async def test_keep_the_currencies_of_those_before(self, sold: Rating) -> None:
        with pytest.raises(RateCardCurrencyFixed) as refused:
            await sold.add_card(card(euros=None, at=APRIL.start))

        assert refused.value.metadata == {"rateCardId": "standard", "missing": "EUR"}
        assert (await sold.get_rate_cards.get(TENANT, "standard", 0)).card.version == 1

    async def test_may_add_currencies(self, sold: Rating) -> None:
        more = card(at=APRIL.start)
        pounds = CurrencyPrices("GBP", prices("8", "0.7"))

        stored = await sold.add_card(replace(more, further_currencies=(pounds, *more.further_currencies)))

        assert stored.card.currencies == ["USD", "GBP", "EUR"]


class TestOverrides:
    def _agreed(self, currency: str, fee: str = "5") -> PriceOverride:
        fees = (Price("fee", Flat(Decimal(fee))),)
        return PriceOverride("o-" + currency, "standard", "both", "", fees, None, None, currency=currency)

    @pytest.fixture
    async def both(self, rating: Rating) -> Rating:
        """A customer with a subscription in each currency."""
        await rating.add_card(card())
        await rating.accept([billing_period(code, customer="both", currency=code) for code in ("USD", "EUR")])
        await rating.rate_all()
        return rating

    async def _create(self, rating: Rating, override: PriceOverride) -> PriceOverride:
        request = OverrideRequest(TENANT, str(uuid.uuid4()), repr(override).encode())
        stored = await rating.price_overrides.create(request, override, [])
        await rating.rate_all()
        return stored

    @pytest.mark.parametrize(("currency", "fees"), [("EUR", ["10", "5"]), ("USD", ["5", "9"]), ("", ["5", "9"])])
    async def test_price_subscriptions_in_their_currency(self, both: Rating, currency: str, fees: list[str]) -> None:
        stored = await self._create(both, self._agreed(currency))

        assert stored.currency == currency
        assert [(await amounts(both, code))[0] for code in ("USD", "EUR")] == list(
            zip(fees, ("USD", "EUR"), strict=True)
        )

    async def test_in_a_currency_that_the_card_lacks_are_refused(self, both: Rating) -> None:
        with pytest.raises(InvalidInput) as refused:
            await self._create(both, self._agreed("GBP"))

        assert [(item.field, item.reason) for item in refused.value.violations] == [
            ("price_override.currency", "CURRENCY_NOT_ON_CARD")
        ]


class TestSimulations:
    async def test_compare_each_billing_period_in_its_currency(self, sold: Rating) -> None:
        found = await sold.simulate.page(MARCH_OF_ALL, card(("20", "1"), ("9", "0.9")), None, 10)

        assert [(item.currency, item.current, item.simulated) for item in found] == [
            ("EUR", 169_00, 189_00),
            ("USD", 210_00, 220_00),
            ("USD", 210_00, 220_00),
        ]

    async def test_never_add_currencies(self, sold: Rating) -> None:
        summaries = await sold.simulate.summaries(MARCH_OF_ALL, card(("20", "1"), ("9", "0.7")))

        assert {code: (item.periods, item.current, item.simulated) for code, item in summaries.items()} == {
            "USD": (2, 420_00, 440_00),
            "EUR": (1, 169_00, 149_00),
        }
        assert {code: (item.losers, item.winners) for code, item in summaries.items()} == {"USD": (2, 0), "EUR": (0, 1)}

    async def test_do_not_compare_what_the_tried_card_has_no_prices_for(self, sold: Rating) -> None:
        summaries = await sold.simulate.summaries(MARCH_OF_ALL, card(euros=None))

        assert summaries.keys() == {"USD"}
        assert summaries["USD"].problem_counts == {CURRENCY_DIFFERS: 1}

    async def test_a_guard_judges_every_currency(self, sold: Rating) -> None:
        guard = RolloutGuard(MARCH, Decimal(10))
        await sold.add_card(card(("11", "1"), ("9", "0.8"), at=APRIL.start), guard)

        later = APRIL.end
        with pytest.raises(RolloutGuardExceeded) as refused:
            await sold.add_card(card(("11", "1"), ("9", "1"), at=later), guard)

        assert (refused.value.metadata["customerCount"], refused.value.metadata["customers"]) == ("1", "eur")

    async def test_a_guard_does_not_set_one_currency_off_against_another(self, rating: Rating) -> None:
        await rating.add_card(card())
        await rating.accept([billing_period(code, customer="both", currency=code) for code in ("USD", "EUR")])
        guard = RolloutGuard(MARCH, Decimal(10))

        with pytest.raises(RolloutGuardExceeded) as refused:
            await rating.add_card(card(("13", "1"), ("6", "0.8"), at=APRIL.start), guard)

        # Once in each currency.
        assert (refused.value.metadata["customerCount"], refused.value.metadata["customers"]) == ("2", "both")


class TestPreviews:
    async def test_are_in_the_currency_that_is_asked_for(self, rating: Rating) -> None:
        await rating.add_card(FEES)
        preview = PreviewCharge(rating.get_rate_cards)

        for asked, currency, amount in (("", "USD", 10), ("USD", "USD", 10), ("EUR", "EUR", 9)):
            found, charges = await preview(TENANT, "standard", 0, {}, {}, {}, currency=asked)
            assert found.currency == currency
            assert [charge.rated.amount for charge in charges] == [Decimal(amount)]
        with pytest.raises(InvalidInput, match="USD, EUR"):
            await preview(TENANT, "standard", 0, {}, {}, {}, currency="GBP")
