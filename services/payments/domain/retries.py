"""How often and when a payment is tried again after a decline, and how many tries a card has to bear.

Card networks fine merchants that try too often: Visa from the 16th try in 30 days on (the 21st since May 2025),
Mastercard from the 36th, and both for any try after a decline that says "never again". The limits here are per card
(a customer's gateway token) over all its payments, and below theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto

MAX_SOFT_DECLINES = 4
"""After so many a payment waits for a payment method, which then has as many tries."""
RETRY_AFTER = timedelta(days=1)
"""Between a soft decline and the next try, on the tenant's clock."""
CARD_WINDOW = timedelta(days=30)
"""Over which the tries of a card are counted, on the tenant's clock."""
DEFAULT_MAX_CARD_TRIES = 15
"""Tries of a card within the window that did not capture; see PAYMENTS_MAX_CARD_TRIES."""


class Verdict(Enum):
    """What may be done with a card now."""

    TRY = auto()
    WAIT = auto()
    """Tries under way may use up what is left: once they have ended it is known."""
    NEVER = auto()
    """It takes another card, or (after soft declines only) time."""


@dataclass(frozen=True, slots=True)
class CardHistory:
    """What has become of a card's tries that did not capture."""

    hard_declined: bool = False
    """Ever."""
    soft_declines: int = 0
    """Within the window."""
    under_way: int = 0

    def verdict(self, max_tries: int, *, begun: int) -> Verdict:
        """Whether one more may begin besides the `begun`, which the history does not know yet."""
        if self.hard_declined or self.soft_declines >= max_tries:
            return Verdict.NEVER
        return Verdict.TRY if self.soft_declines + self.under_way + begun < max_tries else Verdict.WAIT
