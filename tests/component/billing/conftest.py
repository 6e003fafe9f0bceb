from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from libs.database import Database, migrate
from libs.embedded.databases import ServiceDatabase
from services.billing.store.tables import MIGRATIONS
from tests.component.billing.world import World
from tests.support.servers import DatabaseFactory


async def migrate_billing(admin_url: str) -> None:
    await migrate(admin_url, MIGRATIONS)


@pytest.fixture
async def billing_database(make_database: DatabaseFactory) -> ServiceDatabase:
    return await make_database("billing", migrate_billing)


@pytest.fixture
async def world(billing_database: ServiceDatabase) -> AsyncIterator[World]:
    api = Database(billing_database.api_url, "api", application_name="test-api", pool_size=8)
    worker = Database(billing_database.worker_url, "worker", application_name="test-worker", pool_size=8)
    yield World(api, worker)
    await api.dispose()
    await worker.dispose()
