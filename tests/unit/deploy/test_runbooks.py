"""The runbooks name what exists: SQL runs on the schemas of today, programs work, metrics are ours."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import nats
import pytest

from libs.database import Database
from libs.embedded.postgres import EmbeddedPostgres
from libs.messaging import Delivery, ParkedMessages
from services.rating.store.tables import parked
from tests.support.servers import DatabaseFactory
from tests.unit.deploy.manifests import ROOT, SERVICES

RUNBOOKS = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def blocks(path: Path, language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", path.read_text(), re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(text) for _, text in found]


def sql_by_services(text: str) -> list[tuple[list[str], str]]:
    """Split a block at its comments that name services: `-- billing, payments`."""
    parts = re.split(r"^-- (.+)$", text, flags=re.MULTILINE)
    assert parts[0].strip() == "", "a block begins by naming its services"
    services = [heading.split(", ") for heading in parts[1::2]]
    return list(zip(services, parts[2::2], strict=True))


class TestSql:
    @pytest.mark.parametrize("path", [path for path in RUNBOOKS if blocks(path, "sql")], ids=lambda path: path.stem)
    async def test_runs_on_the_schemas(
        self, path: Path, postgres: EmbeddedPostgres, make_database: DatabaseFactory
    ) -> None:
        for block in blocks(path, "sql"):
            for services, statements in sql_by_services(block):
                assert set(services) <= set(SERVICES)
                for service in services:
                    database = await make_database(service)
                    await asyncio.to_thread(postgres.run_sql, statements, database.name)

    def test_is_there(self) -> None:
        assert sum(len(blocks(path, "sql")) for path in RUNBOOKS) >= 6


class TestMetrics:
    def test_are_ours(self) -> None:
        code = "".join(path.read_text() for path in (ROOT / "services").rglob("*metrics.py"))
        ours = {name.replace(".", "_") for name in re.findall(r'"(steelyard\.[a-z._]+)"', code)}
        named = {name for path in RUNBOOKS for name in re.findall(r"`(steelyard_[a-z_]+)`", path.read_text())}

        assert len(named) >= 5
        assert {name for name in named if name.removesuffix("_seconds") not in ours} == set()


class TestResend:
    """The program of parked-message.md."""

    async def test_sends_a_parked_message_again_and_resolves_it(
        self, nats_url: str, make_database: DatabaseFactory
    ) -> None:
        databases = await make_database("rating")
        connection = await nats.connect(nats_url)
        js = connection.jetstream()
        await js.add_stream(name="RESEND", subjects=["resend.>"])
        worker = Database(databases.worker_url, "worker", application_name="test")
        store = ParkedMessages(worker, parked, consumer="test", clock=lambda: NOON)
        await store.park(_delivery(), ValueError("no"))
        async with worker.transaction("acme") as transaction:
            row = (await transaction.execute(parked.messages.select())).one()

        again = [await _resend(databases.worker_url, nats_url, row.id) for _ in range(2)]

        message = await js.get_msg("RESEND", 1)
        assert (message.data, (message.headers or {})["Nats-Msg-Id"]) == (b"payload", "acme:fact:1")
        assert await store.unresolved_by_tenant() == {}
        assert again == [0, 1]  # The second time there is nothing to send.
        assert (await js.stream_info("RESEND")).state.messages == 1
        await worker.dispose()
        await connection.close()


def _delivery() -> Delivery:
    return Delivery(
        subject="resend.fact",
        data=b"payload",
        headers={"Nats-Msg-Id": "acme:fact:1"},
        msg_id="acme:fact:1",
        stream="RESEND",
        stream_seq=7,
        num_delivered=5,
        stream_epoch=NOON,
    )


async def _resend(worker_url: str, nats_url: str, parked_id: str) -> int:
    """Run the program as the runbook says; return its exit code."""
    (program,) = blocks(ROOT / "docs" / "runbooks" / "parked-message.md", "python")
    environment = {**os.environ, "RATING_WORKER_DATABASE_URL": worker_url, "NATS_URL": nats_url}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-", "RATING", "acme", parked_id, stdin=asyncio.subprocess.PIPE, env=environment
    )
    await process.communicate(program.encode())
    assert process.returncode is not None
    return process.returncode
