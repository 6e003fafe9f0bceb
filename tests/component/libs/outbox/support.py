"""A small service with an outbox of each kind: its tables, its use case (`change`), and publishers to watch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from nats.js import JetStreamContext
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import Database, queue_access, raw, row_security
from libs.database.engine import single_connection_engine
from libs.outbox import (
    StateFeed,
    StateOutbox,
    StateValue,
    WatermarkFeed,
    fact_tables,
    lease_table,
    mark_table,
    watermark_table,
)

MARCH_1 = datetime(2026, 3, 1, tzinfo=UTC)

METADATA = sa.MetaData()
FACTS = fact_tables(METADATA)
MARKS = mark_table(METADATA, "window_marks")
LEASES = lease_table(METADATA)
WATERMARKS = watermark_table(METADATA)
WINDOWS = sa.Table(
    "windows",
    METADATA,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("window_key", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
)


async def create_tables(url: str) -> None:
    engine = single_connection_engine(url, application_name="test", settings={})
    async with engine.begin() as connection:
        await connection.run_sync(METADATA.create_all)
        for statement in [
            "CREATE SEQUENCE versions",
            "GRANT USAGE, SELECT ON versions TO ingest_api, ingest_worker",
            *row_security("ingest", "windows"),
            *row_security("ingest", FACTS.facts.name),
            *queue_access("ingest", FACTS.queue.name),
            *queue_access("ingest", MARKS.name),
            *queue_access("ingest", LEASES.name),
            *queue_access("ingest", WATERMARKS.name),
        ]:
            await connection.execute(sa.text(statement))
    await engine.dispose()


class FakeClock:
    def __init__(self) -> None:
        self.now = MARCH_1

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **duration: float) -> None:
        self.now += timedelta(**duration)


def fast_clock(speed: int) -> Callable[[], datetime]:
    """A clock that runs `speed` times as fast as the real one, so that leases end soon."""
    start = time.monotonic()
    return lambda: MARCH_1 + timedelta(seconds=(time.monotonic() - start) * speed)


@dataclass(frozen=True)
class Published:
    subject: str
    payload: bytes
    msg_id: str
    headers: Mapping[str, str]


class Crash(BaseException):
    """Ends a relay as a killed process would: nothing after this point runs."""


@dataclass
class FakePublisher:
    """Remembers what was published. Hooks run before and after a message is stored, and may raise."""

    before: Callable[[Published], Awaitable[None]] | None = None
    after: Callable[[Published], Awaitable[None]] | None = None
    messages: list[Published] = field(default_factory=list)

    async def publish(self, subject: str, payload: bytes, msg_id: str, headers: Mapping[str, str]) -> None:
        message = Published(subject, payload, msg_id, headers)
        if self.before is not None:
            await self.before(message)
        self.messages.append(message)
        if self.after is not None:
            await self.after(message)


class NatsPublisher:
    def __init__(self, stream: JetStreamContext) -> None:
        self._stream = stream

    async def publish(self, subject: str, payload: bytes, msg_id: str, headers: Mapping[str, str]) -> None:
        await self._stream.publish(subject, payload, timeout=5, headers={**headers, "Nats-Msg-Id": msg_id})


_CHANGE = """
WITH changed AS (
    INSERT INTO windows AS w (tenant_id, window_key, version)
    SELECT $1, key, nextval('versions') FROM unnest($2::text[]) AS key ORDER BY key
    ON CONFLICT (tenant_id, window_key) DO UPDATE SET version = nextval('versions')
    RETURNING window_key, version
)
SELECT window_key, version FROM changed
"""


async def change(connection: AsyncConnection, tenant: str, keys: Sequence[str], now: datetime) -> dict[str, int]:
    """Change windows and mark them, as one statement and one mark in the caller's transaction."""
    rows = await (await raw(connection)).fetch(_CHANGE, tenant, list(keys))
    versions = {row["window_key"]: row["version"] for row in rows}
    await StateOutbox(connection, MARKS).mark([(tenant, key, version) for key, version in versions.items()], now)
    return versions


async def read_current(connection: AsyncConnection, tenant: str, keys: Sequence[str]) -> Sequence[StateValue]:
    query = sa.select(WINDOWS.c.window_key, WINDOWS.c.version).where(
        WINDOWS.c.tenant_id == tenant, WINDOWS.c.window_key.in_(keys)
    )
    rows = (await connection.execute(query)).all()
    return [StateValue(row.window_key, row.version, f"{row.window_key}={row.version}".encode()) for row in rows]


def pack(tenant: str, values: Sequence[StateValue]) -> bytes:
    return b";".join([tenant.encode(), *(value.payload for value in values)])


def unpack(payload: bytes) -> tuple[str, dict[str, int]]:
    tenant, *values = payload.decode().split(";")
    return tenant, {key: int(version) for key, version in (value.split("=") for value in values)}


FEED = StateFeed("usage-window", MARKS, read_current, pack, lambda tenant: "ingest.usage_window.changed.v1")
WATERMARK_FEED = WatermarkFeed("ingest", WATERMARKS, MARKS, "ingest.watermark.advanced.v1")


async def rows_of(database: Database, table: sa.Table) -> list[dict[str, Any]]:
    async with database.queue_transaction() as connection:
        rows = await (await raw(connection)).fetch(f"SELECT * FROM {table.name}")
        return [dict(row) for row in rows]


async def until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event.
            await asyncio.sleep(0.01)
