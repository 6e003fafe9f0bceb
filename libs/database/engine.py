"""SQLAlchemy engines over asyncpg, with the settings that every connection shares."""

from __future__ import annotations

import asyncpg
import sqlalchemy as sa
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from libs.database.retry import sqlstate

_CONNECT_TIMEOUT_S = 10
_POOL_TIMEOUT_S = 10
_RECYCLE_S = 300

# The server is going away, or is no longer the primary: every pooled connection to it is stale.
_SERVER_LOST = ("25006", "57P01", "57P02", "57P03")


def pooled_engine(url: str, *, application_name: str, pool_size: int) -> AsyncEngine:
    """Return an engine with at most `pool_size` connections.

    `url` is a libpq URL and goes to asyncpg as it is, so that several hosts, `target_session_attrs`, `sslmode` and
    unix sockets work as PostgreSQL documents them.
    """
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: _connect(url, application_name),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=_POOL_TIMEOUT_S,
        pool_pre_ping=True,
        pool_recycle=_RECYCLE_S,
    )
    sa.event.listen(engine.sync_engine, "handle_error", _drop_pool_of_a_lost_server)
    return engine


def single_connection_engine(url: str, *, application_name: str, settings: dict[str, str]) -> AsyncEngine:
    """Return an engine without a pool, whose connections carry extra server settings."""
    return create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: _connect(url, application_name, **settings), poolclass=NullPool
    )


async def _connect(url: str, application_name: str, **settings: str) -> asyncpg.Connection:
    # A statement timeout of the role or the database could cancel a COMMIT that waits for a standby; the transaction
    # would then be committed although its client was told of an error.
    fixed = {
        "application_name": application_name,
        "timezone": "UTC",
        "statement_timeout": "0",
        # asyncpg prepares every statement. After five executions PostgreSQL may settle for a generic plan, which knows
        # neither how long the arrays of set-wise statements are nor that a table has grown: it scans whole tables.
        "plan_cache_mode": "force_custom_plan",
    }
    return await asyncpg.connect(url, timeout=_CONNECT_TIMEOUT_S, server_settings=fixed | settings)


def server_lost(error: BaseException) -> bool:
    """Return whether an error says that its connection must not be used again."""
    state = sqlstate(error) or ""
    return state in _SERVER_LOST or state.startswith("08")


def _drop_pool_of_a_lost_server(context: ExceptionContext) -> None:
    if server_lost(context.original_exception):
        context.is_disconnect = True
