from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import sqlalchemy as sa

from libs.database import Database, queue_access, row_security
from libs.messaging import UNKNOWN_TENANT, Delivery, ParkedMessages, parked_tables
from tests.component.libs.messaging.conftest import create_table
from tests.support.servers import DatabaseFactory

MARCH_1 = datetime(2026, 3, 1, tzinfo=UTC)
TABLES = parked_tables(sa.MetaData())
POISON = Delivery(
    subject="rating.charge",
    data=b"\xff\x00",
    headers={"traceparent": "00-1-2-01"},
    msg_id="acme:charge:1",
    stream="RATING",
    stream_seq=7,
    num_delivered=5,
    stream_epoch=MARCH_1,
)


async def _create_tables(url: str) -> None:
    connection = await asyncpg.connect(url)
    for table in (TABLES.messages, TABLES.queue):
        await connection.execute(create_table(table))
    for statement in [*row_security("billing", "parked_messages"), *queue_access("billing", "parked_queue")]:
        await connection.execute(statement)
    await connection.close()


@dataclass
class Service:
    api: Database
    worker: Database
    parked: ParkedMessages

    async def rows(self, tenant_id: str, role: Database | None = None) -> list[sa.Row[tuple[object, ...]]]:
        async with (role or self.worker).transaction(tenant_id) as connection:
            return list((await connection.execute(sa.select(TABLES.messages))).all())


@pytest.fixture
async def service(make_database: DatabaseFactory) -> AsyncIterator[Service]:
    urls = await make_database("billing", _create_tables)
    worker = Database(urls.worker_url, "worker", application_name="test")
    api = Database(urls.api_url, "api", application_name="test")
    yield Service(api, worker, ParkedMessages(worker, TABLES, consumer="billing-charges", clock=lambda: MARCH_1))
    await worker.dispose()
    await api.dispose()


class TestPark:
    async def test_keeps_the_message_under_its_tenant(self, service: Service) -> None:
        await service.parked.park(POISON, ValueError("not a charge"))

        [row] = await service.rows("acme", service.api)
        assert (row.consumer, row.stream, row.stream_seq, row.subject) == (
            "billing-charges",
            "RATING",
            7,
            "rating.charge",
        )
        assert (row.headers, row.payload) == ({"traceparent": "00-1-2-01"}, b"\xff\x00")
        assert (row.error, row.parked_at, row.resolved_at) == ("ValueError: not a charge", MARCH_1, None)
        assert not await service.rows("bolt", service.api)

    async def test_a_second_delivery_changes_nothing(self, service: Service) -> None:
        await service.parked.park(POISON, ValueError("first"))
        await service.parked.park(POISON, ValueError("second"))

        [row] = await service.rows("acme")
        assert row.error == "ValueError: first"
        assert await service.parked.unresolved_by_tenant() == {"acme": 1}

    async def test_the_same_sequence_of_a_recreated_stream_is_another_message(self, service: Service) -> None:
        await service.parked.park(POISON, ValueError())
        await service.parked.park(replace(POISON, stream_epoch=MARCH_1 + timedelta(1)), ValueError())

        assert await service.parked.unresolved_by_tenant() == {"acme": 2}

    @pytest.mark.parametrize("message_id", ["", "no tenant", "Acme:1", ":1", "-:1"])
    async def test_without_a_tenant_it_is_kept_where_no_tenant_sees_it(self, service: Service, message_id: str) -> None:
        await service.parked.park(replace(POISON, msg_id=message_id), ValueError())

        assert await service.parked.unresolved_by_tenant() == {UNKNOWN_TENANT: 1}
        assert len(await service.rows(UNKNOWN_TENANT)) == 1
        assert not await service.rows("acme")

    async def test_the_header_names_the_tenant_before_the_message_id(self, service: Service) -> None:
        await service.parked.park(replace(POISON, headers={"Steelyard-Tenant": "bolt"}), ValueError())

        assert await service.parked.unresolved_by_tenant() == {"bolt": 1}

    async def test_stores_what_postgresql_text_cannot_hold(self, service: Service) -> None:
        hostile = replace(POISON, headers={"a\x00": "b\x00\ud800"})

        await service.parked.park(hostile, ValueError("\x00\udfff" + "x" * 5_000))

        [row] = await service.rows("acme")
        assert row.headers == {"a\ufffd": "b\ufffd?"}
        assert len(row.error) == 2_000


class TestResolve:
    async def test_ends_the_hold_and_keeps_the_message(self, service: Service) -> None:
        await service.parked.park(POISON, ValueError())
        [row] = await service.rows("acme")

        assert not await service.parked.resolve("bolt", row.id)
        assert await service.parked.resolve("acme", row.id)
        assert not await service.parked.resolve("acme", row.id)

        [row] = await service.rows("acme")
        assert row.resolved_at == MARCH_1
        assert await service.parked.unresolved_by_tenant() == {}
