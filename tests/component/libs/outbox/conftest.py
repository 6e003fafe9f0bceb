from __future__ import annotations

from collections.abc import AsyncIterator

import nats
import pytest
from nats.aio.client import Client

from libs.database import Database
from libs.embedded.databases import ServiceDatabase
from tests.component.libs.outbox.support import create_tables
from tests.support.servers import DatabaseFactory


@pytest.fixture
async def server(make_database: DatabaseFactory) -> ServiceDatabase:
    return await make_database("ingest", create_tables)


@pytest.fixture
async def api(server: ServiceDatabase) -> AsyncIterator[Database]:
    database = Database(server.api_url, "api", application_name="api", pool_size=20)
    yield database
    await database.dispose()


@pytest.fixture
async def worker(server: ServiceDatabase) -> AsyncIterator[Database]:
    database = Database(server.worker_url, "worker", application_name="worker", pool_size=8)
    yield database
    await database.dispose()


@pytest.fixture
async def broker(nats_url: str) -> AsyncIterator[Client]:
    client = await nats.connect(nats_url)
    yield client
    await client.close()
