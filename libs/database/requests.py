"""Idempotency of mutations by request id (AIP-155)."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.errors import Aborted, RequestIdReused


def requests_table(metadata: sa.MetaData) -> sa.Table:
    """Define `requests`: one row per mutation that was carried out, under row-level security."""
    return sa.Table(
        "requests",
        metadata,
        sa.Column("tenant_id", sa.Text, primary_key=True),
        sa.Column("method", sa.Text, primary_key=True),
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False, comment="Digest of the request without its id."),
        sa.Column("result_id", sa.Text, nullable=False, comment="What the first call made, to be read again."),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )


class RequestLog:
    """Claims request ids inside the transaction of the mutation, so that the two cannot disagree."""

    def __init__(self, connection: AsyncConnection, table: sa.Table) -> None:
        self._connection = connection
        self._table = table

    async def claim(
        self, tenant_id: str, method: str, request_id: str, fingerprint: bytes, result_id: str, now: datetime
    ) -> str | None:
        """Return None if this call is the first and must do the work, else the `result_id` of the first.

        A concurrent call with the same id waits here until the first has ended. Calls of an operator that name no
        tenant of their own use the tenant they act on: creating a tenant claims under the new tenant's id.

        :raises RequestIdReused: if the id came with another fingerprint before
        :raises Aborted: if the row of the first call was removed at this very moment
        """
        table = self._table
        row = insert(table).values(
            tenant_id=tenant_id,
            method=method,
            request_id=request_id,
            fingerprint=fingerprint,
            result_id=result_id,
            created_at=now,
        )
        claimed = row.on_conflict_do_nothing().returning(table.c.request_id)
        if (await self._connection.execute(claimed)).one_or_none() is not None:
            return None
        # A statement of its own: its snapshot sees what the insert was waiting for.
        first = await self.find(tenant_id, method, request_id, fingerprint)
        if first is None:
            raise Aborted(f"request {request_id} is being removed; send it again", requestId=request_id)
        return first

    async def find(self, tenant_id: str, method: str, request_id: str, fingerprint: bytes) -> str | None:
        """Return the `result_id` of a call that was carried out, None if there was none.

        :raises RequestIdReused: if the id came with another fingerprint
        """
        table = self._table
        query = sa.select(table.c.fingerprint, table.c.result_id).where(
            table.c.tenant_id == tenant_id, table.c.method == method, table.c.request_id == request_id
        )
        first = (await self._connection.execute(query)).one_or_none()
        if first is None:
            return None
        if first.fingerprint != fingerprint:
            raise RequestIdReused(
                f"request id {request_id} was used for a different {method}", requestId=request_id, method=method
            )
        return str(first.result_id)
