"""What the reconciliation needs to see of one tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from libs.periods import Period
from services.billing.domain.charge import Charge, PeriodKey


@dataclass(frozen=True, slots=True)
class FrozenLine:
    """A line of an issued invoice beside the charge that the database froze for it; a side that is missing is None."""

    subject: str
    currency: str
    quantity: Decimal | None
    exact_amount: Decimal | None
    amount_minor: int | None
    version: int | None
    frozen_quantity: Decimal | None
    frozen_amount: Decimal | None
    frozen_version: int | None
    rounding_mode: str | None


@dataclass(frozen=True, slots=True)
class InvoiceSum:
    """The stored total of an issued invoice, and the sum of its lines."""

    invoice_number: str
    total_minor: int
    lines_minor: int


@dataclass(frozen=True, slots=True)
class Numbers:
    """The counter of a tenant's invoice numbers, how many invoices carry one, and those that none carries."""

    last_value: int
    count: int
    missing: tuple[int, ...]


class Reconciliation(Protocol):
    """What one tenant's rows say; `within` selects billing periods that start in it, None all."""

    def frozen_lines(self, within: Period | None) -> AsyncIterator[FrozenLine]: ...

    def invoice_sums(self, within: Period | None) -> AsyncIterator[InvoiceSum]: ...

    async def numbers(self) -> Numbers: ...

    async def charges(
        self, within: Period | None, after: PeriodKey | None, limit: int
    ) -> dict[PeriodKey, list[Charge]]:
        """The charges of `limit` billing periods after a key, also of those that have none."""
