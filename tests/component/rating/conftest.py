from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from libs.database import Database
from libs.embedded.databases import ServiceDatabase
from tests.component.rating.support import Rating
from tests.support.servers import DatabaseFactory


@pytest.fixture
async def server(make_database: DatabaseFactory) -> ServiceDatabase:
    return await make_database("rating")


@pytest.fixture
async def rating(server: ServiceDatabase) -> AsyncIterator[Rating]:
    api = Database(server.api_url, "api", application_name="api", pool_size=4)
    worker = Database(server.worker_url, "worker", application_name="worker", pool_size=12)
    yield Rating(api, worker)
    await api.dispose()
    await worker.dispose()
