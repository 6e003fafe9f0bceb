"""The ledger in PostgreSQL: rows are only ever added; the database refuses a transaction that does not balance."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import raw
from libs.money import Money
from services.payments.domain.ledger import LedgerEntry, LedgerTransaction
from services.payments.store.bulk import Rows
from services.payments.store.tables import ledger_entries as entries
from services.payments.store.tables import ledger_transactions as transactions
from services.payments.usecases.ports import LedgerSummary

_TEXTS = sa.ARRAY(sa.Text)

_HEADS, _ENTRIES = Rows(transactions), Rows(entries)
_POST = f"""
WITH added AS ({_HEADS.insert("ON CONFLICT DO NOTHING RETURNING tenant_id, transaction_id")})
INSERT INTO ledger_entries ({_ENTRIES.names}) SELECT {_ENTRIES.names}
FROM {_ENTRIES.given(first=len(_HEADS) + 1)} JOIN added USING (tenant_id, transaction_id)
"""  # noqa: S608


class PostgresLedger:
    """Posts each transaction once, whoever posts it again."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def post(self, items: Sequence[LedgerTransaction]) -> None:
        if not items:
            return
        heads = _HEADS.arrays([_head_values(item) for item in items])
        body = _ENTRIES.arrays([_entry_values(i, number, e) for i in items for number, e in enumerate(i.entries)])
        await (await raw(self._connection)).execute(_POST, *heads, *body)

    async def summary(self, tenant_id: str) -> LedgerSummary:
        total = sa.func.sum(entries.c.amount_minor_units)
        by_account = (
            sa.select(entries.c.account, entries.c.currency, total.label("total"))
            .where(entries.c.tenant_id == tenant_id)
            .group_by(entries.c.account, entries.c.currency)
            .order_by(entries.c.account, entries.c.currency)
        )
        rows = (await self._connection.execute(by_account)).all()
        unbalanced = (
            sa.select(entries.c.transaction_id)
            .where(entries.c.tenant_id == tenant_id)
            .group_by(entries.c.transaction_id, entries.c.currency)
            .having(total != 0)
        )
        off = [str(row.transaction_id) for row in await self._connection.execute(unbalanced)]
        currencies = {row.currency for row in rows}
        off += [c for c in sorted(currencies) if sum(int(row.total) for row in rows if row.currency == c)]
        count = sa.select(sa.func.count()).select_from(transactions).where(transactions.c.tenant_id == tenant_id)
        return LedgerSummary(
            balances=tuple((row.account, Money(int(row.total), row.currency)) for row in rows),
            transaction_count=(await self._connection.execute(count)).scalar_one(),
            unbalanced=tuple(off),
        )

    async def page(self, tenant_id: str, invoice_id: str, before: str, limit: int) -> list[LedgerTransaction]:
        query = sa.select(transactions).where(transactions.c.tenant_id == tenant_id)
        if invoice_id:
            query = query.where(transactions.c.invoice_id == invoice_id)
        if before:
            position = sa.select(transactions.c.position).where(
                transactions.c.tenant_id == tenant_id, transactions.c.transaction_id == before
            )
            query = query.where(transactions.c.position < position.scalar_subquery())
        heads = (await self._connection.execute(query.order_by(transactions.c.position.desc()).limit(limit))).all()
        ids = [row.transaction_id for row in heads]
        body = (
            sa.select(entries)
            .where(entries.c.tenant_id == tenant_id, entries.c.transaction_id == sa.any_(sa.literal(ids, _TEXTS)))
            .order_by(entries.c.transaction_id, entries.c.entry)
        )
        by_id: dict[str, list[LedgerEntry]] = {item: [] for item in ids}
        for row in await self._connection.execute(body):
            amount = Money(row.amount_minor_units, row.currency)
            by_id[row.transaction_id].append(LedgerEntry(row.account, amount, row.customer_id))
        return [
            LedgerTransaction(
                row.tenant_id,
                row.transaction_id,
                row.kind,
                row.invoice_id,
                tuple(by_id[row.transaction_id]),
                row.posted_at,
            )
            for row in heads
        ]

    async def debits(self, tenant_id: str, invoice_ids: Sequence[str] | None) -> dict[str, int]:
        query = (
            sa.select(entries.c.transaction_id, sa.func.sum(entries.c.amount_minor_units).label("debit"))
            .where(entries.c.tenant_id == tenant_id, entries.c.amount_minor_units > 0)
            .group_by(entries.c.transaction_id)
        )
        if invoice_ids is not None:
            chosen = sa.select(transactions.c.transaction_id).where(
                transactions.c.tenant_id == tenant_id,
                transactions.c.invoice_id == sa.any_(sa.literal(list(invoice_ids), _TEXTS)),
            )
            query = query.where(entries.c.transaction_id.in_(chosen))
        return {row.transaction_id: int(row.debit) for row in await self._connection.execute(query)}


def _head_values(item: LedgerTransaction) -> dict[str, object]:
    return {
        "tenant_id": item.tenant_id,
        "transaction_id": item.transaction_id,
        "kind": item.kind,
        "invoice_id": item.invoice_id,
        "posted_at": item.posted_at,
    }


def _entry_values(item: LedgerTransaction, number: int, entry: LedgerEntry) -> dict[str, object]:
    return {
        "tenant_id": item.tenant_id,
        "transaction_id": item.transaction_id,
        "entry": number,
        "account": entry.account,
        "customer_id": entry.customer_id,
        "currency": entry.amount.currency,
        "amount_minor_units": entry.amount.minor_units,
    }
