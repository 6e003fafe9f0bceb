"""Read payments and the ledger."""

from __future__ import annotations

from dataclasses import dataclass

from services.payments.domain.attempt import Attempt
from services.payments.domain.ledger import LedgerTransaction
from services.payments.domain.payment import Payment
from services.payments.usecases.ports import LedgerSummary, PaymentFilter, UnitOfWork


@dataclass(frozen=True, slots=True)
class GetPayments:
    """Payments with their attempts, oldest attempt first."""

    unit_of_work: UnitOfWork

    async def by_id(self, tenant_id: str, payment_id: str) -> tuple[Payment, list[Attempt]]:
        """:raises PaymentNotFound: if there is none"""
        async with self.unit_of_work(tenant_id) as work:
            return await work.payments.get(tenant_id, payment_id)

    async def of_invoice(self, tenant_id: str, invoice_id: str) -> tuple[Payment, list[Attempt]]:
        """The newest. :raises PaymentNotFound: if there is none"""
        async with self.unit_of_work(tenant_id) as work:
            return await work.payments.newest_of_invoice(tenant_id, invoice_id)

    async def page(
        self, tenant_id: str, wanted: PaymentFilter, *, before: str, limit: int
    ) -> list[tuple[Payment, list[Attempt]]]:
        """Newest first, those made before the payment `before` (empty: the newest)."""
        async with self.unit_of_work(tenant_id) as work:
            return await work.payments.page(tenant_id, wanted, before, limit)


@dataclass(frozen=True, slots=True)
class GetLedger:
    """The ledger of a tenant."""

    unit_of_work: UnitOfWork

    async def summary(self, tenant_id: str) -> LedgerSummary:
        """Balances, and whether everything adds up."""
        async with self.unit_of_work(tenant_id) as work:
            return await work.ledger.summary(tenant_id)

    async def page(self, tenant_id: str, *, invoice_id: str, before: str, limit: int) -> list[LedgerTransaction]:
        """Newest first, those posted before the cursor `before` (empty: the newest)."""
        async with self.unit_of_work(tenant_id) as work:
            return await work.ledger.page(tenant_id, invoice_id, before, limit)
