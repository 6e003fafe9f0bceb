"""Some histories over PostgreSQL, each in a database of its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import ClassVar

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from libs.database import Database
from services.payments.messaging.encode import encode_fact
from services.payments.store.tasks import PostgresDueTasks
from services.payments.store.unit_of_work import PostgresUnitOfWork
from tests.support.servers import DatabaseFactory
from tests.unit.payments.fakes import FakeGateway
from tests.unit.payments.machine import PaymentsMachine
from tests.unit.payments.world import FakeGatewayWorld


class PostgresMachine(PaymentsMachine):
    seen = Counter[str]()
    make_database: ClassVar[DatabaseFactory]

    async def make_world(self) -> FakeGatewayWorld:
        urls = await self.make_database("payments")
        self.databases = [
            Database(urls.worker_url, "worker", application_name="test-worker"),
            Database(urls.api_url, "api", application_name="test-api"),
        ]
        worker, api = self.databases
        return FakeGatewayWorld(
            worker=PostgresUnitOfWork(worker, encode_fact),
            api=PostgresUnitOfWork(api, encode_fact),
            due=PostgresDueTasks(worker),
            gateway=FakeGateway(),
        )

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            for database in self.databases:
                self.do(database.dispose())


class TestEveryHistory:
    def test_captures_each_invoice_once(self, make_database: DatabaseFactory) -> None:
        PostgresMachine.loop = asyncio.new_event_loop()
        PostgresMachine.make_database = make_database
        try:
            run_state_machine_as_test(
                PostgresMachine,
                settings=settings(max_examples=8, stateful_step_count=25, deadline=None, derandomize=True),
            )
        finally:
            PostgresMachine.loop.close()
        assert PostgresMachine.seen["crash"]
        assert PostgresMachine.seen["succeeded"]
