"""An amount for each package."""

from __future__ import annotations

from decimal import Decimal

from services.rating.domain.prices import Package, PackageRounding
from services.rating.domain.rated_price import PartKind, RatedPart


def rate_package(price: Package, quantity: Decimal) -> tuple[RatedPart, ...]:
    """One part, whose quantity is the number of packages."""
    packages = _packages(price, quantity)
    return (RatedPart(PartKind.PACKAGE, packages, price.amount, packages * price.amount),)


def package_amount(price: Package, quantity: Decimal) -> Decimal:
    return _packages(price, quantity) * price.amount


def _packages(price: Package, quantity: Decimal) -> Decimal:
    full, rest = divmod(quantity, price.size)
    return full + 1 if rest and price.rounding is PackageRounding.UP else full
