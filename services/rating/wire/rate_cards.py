"""Rate cards on the wire."""

from __future__ import annotations

from collections.abc import Iterable

from libs.money import RoundingMode, plain
from services.rating.domain.prices import ZERO
from services.rating.domain.rate_card import CurrencyPrices, Price, RateCard
from services.rating.domain.rollout_guard import RolloutGuard
from services.rating.domain.stored_card import StoredRateCard
from services.rating.wire.card_reading import Reading
from services.rating.wire.charges import ROUNDING_MODES
from services.rating.wire.price_models import model_from_pb, model_to_pb
from services.rating.wire.price_terms import (
    options_from_pb,
    options_to_pb,
    proration_from_pb,
    proration_to_pb,
    terms_from_pb,
    terms_to_pb,
)
from services.rating.wire.times import instant_from_pb, instant_to_pb, period_from_pb
from services.rating.wire.windowed_prices import per_window_from_pb, per_window_to_pb
from steelyard.rating.v1 import rate_card_pb2 as pb
from steelyard.rating.v1 import rate_card_service_pb2

_REASON_LENGTH_MAX = 500
_MODES = {pb.ROUNDING_MODE_UNSPECIFIED: RoundingMode.HALF_EVEN} | {wire: mode for mode, wire in ROUNDING_MODES.items()}


def rate_card_from_pb(message: pb.RateCard, reading: Reading) -> RateCard:
    """Return the card as version 0."""
    effective_at = None
    if message.HasField("effective_time"):
        try:
            effective_at = instant_from_pb(message.effective_time)
        except (ValueError, OverflowError):
            reading.add("effective_time", "INVALID_TIME", "must be an instant in the years 1 to 9999")
    return RateCard(
        rate_card_id=message.rate_card_id,
        version=0,
        currency=message.currency,
        effective_at=effective_at,
        prices=_prices_from_pb(message.prices, "", reading),
        display_name=message.display_name,
        further_currencies=tuple(
            CurrencyPrices(further.currency, _prices_from_pb(further.prices, f"further_currencies[{index}].", reading))
            for index, further in enumerate(message.further_currencies)
        ),
    )


def _prices_from_pb(messages: Iterable[pb.Price], path: str, reading: Reading) -> tuple[Price, ...]:
    return tuple(price_from_pb(price, f"{path}prices[{index}]", reading) for index, price in enumerate(messages))


def guard_from_pb(message: rate_card_service_pb2.RolloutGuard, reading: Reading) -> RolloutGuard | None:
    """Return the guard of a request; None if it cannot be read, which `reading` then tells."""
    percent = reading.number(message.max_change_percent, "rollout_guard.max_change_percent")
    if percent < 0:
        reading.add("rollout_guard.max_change_percent", "NEGATIVE", "must not be negative")
    if len(message.override_reason) > _REASON_LENGTH_MAX:
        reading.add("rollout_guard.override_reason", "TOO_LONG", f"must be at most {_REASON_LENGTH_MAX} characters")
    if "\0" in message.override_reason:
        reading.add("rollout_guard.override_reason", "CONTROL_CHARACTER", "must not contain U+0000")
    try:
        within = period_from_pb(message.period)
    except (ValueError, OverflowError) as error:
        reading.add("rollout_guard.period", "INVALID_PERIOD", str(error))
        return None
    return RolloutGuard(within, percent, message.override_reason)


def rate_card_to_pb(stored: StoredRateCard) -> pb.RateCard:
    """Return a stored version for the wire."""
    message = rate_card_message(stored.card)
    message.create_time.CopyFrom(instant_to_pb(stored.created_at))
    message.override_reason = stored.override_reason
    if stored.archived_at is not None:
        message.archive_time.CopyFrom(instant_to_pb(stored.archived_at))
        message.archive_reason = stored.archive_reason
    return message


def rate_card_message(card: RateCard) -> pb.RateCard:
    """Return a version for the wire, whether or not it is stored."""
    message = pb.RateCard(
        rate_card_id=card.rate_card_id,
        version=card.version,
        display_name=card.display_name,
        currency=card.currency,
        prices=map(price_to_pb, card.prices),
        further_currencies=[
            pb.CurrencyPrices(currency=further.currency, prices=map(price_to_pb, further.prices))
            for further in card.further_currencies
        ],
    )
    if card.effective_at is not None:
        message.effective_time.CopyFrom(instant_to_pb(card.effective_at))
    return message


def price_from_pb(message: pb.Price, path: str, reading: Reading) -> Price:
    """Return a price."""
    return Price(
        price_id=message.price_id,
        model=model_from_pb(message, path, reading),
        meter_id=message.meter_id or None,
        included_quantity=reading.number(message.included_quantity, f"{path}.included_quantity", default=ZERO),
        rounding_mode=reading.choice(_MODES, message.rounding_mode, f"{path}.rounding_mode", RoundingMode.HALF_EVEN),
        display_name=message.display_name,
        terms=terms_from_pb(message, path, reading),
        options=options_from_pb(message, path, reading),
        proration=proration_from_pb(message, path, reading),
        per_window=per_window_from_pb(message, path, reading),
    )


def price_to_pb(price: Price) -> pb.Price:
    """Return a price for the wire."""
    message = pb.Price(
        price_id=price.price_id,
        display_name=price.display_name,
        meter_id=price.meter_id or "",
        included_quantity=plain(price.included_quantity),
        rounding_mode=ROUNDING_MODES[price.rounding_mode],
    )
    model_to_pb(price.model, message)
    terms_to_pb(price.terms, message)
    options_to_pb(price.options, message)
    proration_to_pb(price.proration, message)
    per_window_to_pb(price.per_window, message)
    return message
