"""Prices in further currencies say the same as those of the card, except for amounts."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given

from libs.cli.yaml_messages import to_yaml
from libs.money import MINOR_DIGITS
from services.rating.domain.currency_validation import MAX_FURTHER_CURRENCIES
from services.rating.domain.price_override import PriceOverride, agreed_card
from services.rating.domain.price_terms import (
    AmountDiscount,
    Commitment,
    CommitmentKind,
    PercentDiscount,
    PriceTerms,
)
from services.rating.domain.price_unit import PriceUnit
from services.rating.domain.prices import (
    AnyPriceModel,
    Dynamic,
    Flat,
    Graduated,
    GraduatedPercentage,
    Matrix,
    MatrixRow,
    Percentage,
    PercentageTier,
    PerUnit,
    Stairstep,
    Step,
    TimeBand,
    TimeOfDay,
    WindowPricing,
    WindowSize,
)
from services.rating.domain.proration import Proration
from services.rating.domain.rate_card import CurrencyPrices, Price, RateCard
from services.rating.domain.validation import check_rate_card
from services.rating.wire.rate_cards import rate_card_message
from tests.support.rate_card_files import valid_cards
from tests.unit.rating.domain.prices import any_prices, tier

ONE, TWO = Decimal(1), Decimal(2)
FEE = Price("fee", Flat(ONE))
TOKENS = Price("tokens", PerUnit(ONE), "m")
GUIDE = Path(__file__).resolve().parents[4] / "docs" / "guides" / "currencies.md"
AT = "further_currencies[0].prices"


def card(prices: tuple[Price, ...], *further: CurrencyPrices) -> RateCard:
    return RateCard("standard", 1, "USD", None, prices, further_currencies=further)


def found(one: Price, other: Price) -> list[tuple[str, str]]:
    both = card((one,), CurrencyPrices("EUR", (other,)))
    return [(violation.field, violation.reason) for violation in check_rate_card(both)]


def refused(*further: CurrencyPrices, prices: tuple[Price, ...] = (FEE, TOKENS)) -> list[tuple[str, str]]:
    return [(violation.field, violation.reason) for violation in check_rate_card(card(prices, *further))]


def test_the_example_of_the_guide_is_a_card_that_can_be_made() -> None:
    (example,) = re.findall(r"^```yaml\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (made,) = valid_cards(example)
    assert made.currencies == ["USD", "EUR"]

    exported = to_yaml(rate_card_message(made))
    assert valid_cards(exported) == [made]


def test_a_unit_costs_something_of_its_own_in_each_currency() -> None:
    def in_units(name: str, amount: Decimal) -> Price:
        return replace(TOKENS, terms=PriceTerms(price_unit=PriceUnit(name, amount)))

    assert found(in_units("credits", ONE), in_units("credits", TWO)) == []
    assert found(in_units("credits", ONE), in_units("coins", ONE)) == [(f"{AT}[0].price_unit", "PRICES_DIFFER")]
    assert found(in_units("credits", ONE), TOKENS) == [(f"{AT}[0].price_unit", "PRICES_DIFFER")]


@given(any_prices)
def test_a_price_is_like_itself(price: Price) -> None:
    assert found(price, price) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Flat(ONE), Flat(TWO)),
        (PerUnit(ONE), PerUnit(TWO)),
        (Graduated((tier("5", "1"), tier(None, "2"))), Graduated((tier("5", "3", "1"), tier(None, "4")))),
        (Stairstep((Step(None, ONE),)), Stairstep((Step(None, TWO),))),
        (Matrix((MatrixRow((("a", "b"),), ONE),), ONE), Matrix((MatrixRow((("a", "b"),), TWO),), TWO)),
        (TimeOfDay((TimeBand("night", 0, 60, ONE),), ONE), TimeOfDay((TimeBand("night", 0, 60, TWO),), TWO)),
        (Percentage(ONE, ONE), Percentage(ONE, TWO)),
        (
            GraduatedPercentage((PercentageTier(ONE, ONE), PercentageTier(None, TWO))),
            GraduatedPercentage((PercentageTier(TWO, ONE, TWO), PercentageTier(None, TWO))),
        ),
    ],
)
def test_amounts_of_models_may_differ(one: AnyPriceModel, other: AnyPriceModel) -> None:
    meter = None if isinstance(one, Flat) else "m"

    assert found(Price("p", one, meter), Price("p", other, meter)) == []


def test_amounts_of_terms_may_differ() -> None:
    def terms(amount: Decimal) -> Price:
        commitment = Commitment(CommitmentKind.AMOUNT, amount, TWO)
        return replace(
            TOKENS,
            terms=PriceTerms(None, amount, amount + 1, commitment, (AmountDiscount(amount), PercentDiscount(TWO))),
        )

    assert found(terms(ONE), terms(TWO)) == []


@pytest.mark.parametrize(
    ("one", "other", "field"),
    [
        (TOKENS, replace(TOKENS, price_id="tokens-eur"), "price_id"),
        (TOKENS, replace(TOKENS, meter_id="other"), "meter_id"),
        (TOKENS, replace(TOKENS, included_quantity=ONE), "included_quantity"),
        (TOKENS, replace(TOKENS, display_name="Name"), "display_name"),
        (TOKENS, replace(TOKENS, model=Graduated((tier(None, "1"),))), "graduated"),
        (TOKENS, replace(TOKENS, model=PerUnit(ONE, Decimal(1000))), "per_unit"),
        (TOKENS, replace(TOKENS, per_window=WindowPricing(WindowSize.HOUR)), "per_window"),
        (TOKENS, replace(TOKENS, terms=PriceTerms(minimum_amount=ONE)), "minimum_amount"),
        (FEE, replace(FEE, proration=Proration.BY_DAY), "proration"),
        (
            replace(TOKENS, terms=PriceTerms(discounts=(PercentDiscount(ONE),))),
            replace(TOKENS, terms=PriceTerms(discounts=(PercentDiscount(TWO),))),
            "discounts",
        ),
        (
            replace(TOKENS, terms=PriceTerms(commitment=Commitment(CommitmentKind.QUANTITY, ONE))),
            replace(TOKENS, terms=PriceTerms(commitment=Commitment(CommitmentKind.QUANTITY, TWO))),
            "commitment",
        ),
        (
            replace(TOKENS, terms=PriceTerms(commitment=Commitment(CommitmentKind.AMOUNT, ONE, periods=12))),
            replace(TOKENS, terms=PriceTerms(commitment=Commitment(CommitmentKind.AMOUNT, ONE))),
            "commitment",
        ),
        (replace(TOKENS, model=Percentage(ONE)), replace(TOKENS, model=Percentage(TWO)), "percentage"),
        (replace(TOKENS, model=Dynamic(ONE)), replace(TOKENS, model=Dynamic(TWO)), "dynamic"),
        (
            replace(TOKENS, model=Graduated((tier("5", "1"), tier(None, "2")))),
            replace(TOKENS, model=Graduated((tier("6", "1"), tier(None, "2")))),
            "graduated",
        ),
        (
            replace(TOKENS, model=Matrix((MatrixRow((("a", "b"),), ONE),), ONE)),
            replace(TOKENS, model=Matrix((MatrixRow((("a", "c"),), ONE),), ONE)),
            "matrix",
        ),
    ],
)
def test_nothing_else_may_differ(one: Price, other: Price, field: str) -> None:
    assert found(one, other) == [(f"{AT}[0].{field}", "PRICES_DIFFER")]


def test_each_currency_has_all_prices_in_their_order() -> None:
    assert refused(CurrencyPrices("EUR", (FEE,))) == [(AT, "PRICES_DIFFER")]
    assert refused(CurrencyPrices("EUR", (FEE, TOKENS, replace(TOKENS, price_id="more")))) == [(AT, "PRICES_DIFFER")]
    assert refused(CurrencyPrices("EUR", (TOKENS, FEE))) == [
        (f"{AT}[0].price_id", "PRICES_DIFFER"),
        (f"{AT}[1].price_id", "PRICES_DIFFER"),
    ]


def test_currencies_are_known_and_stand_there_once() -> None:
    same = (FEE, TOKENS)

    assert refused(CurrencyPrices("EUX", same)) == [("further_currencies[0].currency", "UNKNOWN_CURRENCY")]
    assert refused(CurrencyPrices("USD", same)) == [("further_currencies[0].currency", "NOT_UNIQUE")]
    assert refused(CurrencyPrices("EUR", same), CurrencyPrices("EUR", same)) == [
        ("further_currencies[1].currency", "NOT_UNIQUE")
    ]
    most = [CurrencyPrices(code, same) for code in sorted(MINOR_DIGITS.keys() - {"USD"})]
    assert refused(*most[:MAX_FURTHER_CURRENCIES]) == []
    assert refused(*most[: MAX_FURTHER_CURRENCIES + 1]) == [("further_currencies", "TOO_MANY")]


def test_amounts_in_every_currency_are_checked() -> None:
    assert found(FEE, replace(FEE, model=Flat(Decimal(-1)))) == [(f"{AT}[0].flat.amount", "NEGATIVE")]


class TestInCurrency:
    CARD = card((FEE,), CurrencyPrices("EUR", (replace(FEE, model=Flat(TWO)),)))

    def test_a_card_has_the_prices_of_that_currency_only(self) -> None:
        euros = self.CARD.in_currency("EUR")

        assert euros == replace(card((replace(FEE, model=Flat(TWO)),)), currency="EUR")
        assert self.CARD.in_currency("") == self.CARD.in_currency("USD") == card((FEE,))

    def test_there_is_no_other_one(self) -> None:
        assert self.CARD.in_currency("GBP") is None

    @pytest.mark.parametrize(("currency", "priced"), [("EUR", "EUR"), ("USD", "USD"), ("", "USD")])
    def test_overrides_count_in_their_currency_only(self, currency: str, priced: str) -> None:
        override = PriceOverride(
            "o", "standard", "c", "", (replace(FEE, model=Flat(Decimal(9))),), None, None, currency=currency
        )

        amounts = {}
        for asked in ("USD", "EUR"):
            agreed = agreed_card(self.CARD, asked, [override])
            assert agreed is not None
            amounts[asked] = agreed.prices[0].model
        assert amounts == {"USD": Flat(ONE), "EUR": Flat(TWO)} | {priced: Flat(Decimal(9))}
        assert agreed_card(self.CARD, "GBP", [override]) is None
