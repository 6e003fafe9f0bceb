"""What subscriptions have to know of rate cards."""

from __future__ import annotations

from typing import NamedTuple

from libs.errors import FailedPrecondition


class RateCardFacts(NamedTuple):
    """The currencies of a card, `currency` being that of who states none, and whether it takes new subscriptions."""

    currency: str
    is_archived: bool = False
    further_currencies: tuple[str, ...] = ()


class CurrencyDiffers(FailedPrecondition):
    """The rate card has no prices in the currency of the subscription."""

    reason = "CURRENCY_DIFFERS"


class RateCardArchived(FailedPrecondition):
    """The rate card is closed for new subscriptions."""

    reason = "RATE_CARD_ARCHIVED"


def check_open(rate_card_id: str, card: RateCardFacts) -> None:
    """
    :raises RateCardArchived: if no further subscription may have the card
    """
    if card.is_archived:
        raise RateCardArchived(f"{rate_card_id} is archived", rateCardId=rate_card_id)


def check_currency(currency: str, rate_card_id: str, card: RateCardFacts) -> None:
    """
    :raises CurrencyDiffers: if a subscription in the currency cannot have the card
    """
    if currency not in (card.currency, *card.further_currencies):
        there = ", ".join((card.currency, *card.further_currencies))
        message = f"{rate_card_id} has prices in {there}, the subscription is in {currency}"
        raise CurrencyDiffers(message, rateCardId=rate_card_id, currency=currency)
