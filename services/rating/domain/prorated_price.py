"""A price as it is for a part of a billing period."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

from libs.periods import Share
from services.rating.domain.price_terms import Commitment, PriceTerms
from services.rating.domain.prices import ZERO, Flat
from services.rating.domain.proration import Proration, prorated
from services.rating.domain.rate_card import Price
from services.rating.domain.rated_price import PartKind, RatedPart

_MICROSECONDS = -6


def has_shares(price: Price) -> bool:
    """Whether anything of a price is agreed on for a billing period as a whole."""
    terms = price.terms
    promised = (terms.minimum_amount, terms.maximum_amount, _of_one_period(terms.commitment))
    return isinstance(price.model, Flat) or bool(price.included_quantity) or any(x is not None for x in promised)


def for_share(price: Price, share: Fraction) -> Price:
    """The price with its share of what is agreed on for a whole period: flat amount, included quantity, minimum,
    maximum and commitment. What depends on the usage alone stays as it is, and so do discounts and a commitment that is
    for several periods."""
    model = Flat(prorated(price.model.amount, share)) if isinstance(price.model, Flat) else price.model
    return replace(
        price,
        model=model,
        included_quantity=prorated(price.included_quantity, share),
        terms=_terms(price.terms, share),
    )


def share_part(proration: Proration, share: Share) -> RatedPart:
    """What the breakdown shows: so many days or seconds of how many; no amount."""
    if proration is Proration.BY_DAY:
        label, part, whole = "days", Decimal(share.part), Decimal(share.whole)
    else:
        label, part, whole = "seconds", *(Decimal(time).scaleb(_MICROSECONDS) for time in share)
    return RatedPart(PartKind.PRORATED, part, ZERO, ZERO, per=whole, label=label)


def _terms(terms: PriceTerms, share: Fraction) -> PriceTerms:
    commitment = _of_one_period(terms.commitment)
    return replace(
        terms,
        minimum_amount=None if terms.minimum_amount is None else prorated(terms.minimum_amount, share),
        maximum_amount=None if terms.maximum_amount is None else prorated(terms.maximum_amount, share),
        commitment=terms.commitment
        if commitment is None
        else replace(commitment, value=prorated(commitment.value, share)),
    )


def _of_one_period(commitment: Commitment | None) -> Commitment | None:
    return commitment if commitment is not None and commitment.periods == 1 else None
