"""From the quantity of a billing period to the amount of a price, in stages.

Each stage takes what the one before it has left, and shows what it did as parts whose amounts add up:
convert -> included -> model -> minimum and maximum -> commitment -> discounts -> price unit. What is selected and
aggregated comes from the meter, and rounding to minor units is the invoice line's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from libs.money import exact, round_exact
from services.rating.domain.commitment_term import FIRST_OF_TERM, TermSoFar
from services.rating.domain.cumulative_commitment import CumulativeCommitment, rate_committed_period
from services.rating.domain.price_terms import (
    Commitment,
    CommitmentKind,
    ConversionOperation,
    Discount,
    PercentDiscount,
    PriceTerms,
    UnitConversion,
)
from services.rating.domain.price_unit import in_currency
from services.rating.domain.prices import ONE, ZERO, Flat, LinesBefore, Matrix, PriceModel, PricingOptions, TimeOfDay
from services.rating.domain.pricing import amount_of, rate
from services.rating.domain.pricing.matrix import rate_matrix
from services.rating.domain.pricing.time_of_day import rate_time_of_day
from services.rating.domain.rate_card import Price
from services.rating.domain.rated_price import PartKind, RatedPart, RatedPrice
from services.rating.domain.usage import DimensionedQuantity
from services.rating.domain.usage_by_window import WindowQuantity


def rate_price(
    price: Price,
    quantity: Decimal,
    event_count: int = 0,
    by_dimensions: Sequence[DimensionedQuantity] = (),
    so_far: TermSoFar = FIRST_OF_TERM,
    by_week_time: Sequence[WindowQuantity] = (),
) -> RatedPrice:
    """Price a quantity and number of events, in the currency of the card: see `rate_in_units`."""
    rated = rate_in_units(price, quantity, event_count, by_dimensions, so_far, by_week_time)
    return in_currency(rated, price.terms.price_unit)


def rate_in_units(
    price: Price,
    quantity: Decimal,
    event_count: int = 0,
    by_dimensions: Sequence[DimensionedQuantity] = (),
    so_far: TermSoFar = FIRST_OF_TERM,
    by_week_time: Sequence[WindowQuantity] = (),
) -> RatedPrice:
    """Price a quantity and number of events in the unit that the price is agreed on in, which is money if it has none.

    `by_dimensions` is the same quantity for a matrix, `by_week_time` for a price by time of day.

    `so_far`: what the term of its commitment has come to before, if that is over several periods.

    :raises NegativeQuantityRefused: if the quantity is negative and the price refuses that
    :raises QuantityOutsideTiers: if the last tier is bounded and the quantity beyond it
    :raises decimal.Inexact: if the amount does not fit the context of quantities
    """
    terms, model = price.terms, price.model
    if isinstance(model, LinesBefore):
        raise TypeError("what the lines before come to is no quantity: see rate_lines_before")
    before: list[RatedPart] = []
    with exact():
        if terms.conversion is not None:
            quantity = converted(terms.conversion, quantity)
            before.append(RatedPart(PartKind.CONVERTED, quantity, ZERO, ZERO))
        if included := _included(price, quantity):
            before.append(RatedPart(PartKind.INCLUDED, included, ZERO, ZERO))
        if isinstance(model, Matrix):
            rated = rate_matrix(model, by_dimensions, price.options)
        elif isinstance(model, TimeOfDay):
            rated = rate_time_of_day(model, by_week_time, price.options)
        else:
            rated = rate(model, quantity - included, price.options, event_count)
        due = _Due(rated.amount, [*before, *rated.parts])
        _limit(due, terms)
        before_commitment = _counted(due, terms)
        if terms.commitment is not None:
            _commit(due, terms.commitment, _promised(terms.commitment, model, price.options), so_far)
        for discount in terms.discounts:
            _discount(due, discount)
    return RatedPrice(due.amount, tuple(due.parts), before_commitment)


def rate_lines_before(terms: PriceTerms, amount: Decimal, so_far: TermSoFar = FIRST_OF_TERM) -> RatedPrice:
    """What terms add to the amount of other lines, or take off (then it is negative, and never more than that).

    `amount` is the sum of the lines as they are rounded, so that a minimum of 10.00 is met to the cent.

    :raises decimal.Inexact: if the amount does not fit the context of quantities
    """
    due = _Due(amount, [])
    with exact():
        _limit(due, terms)
        before_commitment = _counted(due, terms)
        if terms.commitment is not None:
            _commit(due, terms.commitment, terms.commitment.value, so_far)
        for discount in terms.discounts:
            _discount(due, discount)
        return RatedPrice(due.amount - amount, tuple(due.parts), before_commitment)


def converted(conversion: UnitConversion, quantity: Decimal) -> Decimal:
    """The quantity in other units, rounded if that is agreed on.

    :raises decimal.Inexact: if it is not rounded and does not fit the context of quantities
    """
    with exact():
        if conversion.operation is ConversionOperation.MULTIPLY:
            product = quantity * conversion.factor
            return (
                product if conversion.rounding is None else round_exact(product, conversion.rounding, conversion.digits)
            )
        if conversion.rounding is None:
            return quantity / conversion.factor
    # Rounded once, not first to what the context holds.
    return round_exact(Fraction(quantity) / Fraction(conversion.factor), conversion.rounding, conversion.digits)


def _included(price: Price, quantity: Decimal) -> Decimal:
    if isinstance(price.model, Flat):
        return ZERO
    return max(ZERO, min(quantity, price.included_quantity))


@dataclass(slots=True)
class _Due:
    """What is due so far, and why."""

    amount: Decimal
    parts: list[RatedPart]

    def add(self, kind: PartKind, quantity: Decimal, unit_amount: Decimal) -> None:
        part = RatedPart(kind, quantity, unit_amount, quantity * unit_amount)
        self.amount += part.amount
        self.parts.append(part)


def _limit(due: _Due, terms: PriceTerms) -> None:
    if terms.minimum_amount is not None and due.amount < terms.minimum_amount:
        due.add(PartKind.MINIMUM, ONE, terms.minimum_amount - due.amount)
    if terms.maximum_amount is not None and due.amount > terms.maximum_amount:
        due.add(PartKind.MAXIMUM, ONE, terms.maximum_amount - due.amount)


def _promised(commitment: Commitment, model: PriceModel | Matrix | TimeOfDay, options: PricingOptions) -> Decimal:
    if commitment.kind is CommitmentKind.AMOUNT:
        return commitment.value
    if isinstance(model, Matrix | TimeOfDay):
        raise TypeError("a quantity without dimensions or times has no price")
    return amount_of(model, commitment.value, options)


def _counted(due: _Due, terms: PriceTerms) -> Decimal | None:
    """What later billing periods of the term count of this one; None if there are none."""
    return due.amount if terms.commitment is not None and terms.commitment.periods > 1 else None


def _commit(due: _Due, commitment: Commitment, promised: Decimal, so_far: TermSoFar) -> None:
    if commitment.periods > 1:
        _commit_in_term(due, commitment, so_far)
    elif due.amount > promised:
        due.add(PartKind.OVERAGE, due.amount - promised, commitment.overage_factor - ONE)
    elif due.amount < promised and commitment.true_up:
        due.add(PartKind.TRUE_UP, ONE, promised - due.amount)


def _commit_in_term(due: _Due, commitment: Commitment, so_far: TermSoFar) -> None:
    whole_term = CumulativeCommitment(commitment.value, commitment.overage_factor)
    within = rate_committed_period(whole_term, [so_far.used], [due.amount]).within
    left = max(ZERO, commitment.value - so_far.used)
    label = f"period {so_far.number} of {commitment.periods}"
    due.parts.append(RatedPart(PartKind.TERM_USED, so_far.used, ZERO, ZERO, label=label))
    due.parts.append(RatedPart(PartKind.TERM_LEFT, left, ZERO, ZERO))
    if due.amount > within:
        due.add(PartKind.OVERAGE, due.amount - within, commitment.overage_factor - ONE)
    elif within < left and so_far.is_last and commitment.true_up:
        due.add(PartKind.TRUE_UP, ONE, left - within)


def _discount(due: _Due, discount: Discount) -> None:
    if isinstance(discount, PercentDiscount):
        due.add(PartKind.DISCOUNT, due.amount, -discount.percent.scaleb(-2))
    else:
        due.add(PartKind.DISCOUNT, ONE, -min(discount.amount, due.amount))
