"""Alembic migrations without alembic.ini: a service names the package that holds its migrations, and no more.

That package (for example `services.billing.store.migrations`) has an `env.py` of two lines and a folder `versions`:

    from libs.database import run_environment

    run_environment()
"""

from __future__ import annotations

import asyncio
import importlib.util
import threading

import sqlalchemy as sa
from alembic import command, context
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database.database import raw
from libs.database.engine import single_connection_engine

# Advisory locks are per database, and each service has its own.
_LOCK = sa.text("SELECT pg_try_advisory_xact_lock(hashtextextended('steelyard:migrate', 0))")
_LOCK_POLL_S = 0.2

# No migration may queue for a lock, and everybody else behind it, for longer; a failed one is simply run again.
_SETTINGS = {"lock_timeout": "5s", "idle_in_transaction_session_timeout": "0"}

# Alembic keeps the running environment in module globals: one migration at a time in a process.
_one_at_a_time = threading.Lock()


class SchemaBehindError(Exception):
    """The database lacks migrations that this code needs."""


async def migrate(admin_url: str, package: str) -> None:
    """Run every missing migration of `package` as the owner of the database; concurrent migrators wait.

    Each migration is a transaction with a `lock_timeout` of 5 s (a migration may set its own), so a failing one leaves
    those before it in place.
    """
    await asyncio.to_thread(_migrate, admin_url, package)


async def check_head(url: str, package: str) -> None:
    """Return if the database is at the head of `package` or newer (a revision that this code does not know yet).

    :raises SchemaBehindError: if migrations are missing; a service must then not start
    """
    engine = single_connection_engine(url, application_name="check-head", settings={})
    try:
        async with engine.connect() as connection:
            present = await _revisions(connection)
    finally:
        await engine.dispose()
    scripts = ScriptDirectory.from_config(_config(package))
    known = {script.revision for script in scripts.walk_revisions()}
    head = scripts.get_current_head()
    if head is not None and head not in present and present <= known:
        found = ", ".join(sorted(present)) or "no revision"
        raise SchemaBehindError(f"{package} needs revision {head}; the database is at {found}")


def run_environment() -> None:
    """Do the work of an Alembic `env.py`: run the migrations on the connection that `migrate` has opened."""
    context.configure(connection=context.config.attributes["connection"], transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


def _migrate(admin_url: str, package: str) -> None:
    with _one_at_a_time:
        asyncio.run(_migrate_locked(admin_url, package))


async def _migrate_locked(admin_url: str, package: str) -> None:
    engine = single_connection_engine(admin_url, application_name="migrate", settings=_SETTINGS)
    try:
        async with engine.connect() as guard, engine.connect() as connection:
            await _wait_for_lock(guard)
            await connection.run_sync(_upgrade, package)
            # Read by check_head, whatever role a service logs in as.
            await connection.execute(sa.text("GRANT SELECT ON alembic_version TO PUBLIC"))
            await connection.commit()
    finally:
        await engine.dispose()


async def _wait_for_lock(guard: AsyncConnection) -> None:
    """Take the lock in a transaction that stays open, and hold no snapshot while waiting or afterwards.

    A CREATE INDEX CONCURRENTLY of the migrator that has the lock would wait for that snapshot, for ever. Hence the
    polling, and the last statement: sent as a simple query, it ends the portal that keeps the snapshot of the query
    before it until the transaction ends.
    """
    while not (await guard.execute(_LOCK)).scalar_one():
        await guard.rollback()
        await asyncio.sleep(_LOCK_POLL_S)
    await (await raw(guard)).execute("SELECT 1")


def _upgrade(connection: sa.Connection, package: str) -> None:
    config = _config(package)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config(package: str) -> Config:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"no package {package}")
    config = Config()
    config.set_main_option("script_location", str(spec.submodule_search_locations[0]).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


async def _revisions(connection: AsyncConnection) -> set[str]:
    if (await connection.execute(sa.text("SELECT to_regclass('alembic_version')"))).scalar_one() is None:
        return set()
    return set((await connection.execute(sa.text("SELECT version_num FROM alembic_version"))).scalars())
