"""A billing period of a term that a preview names, as nobody has it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from libs.errors import InvalidInput, Violation
from services.rating.domain.commitment_term import TermSoFar, committed_periods
from services.rating.domain.number_checks import check_number
from services.rating.domain.rate_card import RateCard


class PlaceInTerm(NamedTuple):
    """The place of a billing period, from 1, and what the earlier ones have used of the commitment."""

    number: int
    used: Decimal


NO_PLACES: Mapping[str, PlaceInTerm] = {}


def terms_so_far(card: RateCard, places: Mapping[str, PlaceInTerm]) -> dict[str, TermSoFar]:
    """Return what the terms of a card's commitments have come to, by price.

    :raises InvalidInput: naming prices that have no such commitment, places beyond the term and impossible amounts
    """
    lengths = committed_periods(card)
    wrong: list[Violation] = []
    for price_id, place in places.items():
        path, length = f"terms[{price_id}]", lengths.get(price_id)
        if length is None:
            wrong.append(Violation(path, "NOT_ALLOWED", "has no commitment over several billing periods"))
        elif not 1 <= place.number <= length:
            wrong.append(Violation(f"{path}.number", "OUT_OF_RANGE", f"must be 1 to {length}"))
        elif violation := check_number(place.used, f"{path}.used"):
            wrong.append(violation)
    if wrong:
        raise InvalidInput(wrong)
    return {
        price_id: TermSoFar(place.number, place.number == lengths[price_id], place.used)
        for price_id, place in places.items()
    }
