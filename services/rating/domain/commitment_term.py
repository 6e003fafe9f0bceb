"""Terms of commitments over several billing periods: where a period lies in its term, and what came before it.

A term is so many consecutive billing periods of a subscription, counted from the first one under their rate card. A
gap, or another card in between, ends it; what follows begins to count anew. Parts of one whole billing period that a
change of cards or an end has cut share one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from libs.periods import Period
from services.rating.domain.prices import ZERO
from services.rating.domain.rate_card import RateCard


class TermSoFar(NamedTuple):
    """The place of a billing period in its term, from 1, and what the earlier ones cost before the commitment.

    `is_last`: what is missing to the commitment is due with it.
    """

    number: int
    is_last: bool
    used: Decimal


MAX_COMMITTED_PERIODS = 60
FIRST_OF_TERM = TermSoFar(1, False, ZERO)
NO_TERM: Mapping[str, TermSoFar] = {}


class CountedPeriod(NamedTuple):
    """What places in terms depend on of a billing period."""

    start: datetime
    end: datetime
    rate_card_id: str
    whole: Period | None


class Term(NamedTuple):
    """Where a billing period lies: the start of the first one of its term, its own place from 1, whether it is the
    last one that is known of the last place."""

    start: datetime
    number: int
    is_last: bool


class Terms:
    """The terms of one subscription; `periods` are all that are known, by start."""

    def __init__(self, periods: Sequence[CountedPeriod]) -> None:
        self._starts = [period.start for period in periods]
        self._index = {start: index for index, start in enumerate(self._starts)}
        self._places: list[_Place] = []
        for index, period in enumerate(periods):
            before = periods[index - 1] if index else None
            if before is None or before.end != period.start or before.rate_card_id != period.rate_card_id:
                self._places.append(_Place(index, 0))
            else:
                run, number = self._places[-1]
                shared = period.whole is not None and period.whole == before.whole
                self._places.append(_Place(run, number if shared else number + 1))

    def term(self, start: datetime, length: int) -> Term:
        """Return the place of the period that starts then, in terms of so many periods.

        :raises KeyError: if there is no such period
        """
        first = index = self._index[start]
        run, number = self._places[index]
        while first > run and self._places[first - 1].number >= number - number % length:
            first -= 1
        is_last_part = self._places[index + 1 : index + 2] != [self._places[index]]
        return Term(self._starts[first], number % length + 1, is_last_part and number % length == length - 1)

    def before(self, start: datetime, places: int) -> list[datetime]:
        """Return the starts of the earlier consecutive periods that may lie in one term of so many places with it.

        :raises KeyError: if there is no such period
        """
        first = index = self._index[start]
        run, number = self._places[index]
        while first > run and self._places[first - 1].number > number - places:
            first -= 1
        return self._starts[first:index]


class _Place(NamedTuple):
    """Of a period: the index of the first one of those that are consecutive, and how many places behind it."""

    run: int
    number: int


def committed_periods(card: RateCard) -> dict[str, int]:
    """Over how many billing periods the commitments of a card are, by price id; those of one period are left out."""
    return {
        price.price_id: price.terms.commitment.periods
        for price in card.prices
        if price.terms.commitment is not None and price.terms.commitment.periods > 1
    }
