"""How a quantity is priced: the parameters of the five price models.

All amounts are in major units of the rate card's currency and exact. The types hold whatever they are given;
`validation` says what is wrong with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Flat:
    """`amount` once per billing period, whatever the usage."""

    amount: Decimal


@dataclass(frozen=True, slots=True)
class PerUnit:
    """quantity x `unit_amount`."""

    unit_amount: Decimal


@dataclass(frozen=True, slots=True)
class Package:
    """`amount` for each started package of `size` units."""

    size: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Tier:
    """The units above the previous tier's bound up to and including `up_to` (None: without bound).

    `flat_amount` is due as soon as anything lies in the tier.
    """

    up_to: Decimal | None
    unit_amount: Decimal
    flat_amount: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Graduated:
    """Each tier prices the units inside it."""

    tiers: tuple[Tier, ...]


@dataclass(frozen=True, slots=True)
class Volume:
    """The tier that contains the whole quantity prices all of it."""

    tiers: tuple[Tier, ...]


PriceModel = Flat | PerUnit | Package | Graduated | Volume


class ZeroQuantityFlat(StrEnum):
    """What a tiered price does with its first tier's flat amount when nothing was used."""

    CHARGE_FIRST_TIER = "charge_first_tier"
    NO_CHARGE = "no_charge"


class NegativeQuantity(StrEnum):
    """What a price does with a quantity below zero, which corrections can leave behind."""

    CLAMP_ZERO = "clamp_zero"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class PricingOptions:
    """Conventions on which billing systems differ; the defaults are this system's."""

    zero_quantity_flat: ZeroQuantityFlat = ZeroQuantityFlat.CHARGE_FIRST_TIER
    negative_quantity: NegativeQuantity = NegativeQuantity.CLAMP_ZERO


DEFAULT_OPTIONS = PricingOptions()
