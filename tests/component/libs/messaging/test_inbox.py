from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest
import sqlalchemy as sa

from libs.database import Database, row_security
from libs.messaging import Inbox, InboxConflict, InboxItem, inbox_table
from tests.component.libs.messaging.conftest import create_table
from tests.support.servers import DatabaseFactory

MARCH_1 = datetime(2026, 3, 1, tzinfo=UTC)
INBOX = inbox_table(sa.MetaData())


async def _create_tables(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(create_table(INBOX))
    for statement in row_security("billing", "inbox"):
        await connection.execute(statement)
    await connection.close()


@pytest.fixture
async def worker(make_database: DatabaseFactory) -> AsyncIterator[Database]:
    database = Database((await make_database("billing", _create_tables)).worker_url, "worker", application_name="test")
    yield database
    await database.dispose()


def _item(event_id: str, body: bytes = b"1", tenant_id: str = "acme") -> InboxItem:
    return InboxItem(tenant_id, event_id, body)


async def _receive(worker: Database, *items: InboxItem, consumer: str = "charges") -> set[str]:
    """What is new, as `tenant/event`."""
    async with worker.transaction("acme", "bolt") as connection:
        first = await Inbox(connection, INBOX, consumer).first_deliveries(items, MARCH_1)
    return {"/".join(key) for key in first}


class TestFirstDeliveries:
    async def test_only_what_was_not_there_is_new(self, worker: Database) -> None:
        assert await _receive(worker, _item("e1"), _item("e2")) == {"acme/e1", "acme/e2"}
        assert await _receive(worker, _item("e2"), _item("e3")) == {"acme/e3"}
        assert await _receive(worker, _item("e1")) == set()
        assert await _receive(worker) == set()

    async def test_an_id_twice_in_one_batch_counts_once(self, worker: Database) -> None:
        assert await _receive(worker, _item("e1"), _item("e1")) == {"acme/e1"}

    async def test_ids_of_other_tenants_and_consumers_are_other_events(self, worker: Database) -> None:
        await _receive(worker, _item("e1"))

        assert await _receive(worker, _item("e1", b"2", "bolt")) == {"bolt/e1"}
        assert await _receive(worker, _item("e1", b"2"), consumer="alerts") == {"acme/e1"}

    async def test_another_body_under_a_known_id_is_a_conflict_and_leaves_nothing(self, worker: Database) -> None:
        await _receive(worker, _item("e1"))

        with pytest.raises(InboxConflict) as raised:
            await _receive(worker, _item("e1", b"other"), _item("e2"))
        assert raised.value.keys == {("acme", "e1")}
        assert await _receive(worker, _item("e2")) == {"acme/e2"}

    async def test_two_bodies_under_one_new_id_are_a_conflict(self, worker: Database) -> None:
        with pytest.raises(InboxConflict):
            await _receive(worker, _item("e1", b"1"), _item("e1", b"2"))

    async def test_a_rolled_back_effect_leaves_the_event_new(self, worker: Database) -> None:
        async def fail() -> None:
            async with worker.transaction("acme") as connection:
                await Inbox(connection, INBOX, "charges").first_deliveries([_item("e1")], MARCH_1)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()

        assert await _receive(worker, _item("e1")) == {"acme/e1"}

    async def test_of_concurrent_deliveries_in_any_order_exactly_one_is_first(self, worker: Database) -> None:
        items = [_item(f"e{number}") for number in range(300)]

        received = await asyncio.gather(
            *(_receive(worker, *(items[start:] + items[:start])) for start in range(0, 300, 40))
        )

        assert sum(len(first) for first in received) == 300
        assert set.union(*received) == {f"acme/e{number}" for number in range(300)}
