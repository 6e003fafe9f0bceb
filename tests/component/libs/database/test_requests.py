from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from libs.database import Database, RequestLog, requests_table, row_security
from libs.database.engine import single_connection_engine
from libs.errors import RequestIdReused
from tests.support.servers import DatabaseFactory

MARCH_1 = datetime(2026, 3, 1, tzinfo=UTC)
REQUESTS = requests_table(sa.MetaData())


async def _create_tables(url: str) -> None:
    engine = single_connection_engine(url, application_name="test", settings={})
    async with engine.begin() as connection:
        await connection.run_sync(REQUESTS.metadata.create_all)
        for statement in row_security("billing", "requests"):
            await connection.execute(sa.text(statement))
    await engine.dispose()


@pytest.fixture
async def api(make_database: DatabaseFactory) -> AsyncIterator[Database]:
    database = Database((await make_database("billing", _create_tables)).api_url, "api", application_name="test")
    yield database
    await database.dispose()


async def _claim(api: Database, result_id: str, *, tenant: str = "acme", fingerprint: bytes = b"1") -> str | None:
    async with api.transaction(tenant) as connection:
        log = RequestLog(connection, REQUESTS)
        return await log.claim(tenant, "CreateCustomer", "r-1", fingerprint, result_id, MARCH_1)


class TestRequestLog:
    async def test_the_first_call_owns_the_id_and_the_others_get_its_result(self, api: Database) -> None:
        assert await _claim(api, "cus_1") is None
        assert await _claim(api, "cus_2") == "cus_1"
        assert await _claim(api, "cus_3") == "cus_1"

    async def test_the_same_id_of_another_tenant_is_another_request(self, api: Database) -> None:
        assert await _claim(api, "cus_1") is None
        assert await _claim(api, "cus_2", tenant="bolt", fingerprint=b"2") is None

    async def test_the_same_id_with_another_request_is_refused(self, api: Database) -> None:
        await _claim(api, "cus_1")

        with pytest.raises(RequestIdReused) as raised:
            await _claim(api, "cus_2", fingerprint=b"2")
        assert raised.value.metadata == {"requestId": "r-1", "method": "CreateCustomer"}

    async def test_of_concurrent_calls_exactly_one_owns_the_id(self, api: Database) -> None:
        answers = await asyncio.gather(*(_claim(api, f"cus_{number}") for number in range(8)))

        assert answers.count(None) == 1
        assert set(answers) == {None, f"cus_{answers.index(None)}"}

    async def test_a_call_waits_for_the_one_before_it_and_takes_over_if_that_fails(self, api: Database) -> None:
        claimed, fail = asyncio.Event(), asyncio.Event()

        async def first() -> None:
            async with api.transaction("acme") as connection:
                log = RequestLog(connection, REQUESTS)
                assert await log.claim("acme", "CreateCustomer", "r-1", b"1", "cus_1", MARCH_1) is None
                claimed.set()
                await fail.wait()
                raise LookupError

        failing = asyncio.create_task(first())
        await claimed.wait()
        waiting = asyncio.create_task(_claim(api, "cus_2"))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        fail.set()

        assert await waiting is None
        with pytest.raises(LookupError):
            await failing
