"""From a billing period's usage to what is stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from libs.money import RoundingMode
from services.rating.domain.billing_period import BillingPeriod, PeriodKey
from services.rating.domain.period_charge import card_in_force, charges_of_period, in_card_order, withdrawn_charge
from services.rating.domain.prices import Flat, PerUnit
from services.rating.domain.rate_card import Price, RateCard
from services.rating.domain.usage import MeterUsage, UsageDigest

START = datetime(2026, 3, 1, tzinfo=UTC)
PERIOD = BillingPeriod(PeriodKey("acme", "sub", START), START + timedelta(days=31), "cust", "card", 1)
FEE = Price("fee", Flat(Decimal(20)), display_name="Platform fee")
TOKENS = Price(
    "tokens", PerUnit(Decimal("0.5")), meter_id="m", included_quantity=Decimal(2), rounding_mode=RoundingMode.UP
)


def _card(*prices: Price, version: int = 1, effective_at: datetime | None = None) -> RateCard:
    return RateCard("card", version, "USD", effective_at, prices)


def _usage(value: str, trace_parent: str = "") -> dict[str, MeterUsage]:
    return {"m": MeterUsage(UsageDigest(1, Decimal(value), 1, 1), trace_parent)}


def test_a_charge_says_all_that_a_consumer_needs() -> None:
    fee, tokens = charges_of_period(PERIOD, _card(FEE, TOKENS, version=3), _usage("10", "trace"), {})

    assert (fee.display_name, fee.meter_id, fee.quantity, fee.amount) == ("Platform fee", "", Decimal(1), Decimal(20))
    assert (tokens.display_name, tokens.meter_id, tokens.position) == ("tokens", "m", 1)
    assert (tokens.quantity, tokens.amount, tokens.rounding_mode) == (Decimal(10), Decimal(4), RoundingMode.UP)
    assert (tokens.period_end, tokens.customer_id, tokens.rate_card_version) == (PERIOD.period_end, "cust", 3)
    assert [part.kind for part in tokens.parts] == ["included", "per_unit"]
    assert (fee.trace_parent, tokens.trace_parent) == ("", "trace")


def test_a_price_that_is_gone_is_withdrawn_once() -> None:
    before = {charge.price_id: charge for charge in charges_of_period(PERIOD, _card(FEE, TOKENS), _usage("10"), {})}
    card = _card(TOKENS, version=2)
    fresh = charges_of_period(PERIOD, card, _usage("10"), {})

    gone = withdrawn_charge(before["fee"], card)

    assert (gone.price_id, gone.amount, gone.quantity, gone.withdrawn) == ("fee", Decimal(0), Decimal(0), True)
    assert gone.parts == ()
    assert gone.rate_card_version == 2
    assert [charge.price_id for charge in in_card_order([gone, *fresh])] == ["tokens", "fee"]
    assert withdrawn_charge(gone, card) == gone


def test_the_card_in_force_is_the_newest_effective_one() -> None:
    versions = [
        _card(FEE, version=3, effective_at=START + timedelta(hours=1)),
        _card(FEE),
        _card(FEE, version=2, effective_at=START),
    ]

    in_force = [card_in_force(versions, START + timedelta(hours=hours)) for hours in (-1, 0, 1)]

    assert [card.version if card else None for card in in_force] == [1, 2, 3]
    assert card_in_force(versions[:1], START) is None
