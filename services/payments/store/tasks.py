"""What is due for payments, across tenants: ids and due times only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import Database, raw
from services.payments.store.bulk import Rows, execute
from services.payments.store.keys import given, is_given
from services.payments.store.tables import tasks
from services.payments.usecases.ports import PaymentKey, Task, TaskKind

# A try is due on its tenant's clock, a question in real time. Tenants on test clocks are few: they come as arrays.
# No clock is later than $6, which keeps the scan to the front of the index.
_CLAIM = """
UPDATE payment_tasks AS task SET claimed_until = $2
FROM (
    SELECT due.tenant_id, due.payment_id FROM payment_tasks AS due
    LEFT JOIN unnest($3::text[], $4::timestamptz[]) AS clock (tenant_id, now) USING (tenant_id)
    WHERE due.due_at <= $6
      AND due.due_at <= CASE due.kind WHEN 'collect' THEN coalesce(clock.now, $1) ELSE $1 END
      AND (due.claimed_until IS NULL OR due.claimed_until <= $1)
    ORDER BY due.due_at LIMIT $5
    FOR UPDATE OF due SKIP LOCKED
) AS chosen
WHERE task.tenant_id = chosen.tenant_id AND task.payment_id = chosen.payment_id
RETURNING task.tenant_id, task.payment_id, task.kind
"""


_TASKS = Rows(tasks, "tenant_id", "payment_id", "kind", "due_at")
_PUT = _TASKS.insert(
    "ON CONFLICT (tenant_id, payment_id)"
    " DO UPDATE SET kind = excluded.kind, due_at = excluded.due_at, claimed_until = NULL"
)


class PostgresTaskQueue:
    """Sets and removes what is due, in the transaction of the change."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def put(self, due: Mapping[PaymentKey, Task]) -> None:
        values = [
            {"tenant_id": tenant_id, "payment_id": payment_id, "kind": task.kind.value, "due_at": task.due_at}
            for (tenant_id, payment_id), task in due.items()
        ]
        await execute(self._connection, _PUT, _TASKS, values)

    async def remove(self, keys: Iterable[PaymentKey]) -> None:
        if not (pairs := sorted(keys)):
            return
        done = given(pairs, "payment_id")
        await self._connection.execute(sa.delete(tasks).where(is_given(tasks, done, "payment_id")))


class PostgresDueTasks:
    """Claims due tasks of any tenant for a while."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(
        self, *, now: datetime, until: datetime, tenant_times: Mapping[str, datetime], limit: int
    ) -> dict[PaymentKey, TaskKind]:
        times = list(tenant_times.values())
        async with self._database.queue_transaction() as connection:
            rows = await (await raw(connection)).fetch(
                _CLAIM, now, until, list(tenant_times), times, limit, max([now, *times])
            )
        return {(row["tenant_id"], row["payment_id"]): TaskKind(row["kind"]) for row in rows}
