"""PostgreSQL goes away between the gateway's answer and its storing, and comes back."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest

from libs.database import Database
from libs.embedded.postgres import EmbeddedPostgres
from services.payments.domain.attempt import AttemptState
from services.payments.domain.payment import PaymentState
from services.payments.messaging.encode import encode_fact
from services.payments.store.tasks import PostgresDueTasks
from services.payments.store.unit_of_work import PostgresUnitOfWork
from services.payments.usecases.collector import collect_until
from tests.support.servers import DatabaseFactory
from tests.unit.payments.fakes import FakeGateway, Trouble
from tests.unit.payments.world import FakeGatewayWorld, issued


async def test_the_collector_waits_it_out_and_asks(
    server_root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("services.payments.usecases.collector._AFTER_OUTAGE_S", 0.05)
    with EmbeddedPostgres(Path(tempfile.mkdtemp(prefix="pg-", dir=server_root)), durable=False) as server:
        urls = await DatabaseFactory(server)("payments")
        worker = Database(urls.worker_url, "worker", application_name="test")
        unit_of_work = PostgresUnitOfWork(worker, encode_fact)
        world = FakeGatewayWorld(unit_of_work, unit_of_work, PostgresDueTasks(worker), FakeGateway())
        await world.set_method("ok")
        await world.hear(issued())

        async def go_away() -> None:
            await asyncio.to_thread(server.stop)

        world.gateway.trouble = [Trouble(after=go_away)]
        stopping, wake = asyncio.Event(), asyncio.Event()
        collecting = asyncio.create_task(collect_until(stopping, world.collector(), wake=wake, poll_s=0.01))
        while "waits for PostgreSQL" not in caplog.text:
            assert not collecting.done()
            await asyncio.sleep(0.01)
        await asyncio.to_thread(server.start)
        payment, [attempt] = await world.payment()
        assert (payment.state, attempt.state) == (PaymentState.PROCESSING, AttemptState.CREATED)

        world.clock.at += timedelta(seconds=30)
        await asyncio.wait_for(wake.wait(), 20)
        stopping.set()
        await collecting

        assert (await world.payment())[0].state is PaymentState.SUCCEEDED
        assert len(world.gateway.charges) == 1
        await worker.dispose()
