"""A chunk takes as many statements as one payment does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import pytest

from libs.database import raw
from services.payments.messaging.encode import encode_fact
from services.payments.store.tasks import PostgresDueTasks
from services.payments.store.unit_of_work import PostgresUnitOfWork, PostgresWork
from tests.component.payments.conftest import Logins
from tests.unit.payments.fakes import FakeGateway
from tests.unit.payments.world import FakeGatewayWorld, issued, voided

MANY = 40


@dataclass
class Counted:
    """A unit of work that keeps the statements of its transactions."""

    logins: Logins
    statements: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def __call__(self, *tenant_ids: str) -> AsyncIterator[PostgresWork]:
        def keep(query: asyncpg.connection.LoggedQuery) -> None:
            self.statements.append(query.query)

        async with self.logins.worker.transaction(*tenant_ids) as connection:
            driver = await raw(connection)
            driver.add_query_logger(keep)
            try:
                yield PostgresWork(connection, encode_fact)
                await asyncio.sleep(0)  # Loggers are called soon, not at once.
            finally:
                driver.remove_query_logger(keep)


@pytest.fixture
def counted(logins: Logins) -> Counted:
    return Counted(logins)


@pytest.fixture
def world(logins: Logins, counted: Counted) -> FakeGatewayWorld:
    return FakeGatewayWorld(
        worker=counted,
        api=PostgresUnitOfWork(logins.api, encode_fact),
        due=PostgresDueTasks(logins.worker),
        gateway=FakeGateway(),
    )


class TestStatements:
    @pytest.mark.parametrize("token", ["ok", "soft", "hard"])
    async def test_are_the_same_for_one_and_for_many(
        self, world: FakeGatewayWorld, counted: Counted, token: str
    ) -> None:
        async def taken(numbers: range) -> list[str]:
            """Each invoice has a customer and a trace of its own, as they come from billing."""
            for number in numbers:
                await world.set_method(token, customer_id=f"cust-{number}")
            counted.statements.clear()
            await world.hear(
                *(
                    issued(f"inv_{n}", customer_id=f"cust-{n}", trace_parent=f"00-{n + 1:032x}-{n + 1:016x}-01")
                    for n in numbers
                )
            )
            assert await world.collector()() == len(numbers)
            await world.hear(*(voided(f"inv_{number}") for number in numbers))
            return list(counted.statements)

        await taken(range(1))  # A new connection also asks for types.
        one = await taken(range(1, 2))
        many = await taken(range(2, 2 + MANY))

        assert len(one) > 10
        assert many == one
