from __future__ import annotations

import asyncio
import importlib
import os
import sys
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from libs.database import SchemaBehindError, check_head, migrate
from libs.embedded.databases import ServiceDatabase
from tests.support.servers import DatabaseFactory

_ENVIRONMENT = "from libs.database import run_environment\n\nrun_environment()\n"
_VERSION = """
from alembic import op

revision = "{revision}"
down_revision = {down}
branch_labels = depends_on = None


def upgrade() -> None:
{body}
"""
_CREATE = '    op.execute("CREATE TABLE runs (n int)")\n    op.execute("SELECT pg_sleep(0.2)")'
_DROP = '    op.execute("SET LOCAL lock_timeout = \'100ms\'")\n    op.execute("DROP TABLE held")'
_INSERT = '    op.execute("INSERT INTO runs VALUES (1)")'
_CONCURRENTLY = (
    '    with op.get_context().autocommit_block():\n        op.execute("CREATE INDEX CONCURRENTLY runs_n ON runs (n)")'
)


class Package:
    """A migrations package on disk."""

    def __init__(self, root: Path, name: str) -> None:
        self.name = f"{name}.migrations"
        self.root = root
        self._folder = root / name / "migrations"
        (self._folder / "versions").mkdir(parents=True)
        (self._folder / "env.py").write_text(_ENVIRONMENT)
        self._head: str | None = None

    def add(self, revision: str, body: str) -> None:
        text = _VERSION.format(revision=revision, down=repr(self._head), body=body)
        (self._folder / "versions" / f"{revision}.py").write_text(text)
        self._head = revision

    def remove(self, revision: str) -> None:
        (self._folder / "versions" / f"{revision}.py").unlink()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"svc_{tmp_path.name}"
    package = Package(tmp_path, name)
    package.add("0001", _CREATE)
    package.add("0002", _INSERT)
    importlib.invalidate_caches()
    return package


@pytest.fixture
async def server(make_database: DatabaseFactory) -> ServiceDatabase:
    return await make_database.empty("billing")


async def _runs(server: ServiceDatabase) -> int:
    connection = await asyncpg.connect(server.owner_url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM runs"))
    finally:
        await connection.close()


class TestMigrate:
    async def test_concurrent_migrators_run_each_migration_once(
        self, server: ServiceDatabase, package: Package
    ) -> None:
        package.add("0003", _CONCURRENTLY)
        # A second process, because one process never runs two migrations at a time.
        program = f"import asyncio, libs.database as d; asyncio.run(d.migrate({server.owner_url!r}, {package.name!r}))"
        other = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, env={**os.environ, "PYTHONPATH": f"{package.root}:{os.getcwd()}"}
        )
        await asyncio.gather(*(migrate(server.owner_url, package.name) for _ in range(2)), other.wait())

        assert other.returncode == 0
        assert await _runs(server) == 1
        await check_head(server.api_url, package.name)

    async def test_a_waiting_migrator_does_not_block_a_concurrent_index(
        self, server: ServiceDatabase, package: Package
    ) -> None:
        """The waiter must hold no snapshot: CREATE INDEX CONCURRENTLY waits for all older ones."""
        await migrate(server.owner_url, package.name)
        holder = await asyncpg.connect(server.owner_url)
        async with holder.transaction():
            await holder.execute("SELECT pg_advisory_xact_lock(hashtextextended('steelyard:migrate', 0))")
            waiting = asyncio.create_task(migrate(server.owner_url, package.name))
            await asyncio.sleep(0.5)
            builder = await asyncpg.connect(server.owner_url)
            await asyncio.wait_for(builder.execute("CREATE INDEX CONCURRENTLY runs_n ON runs (n)"), 5)
            await builder.close()
            assert not waiting.done()
        await holder.close()
        await waiting

    async def test_gives_up_on_a_lock_and_keeps_the_migrations_before(
        self, server: ServiceDatabase, package: Package
    ) -> None:
        package.add("0003", _DROP)
        blocker = await asyncpg.connect(server.owner_url)
        await blocker.execute("CREATE TABLE held (n int)")
        async with blocker.transaction():
            await blocker.execute("SELECT * FROM held")
            with pytest.raises(DBAPIError, match="lock timeout"):
                await migrate(server.owner_url, package.name)
        await blocker.close()

        assert await _runs(server) == 1
        with pytest.raises(SchemaBehindError, match="needs revision 0003; the database is at 0002"):
            await check_head(server.worker_url, package.name)

    async def test_every_migration_has_a_lock_timeout(self, server: ServiceDatabase, package: Package) -> None:
        package.add(
            "0003",
            "    value = op.get_bind().exec_driver_sql('SHOW lock_timeout').scalar()\n    assert value == '5s', value",
        )
        await migrate(server.owner_url, package.name)


class TestCheckHead:
    async def test_refuses_a_database_that_was_never_migrated(self, server: ServiceDatabase, package: Package) -> None:
        with pytest.raises(SchemaBehindError, match="at no revision"):
            await check_head(server.api_url, package.name)

    async def test_old_code_runs_on_a_newer_schema(self, server: ServiceDatabase, package: Package) -> None:
        await migrate(server.owner_url, package.name)
        package.remove("0002")

        await check_head(server.api_url, package.name)
