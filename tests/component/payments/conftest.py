"""Payments over a database of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from libs.database import Database
from libs.embedded.databases import ServiceDatabase
from services.payments.clients.sandbox_gateway import SandboxGateway
from services.payments.messaging.encode import encode_fact
from services.payments.store.tasks import PostgresDueTasks
from services.payments.store.unit_of_work import PostgresUnitOfWork
from tests.support.servers import DatabaseFactory
from tests.unit.payments.fakes import FakeGateway, MovingClock
from tests.unit.payments.world import REAL_NOW, FakeGatewayWorld, World


@dataclass(frozen=True)
class Logins:
    """A database and its two logins."""

    database: ServiceDatabase
    api: Database
    worker: Database


@pytest.fixture
async def logins(make_database: DatabaseFactory) -> AsyncIterator[Logins]:
    database = await make_database("payments")
    api = Database(database.api_url, "api", application_name="test-api")
    worker = Database(database.worker_url, "worker", application_name="test-worker")
    yield Logins(database, api, worker)
    await api.dispose()
    await worker.dispose()


@pytest.fixture
def world(logins: Logins) -> FakeGatewayWorld:
    """Real stores, fake gateway."""
    return FakeGatewayWorld(
        worker=PostgresUnitOfWork(logins.worker, encode_fact),
        api=PostgresUnitOfWork(logins.api, encode_fact),
        due=PostgresDueTasks(logins.worker),
        gateway=FakeGateway(),
    )


@pytest.fixture
def sandbox(logins: Logins) -> World:
    """Real stores, and the gateway that is shipped."""
    clock = MovingClock(REAL_NOW)
    return World(
        worker=PostgresUnitOfWork(logins.worker, encode_fact),
        api=PostgresUnitOfWork(logins.api, encode_fact),
        due=PostgresDueTasks(logins.worker),
        gateway=SandboxGateway(logins.worker, clock),
        clock=clock,
    )
