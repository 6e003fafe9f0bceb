"""A fresh database of ingest per test, as seen by its two logins."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from libs.database import Database
from libs.embedded.databases import ServiceDatabase
from libs.embedded.postgres import EmbeddedPostgres
from services.ingest.store.recording_transactions import PostgresRecordingTransactions
from services.ingest.usecases.record_usage import RecordUsage
from tests.component.ingest.builders import NOON, a_meter, add_meters, migrate_ingest
from tests.component.ingest.sealing import Log
from tests.support.servers import DatabaseFactory


@pytest.fixture
async def ingest_database(make_database: DatabaseFactory) -> ServiceDatabase:
    return await make_database("ingest", migrate_ingest)


@pytest.fixture
async def api(ingest_database: ServiceDatabase) -> AsyncIterator[Database]:
    database = Database(ingest_database.api_url, "api", application_name="test-api")
    yield database
    await database.dispose()


@pytest.fixture
async def worker(ingest_database: ServiceDatabase) -> AsyncIterator[Database]:
    database = Database(ingest_database.worker_url, "worker", application_name="test-worker")
    yield database
    await database.dispose()


@pytest.fixture
def record(worker: Database) -> RecordUsage:
    return RecordUsage(PostgresRecordingTransactions(worker), lambda: NOON)


@pytest.fixture
async def log(api: Database, worker: Database) -> Log:
    """A log that two meters measure."""
    await add_meters(api, a_meter(), a_meter("calls", expression=""))
    return Log(api, worker)


@pytest.fixture
async def ingest_database_owner(
    ingest_database: ServiceDatabase, postgres: EmbeddedPostgres
) -> AsyncIterator[asyncpg.Connection]:
    """A superuser, who may do what no login of the service may."""
    connection = await asyncpg.connect(postgres.url(ingest_database.name))
    yield connection
    await connection.close()
