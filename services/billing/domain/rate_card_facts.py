"""What subscriptions have to know of rate cards."""

from __future__ import annotations

from typing import NamedTuple

from libs.errors import FailedPrecondition


class RateCardFacts(NamedTuple):
    """The currency of a card, and whether it is closed for new subscriptions."""

    currency: str
    is_archived: bool = False


class RateCardArchived(FailedPrecondition):
    """The rate card is closed for new subscriptions."""

    reason = "RATE_CARD_ARCHIVED"


def check_open(rate_card_id: str, card: RateCardFacts) -> None:
    """
    :raises RateCardArchived: if no further subscription may have the card
    """
    if card.is_archived:
        raise RateCardArchived(f"{rate_card_id} is archived", rateCardId=rate_card_id)
