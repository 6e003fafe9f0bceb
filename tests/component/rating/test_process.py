"""`python -m services.rating`, as it is deployed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from libs.database import check_head
from libs.embedded.machine import free_port
from libs.embedded.nats_server import EmbeddedNats
from services.rating.store.tables import MIGRATIONS
from tests.component.rating.running import INTERNAL_KEY, until_ready
from tests.support.servers import DatabaseFactory


async def _start(environment: dict[str, str], *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.rating",
        *arguments,
        env={"PATH": os.environ["PATH"], "no_proxy": "127.0.0.1"} | environment,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_it_migrates_serves_and_stops(make_database: DatabaseFactory, own_nats: EmbeddedNats) -> None:
    database = await make_database.empty("rating")
    environment = database.environment() | {
        "NATS_URL": own_nats.url,
        "GRPC_LISTEN": f"127.0.0.1:{free_port()}",
        "STEELYARD_INTERNAL_KEY": INTERNAL_KEY,
        "INGEST_QUERY_TARGET": "127.0.0.1:1",
        "BILLING_TARGET": "127.0.0.1:1",
    }
    migration = await _start(environment, "migrate")
    assert await migration.wait() == 0
    await check_head(database.api_url, MIGRATIONS)

    process = await _start(environment, "--role", "all")
    ended = asyncio.create_task(process.communicate())
    try:
        await until_ready(environment["GRPC_LISTEN"], ended)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            await ended
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0


async def test_without_migrations_it_does_not_start(make_database: DatabaseFactory, own_nats: EmbeddedNats) -> None:
    database = await make_database.empty("rating")
    environment = database.environment() | {
        "NATS_URL": own_nats.url,
        "GRPC_LISTEN": f"127.0.0.1:{free_port()}",
        "STEELYARD_INTERNAL_KEY": INTERNAL_KEY,
        "INGEST_QUERY_TARGET": "127.0.0.1:1",
        "BILLING_TARGET": "127.0.0.1:1",
    }

    process = await _start(environment)
    _, errors = await process.communicate()

    assert process.returncode == 1
    assert b"SchemaBehindError" in errors


async def test_missing_settings_are_named() -> None:
    process = await _start({})
    _, errors = await process.communicate()

    assert process.returncode == os.EX_CONFIG
    assert b"RATING_DATABASE_URL is missing" in errors
    assert b"INGEST_QUERY_TARGET is missing" in errors
