"""One running service for all tests of RPCs; each test has cards and subscriptions of its own."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from libs.embedded.nats_server import EmbeddedNats
from steelyard.rating.v1.charge_service_pb2_grpc import ChargeServiceStub
from steelyard.rating.v1.rate_card_service_pb2_grpc import RateCardServiceStub
from tests.component.rating.running import Running, running
from tests.support.servers import DatabaseFactory

if TYPE_CHECKING:
    from steelyard.rating.v1.charge_service_pb2_grpc import ChargeServiceAsyncStub
    from steelyard.rating.v1.rate_card_service_pb2_grpc import RateCardServiceAsyncStub


@pytest.fixture(scope="package")
async def service(make_database: DatabaseFactory, server_root: Path) -> AsyncIterator[Running]:
    # Parallel runs may set this up more than once: each time with a queue of its own beside the fresh database.
    with EmbeddedNats(server_root / f"rating-rpc-{uuid.uuid4().hex}", durable=False) as nats_server:
        async with running(await make_database("rating"), nats_server.url) as started:
            yield started


@pytest.fixture
def cards(service: Running) -> RateCardServiceAsyncStub:
    return RateCardServiceStub(service.channel)


@pytest.fixture
def charges(service: Running) -> ChargeServiceAsyncStub:
    return ChargeServiceStub(service.channel)


@pytest.fixture
def name() -> str:
    """A new id."""
    return f"x-{uuid.uuid4().hex[:12]}"
