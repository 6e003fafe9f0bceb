from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, ProgrammingError

from libs.database import Database, append_only, queue_access, raw, retry_transient, row_security, sqlstate
from libs.embedded.databases import ServiceDatabase
from tests.support.servers import DatabaseFactory

_TABLES = [
    "CREATE TABLE things (tenant_id text, thing_id text, amount numeric, at timestamptz, extra jsonb,"
    " PRIMARY KEY (tenant_id, thing_id))",
    *row_security("billing", "things"),
    "CREATE TABLE history (tenant_id text, entry_id text, PRIMARY KEY (tenant_id, entry_id))",
    *row_security("billing", "history"),
    *append_only("billing", "history"),
    "CREATE TABLE due (tenant_id text, item_id text, due_at timestamptz, PRIMARY KEY (tenant_id, item_id))",
    *queue_access("billing", "due"),
]


async def _create_tables(url: str) -> None:
    connection = await asyncpg.connect(url)
    for statement in _TABLES:
        await connection.execute(statement)
    await connection.close()


@pytest.fixture
async def server(make_database: DatabaseFactory) -> ServiceDatabase:
    return await make_database("billing", _create_tables)


@pytest.fixture
async def api(server: ServiceDatabase) -> AsyncIterator[Database]:
    database = Database(server.api_url, "api", application_name="test-api")
    yield database
    await database.dispose()


@pytest.fixture
async def worker(server: ServiceDatabase) -> AsyncIterator[Database]:
    database = Database(server.worker_url, "worker", application_name="test-worker")
    yield database
    await database.dispose()


async def _add(database: Database, tenant: str, thing: str, *, as_tenant: str | None = None) -> None:
    async with database.transaction(as_tenant or tenant) as connection:
        statement = sa.text("INSERT INTO things (tenant_id, thing_id) VALUES (:tenant, :thing)")
        await connection.execute(statement, {"tenant": tenant, "thing": thing})


async def _things(database: Database, *tenants: str) -> list[str]:
    async with database.transaction(*tenants) as connection:
        return list((await connection.execute(sa.text("SELECT thing_id FROM things ORDER BY 1"))).scalars())


class TestRowSecurity:
    async def test_each_role_sees_the_tenants_it_names_and_no_others(self, api: Database, worker: Database) -> None:
        for tenant in ("acme", "bolt", "coil"):
            await _add(api, tenant, f"{tenant}-1")

        assert await _things(api, "acme") == ["acme-1"]
        assert await _things(worker, "bolt") == ["bolt-1"]
        assert await _things(worker, "coil", "acme") == ["acme-1", "coil-1"]

    async def test_a_tenant_cannot_write_into_another(self, api: Database, worker: Database) -> None:
        for database in (api, worker):
            with pytest.raises(ProgrammingError) as raised:
                await _add(database, "bolt", "1", as_tenant="acme")
            assert sqlstate(raised.value) == "42501"

    async def test_without_a_tenant_there_are_no_rows(
        self, api: Database, worker: Database, server: ServiceDatabase
    ) -> None:
        await _add(api, "acme", "1")
        for url in (server.api_url, server.worker_url, server.owner_url):
            connection = await asyncpg.connect(url)
            assert await connection.fetch("SELECT * FROM things") == []
            await connection.close()
        async with worker.queue_transaction() as queue:
            assert (await queue.execute(sa.text("SELECT * FROM things"))).all() == []

    async def test_the_tenant_does_not_outlive_its_transaction(self, server: ServiceDatabase) -> None:
        database = Database(server.api_url, "api", application_name="one", pool_size=1)
        await _add(database, "acme", "1")
        async with database._engine.connect() as connection:  # The same pooled session, without a tenant.
            assert (await connection.execute(sa.text("SELECT current_setting('app.tenant')"))).scalar_one() == ""
            assert (await connection.execute(sa.text("SELECT * FROM things"))).all() == []
        await database.dispose()

    async def test_append_only_rows_cannot_be_changed_or_removed(self, api: Database, worker: Database) -> None:
        for database in (api, worker):
            for statement in ("UPDATE history SET entry_id = 'x'", "DELETE FROM history", "TRUNCATE history"):
                with pytest.raises(ProgrammingError) as raised:
                    async with database.transaction("acme") as connection:
                        await connection.execute(sa.text(statement))
                assert sqlstate(raised.value) == "42501"
            async with database.transaction("acme") as connection:
                await connection.execute(sa.text("INSERT INTO history SELECT 'acme', gen_random_uuid()::text"))

    async def test_workers_see_queues_across_tenants(self, api: Database, worker: Database) -> None:
        for tenant in ("acme", "bolt"):
            async with api.transaction(tenant) as connection:
                await connection.execute(sa.text("INSERT INTO due VALUES (:tenant, '1', now())"), {"tenant": tenant})
        async with worker.queue_transaction() as connection:
            taken = await connection.execute(sa.text("DELETE FROM due RETURNING tenant_id"))
            assert sorted(taken.scalars()) == ["acme", "bolt"]

        with pytest.raises(ProgrammingError):
            async with api.transaction("acme") as connection:
                await connection.execute(sa.text("DELETE FROM due"))


class TestTransaction:
    async def test_refuses_what_could_show_too_much(self, api: Database, worker: Database) -> None:
        for database, tenants in [(api, ()), (api, ("a", "b")), (worker, ()), (worker, ("a,b",)), (api, ("",))]:
            with pytest.raises(ValueError, match="tenant"):
                async with database.transaction(*tenants):
                    pass
        with pytest.raises(ValueError, match="workers"):
            async with api.queue_transaction():
                pass

    async def test_rolls_back_on_an_exception(self, api: Database) -> None:
        async def fail() -> None:
            async with api.transaction("acme") as connection:
                await (await raw(connection)).execute("INSERT INTO things (tenant_id, thing_id) VALUES ('acme', '1')")
                raise LookupError

        with pytest.raises(LookupError):
            await fail()
        assert await _things(api, "acme") == []

    async def test_raw_statements_share_the_transaction(self, worker: Database, server: ServiceDatabase) -> None:
        async with worker.queue_transaction() as connection:
            driver = await raw(connection)
            assert driver.is_in_transaction()
            await driver.execute("INSERT INTO due VALUES ('acme', '1', now())")
            outside = await asyncpg.connect(server.worker_url)
            assert await outside.fetchval("SELECT count(*) FROM due") == 0
            await outside.close()

    async def test_raw_keeps_numbers_exact_and_instants_in_utc(self, api: Database) -> None:
        at, amount = datetime(2026, 3, 1, 12, tzinfo=UTC), Decimal("12345678901234567890.123456789012345678")
        async with api.transaction("acme") as connection:
            row = await (await raw(connection)).fetchrow(
                "INSERT INTO things VALUES ('acme', '1', $1, $2, $3) RETURNING amount, at, extra",
                amount,
                at,
                '{"a": 1}',
            )
        assert tuple(row) == (amount, at, {"a": 1})
        assert row["at"].tzinfo == UTC

    async def test_a_cancelled_commit_still_ends(self, server: ServiceDatabase, api: Database) -> None:
        """A commit that a trigger delays is cancelled midway: the caller sees the cancellation, the row is there."""
        owner = await asyncpg.connect(server.owner_url)
        await owner.execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END';"
            "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON things DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION slow()"
        )
        await owner.close()

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.15):
                await _add(api, "acme", "1")

        assert await _things(api, "acme") == ["1"]

    async def test_survives_the_death_of_its_sessions(self, server: ServiceDatabase) -> None:
        database = Database(server.worker_url, "worker", application_name="doomed", pool_size=2)

        async def end_own_session() -> None:
            async with database.queue_transaction() as connection:
                await (await raw(connection)).execute("SELECT pg_terminate_backend(pg_backend_pid())")

        with pytest.raises(asyncpg.ConnectionDoesNotExistError):
            await end_own_session()
        await database.ping()
        async with database.queue_transaction() as connection:
            pid = (await connection.execute(sa.text("SELECT pg_backend_pid()"))).scalar_one()
        killer = await asyncpg.connect(server.worker_url)
        assert await killer.fetchval("SELECT pg_terminate_backend($1)", pid)
        await killer.close()
        await database.ping()
        await database.dispose()

    async def test_leaves_a_server_that_has_become_read_only(self, server: ServiceDatabase) -> None:
        database = Database(server.worker_url, "worker", application_name="demoted", pool_size=1)

        async def backend() -> int:
            async with database.queue_transaction() as connection:
                return int((await connection.execute(sa.text("SELECT pg_backend_pid()"))).scalar_one())

        async def write() -> None:
            async with database.queue_transaction() as connection:
                await connection.execute(sa.text("SET TRANSACTION READ ONLY"))
                await connection.execute(sa.text("DELETE FROM due"))

        before = await backend()
        assert await backend() == before
        with pytest.raises(DBAPIError) as raised:
            await write()
        assert sqlstate(raised.value) == "25006"
        assert await backend() != before
        await database.dispose()

    async def test_no_statement_timeout_reaches_a_commit(self, server: ServiceDatabase) -> None:
        database = Database(server.api_url + "?statement_timeout=5", "api", application_name="hasty", pool_size=1)
        async with database.transaction("acme") as connection:
            assert (await connection.execute(sa.text("SHOW statement_timeout"))).scalar_one() == "0"
            assert (await connection.execute(sa.text("SHOW timezone"))).scalar_one() == "UTC"
        await database.dispose()


class TestRetryTransient:
    async def test_a_deadlock_is_run_again_and_both_commit(self, api: Database) -> None:
        await _add(api, "acme", "1")
        await _add(api, "acme", "2")
        runs = 0

        async def touch(first: str, second: str) -> None:
            nonlocal runs
            runs += 1
            statement = sa.text("UPDATE things SET amount = coalesce(amount, 0) + 1 WHERE thing_id = :thing")
            async with api.transaction("acme") as connection:
                await connection.execute(statement, {"thing": first})
                await asyncio.sleep(0.1)
                await connection.execute(statement, {"thing": second})

        await asyncio.gather(
            retry_transient(lambda: touch("1", "2")),
            retry_transient(lambda: touch("2", "1")),
        )

        assert runs > 2
        async with api.transaction("acme") as connection:
            amounts = (await connection.execute(sa.text("SELECT amount FROM things"))).scalars().all()
        assert amounts == [2, 2]
