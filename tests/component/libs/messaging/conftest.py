"""A stream, a connection and a recording handler per test, on the shared server."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa
from nats.aio.client import Client
from nats.js import JetStreamContext
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.schema import CreateTable

from libs.messaging.connection import connect
from libs.messaging.consumer import PullConsumer
from libs.messaging.delivery import Delivery
from libs.messaging.streams import StreamDefinition, ensure_streams

_numbers = itertools.count(1)


def create_table(table: sa.Table) -> str:
    """The statement that creates the table in PostgreSQL."""
    dialect = PGDialect_asyncpg()  # type: ignore[no-untyped-call]
    return str(CreateTable(table).compile(dialect=dialect))


@pytest.fixture
async def client(nats_url: str) -> AsyncIterator[Client]:
    connection = await connect(nats_url, name="test")
    yield connection
    await connection.close()


@pytest.fixture
def js(client: Client) -> JetStreamContext:
    return client.jetstream()


@pytest.fixture
async def stream(js: JetStreamContext) -> AsyncIterator[StreamDefinition]:
    """A stream of the test's own with the subjects `<name>.>`."""
    name = f"test{next(_numbers)}"
    definition = StreamDefinition(name=name, subjects=(f"{name}.>",))
    await ensure_streams(js, [definition])
    yield definition
    await js.delete_stream(name)


@dataclass
class Recorder:
    """A handler that keeps what it got; `fail` may raise for a batch. Also a place to park."""

    fail: Callable[[Sequence[Delivery]], None] = lambda deliveries: None
    batches: list[list[Delivery]] = field(default_factory=list)
    tries: int = 0
    parked: list[tuple[Delivery, Exception]] = field(default_factory=list)

    async def handle(self, deliveries: Sequence[Delivery]) -> None:
        self.tries += 1
        self.fail(deliveries)
        self.batches.append(list(deliveries))

    async def park(self, delivery: Delivery, error: Exception) -> None:
        self.parked.append((delivery, error))

    @property
    def handled(self) -> list[bytes]:
        return [delivery.data for batch in self.batches for delivery in batch]


@asynccontextmanager
async def consuming(js: JetStreamContext, stream: str, recorder: Recorder, **options: Any) -> AsyncIterator[None]:
    """Run a consumer of the whole stream; at exit it is stopped in good order."""
    stopping = asyncio.Event()
    arguments: dict[str, Any] = {
        "durable": "consumer",
        "subjects": [f"{stream}.>"],
        "handler": recorder.handle,
        "park": recorder.park,
        **options,
    }
    consumer = PullConsumer(js, stream=stream, **arguments)
    task = asyncio.create_task(consumer.run(stopping))
    try:
        yield
    finally:
        stopping.set()
        async with asyncio.timeout(15):
            await task


async def until(condition: Callable[[], bool | Awaitable[bool]], *, timeout_s: float = 20) -> None:
    """Return when the condition holds; TimeoutError if it does not."""
    async with asyncio.timeout(timeout_s):
        while True:
            result = condition()
            if result if isinstance(result, bool) else await result:
                return
            await asyncio.sleep(0.01)
