"""Shares of what is agreed on for a whole billing period, where the customer has only a part of it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from libs.money import Rounding, share_of_value, to_quotient_scale
from libs.periods import Period, Share, ShareBasis, Span, find_zone, share_of

_ZERO = Decimal(0)


class Proration(StrEnum):
    """What a price does with a billing period that is shorter than the whole one it lies in."""

    NONE = "none"
    """The default: what is agreed on for a period is due for each, however short."""
    BY_DAY = "by_day"
    """Shared by calendar days of the period's zone; a day of which the customer has any part counts."""
    BY_SECOND = "by_second"
    """Shared by elapsed time."""

    @property
    def basis(self) -> ShareBasis | None:
        return _BASES.get(self)


@dataclass(frozen=True, slots=True)
class PartOfPeriod:
    """A billing period that is shorter than the whole one; `time_zone` is the IANA zone whose days count."""

    part: Period
    whole: Period
    time_zone: str

    def share(self, proration: Proration) -> Share | None:
        """How much of the whole it is, None if a price does not ask or it is all of it (the rest was no full day)."""
        if proration.basis is None:
            return None
        part, whole = Span(self.part.start, self.part.end), Span(self.whole.start, self.whole.end)
        share = share_of(part, whole, proration.basis, find_zone(self.time_zone))
        return share if share.part < share.whole else None


_BASES = {Proration.BY_DAY: ShareBasis.DAYS, Proration.BY_SECOND: ShareBasis.SECONDS}


def prorated(value: Decimal, share: Fraction) -> Decimal:
    """The share of an amount or a quantity, to 12 digits after the point, half to even, unless it ends before.

    Far below what an invoice line shows, which is rounded again; a share of 1 changes nothing.
    """
    return value if share == 1 else to_quotient_scale(share_of_value(value, share))


def prorated_shortfall(committed: Decimal, spent: Decimal, share: Fraction, rounding: Rounding) -> Decimal:
    """What is missing to the share of a commitment if the share of an amount is spent, each rounded."""
    return max(_ZERO, rounding(share_of_value(committed, share)) - rounding(share_of_value(spent, share)))
