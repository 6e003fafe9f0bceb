"""One service's database as one of its two login roles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Literal

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database.engine import pooled_engine, server_lost

Role = Literal["api", "worker"]

_SETTING = {"api": "app.tenant", "worker": "app.tenants"}
_SET_TENANTS = sa.text("SELECT set_config(:setting, :tenants, true)")


class Database:
    """Transactions under row-level security.

    `api` logins see one tenant per transaction, `worker` logins the tenants they name (and queue tables). The two are
    different PostgreSQL roles; `role` says which one `url` logs in as. Sessions are in UTC.
    """

    def __init__(self, url: str, role: Role, *, application_name: str, pool_size: int = 10) -> None:
        self._role = role
        self._engine = pooled_engine(url, application_name=application_name, pool_size=pool_size)

    @asynccontextmanager
    async def transaction(self, *tenants: str) -> AsyncIterator[AsyncConnection]:
        """Open a transaction for one tenant (api) or several (worker); commit at exit, roll back on an exception.

        An error or a cancellation during the commit leaves the outcome unknown: the caller retries under its key
        (request id, inbox row), which tells.

        :raises ValueError: if no tenant, more than one for an api login, or an impossible tenant id is named
        """
        if not tenants or (self._role == "api" and len(tenants) > 1):
            raise ValueError(f"{len(tenants)} tenants named for a transaction of the {self._role} role")
        if any(not tenant or "," in tenant for tenant in tenants):
            raise ValueError(f"not tenant ids: {tenants!r}")
        async with self._begin(",".join(sorted(set(tenants)))) as connection:
            yield connection

    @asynccontextmanager
    async def snapshot(self, tenant: str) -> AsyncIterator[AsyncConnection]:
        """Like `transaction`, of one tenant, and all statements see the same state (REPEATABLE READ).

        What it changes may fail with a serialization failure: see `retry_transient`.
        """
        if not tenant or "," in tenant:
            raise ValueError(f"not a tenant id: {tenant!r}")
        async with self._begin(tenant, isolation="REPEATABLE READ") as connection:
            yield connection

    @asynccontextmanager
    async def queue_transaction(self) -> AsyncIterator[AsyncConnection]:
        """Open a worker's transaction that sees queue tables only: no row of any tenant table.

        :raises ValueError: for an api login
        """
        if self._role != "worker":
            raise ValueError("only workers read queues across tenants")
        async with self._begin("") as connection:
            yield connection

    async def ping(self) -> None:
        """Return if the database answers.

        :raises sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError: if it does not
        """
        async with self._engine.connect() as connection:
            await connection.execute(sa.text("SELECT 1"))

    async def dispose(self) -> None:
        """Close every pooled connection."""
        await self._engine.dispose()

    @asynccontextmanager
    async def _begin(self, tenants: str, isolation: str = "") -> AsyncIterator[AsyncConnection]:
        async with self._engine.connect() as connection:
            if isolation:  # Put back when the connection returns to the pool.
                await connection.execution_options(isolation_level=isolation)
            # SQLAlchemy sends BEGIN with the first statement it executes. This one therefore also makes sure that
            # raw() never runs outside the transaction.
            await connection.execute(_SET_TENANTS, {"setting": _SETTING[self._role], "tenants": tenants})
            try:
                yield connection
            except BaseException as error:  # Leaving the outer block rolls back.
                await _discard_if_lost(connection, error)
                raise
            await _finish(connection.commit())


async def raw(connection: AsyncConnection) -> asyncpg.Connection:
    """Return the asyncpg connection under an open transaction, for set-wise SQL in the hot path.

    It takes part in the same transaction. NUMERIC is Decimal, timestamptz an aware UTC datetime, json and jsonb are
    decoded values but are passed in as JSON text. Errors are asyncpg's own, not SQLAlchemy's.
    """
    return (await connection.get_raw_connection()).driver_connection


async def _discard_if_lost(connection: AsyncConnection, error: BaseException) -> None:
    """Keep a dead connection out of the pool when raw() has met the error, which SQLAlchemy then has not seen."""
    if not connection.invalidated and (server_lost(error) or (await raw(connection)).is_closed()):
        await connection.invalidate()


async def _finish(commit: Coroutine[object, object, None]) -> None:
    """Run a commit to its end even if the caller is cancelled meanwhile, then let the cancellation go on.

    asyncpg answers a cancelled task by cancelling the statement on the server. A COMMIT that waits for a standby would
    then be durable on the primary only, though everybody believes that it failed.
    """
    task = asyncio.ensure_future(commit)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled from task.exception()
    task.result()
