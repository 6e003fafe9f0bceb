"""Watches the watermark while a run goes on, waits until all has come to rest, and gathers the evidence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import asyncpg
import nats
from nats.errors import Error as NatsError

from libs.errors import Unavailable
from libs.messaging import AckFloor, FloorBeyondStream, ack_floor
from tests.faults.checkers import evidence as of
from tests.faults.driver.history import History, read
from tests.faults.driver.tenant_session import TenantSession
from tests.faults.driver.world import World

_SAMPLE_EVERY_S = 0.3
_LOOK_EVERY_S = 0.25
_WAY: Sequence[tuple[str, Sequence[tuple[str, str]]]] = (
    ("ingest", [("USAGE_RAW", "ingest-usage-record")]),
    ("rating", [("INGEST", "rating-usage-apply"), ("BILLING", "rating-billing_period-accept")]),
    ("billing", [("RATING", "billing-charge-apply"), ("PAYMENTS", "billing-payment-record")]),
    ("payments", [("BILLING", "payments-invoice-collect")]),
)
"""The services in the order of the money's way, and the consumers before each."""

_MINE = "tenant_id = ANY ($1)"
_FACTS = (f"SELECT count(*) FROM outbox_fact_queue WHERE published_at IS NULL AND {_MINE}", "facts are not published")
_PARKED = (f"SELECT count(*) FROM parked_queue WHERE {_MINE}", "messages are parked")
_AT_REST: dict[str, tuple[tuple[str, str], ...]] = {
    "ingest": (
        (f"SELECT count(*) FROM usage_window_marks WHERE {_MINE}", "windows are not published"),
        _PARKED,
        (
            f"SELECT count(*) FROM missing_batches WHERE resolved_at IS NULL AND {_MINE}",
            "batches are missing and hold their tenant",
        ),
    ),
    "rating": (
        (f"SELECT count(*) FROM rating_marks WHERE {_MINE}", "periods are not rated"),
        (f"SELECT count(*) FROM rating_retries WHERE {_MINE}", "periods cannot be rated"),
        (f"SELECT count(*) FROM charge_marks WHERE {_MINE}", "charges are not published"),
        _PARKED,
    ),
    "billing": (
        (f"SELECT count(*) FROM billing_period_marks WHERE {_MINE}", "billing periods are not published"),
        (f"SELECT count(*) FROM directory_marks WHERE {_MINE}", "directory entries are not published"),
        _FACTS,
        _PARKED,
    ),
    "payments": (_FACTS, _PARKED),
}
# What ingest has promised to the others, whether or not it is on its way already.
_OFFERED = "SELECT greatest(forwarded_through, awaited_at, latest_at) FROM outbox_watermarks WHERE name = 'ingest'"
_SEEN = "SELECT tenant_id, event_id FROM event_keys WHERE tenant_id = ANY ($1)"
_HELD = """
SELECT tenant_id FROM missing_batches WHERE resolved_at IS NULL UNION SELECT tenant_id FROM parked_queue
"""
_AWAY = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class WatermarkObserver:
    """Notes in the history what ingest's watermark is, with what was recorded at the same instant."""

    def __init__(self, world: World, tenants: Sequence[str], history: History) -> None:
        self._world, self._tenants, self._history = world, tenants, history
        self._seen: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Look until cancelled; while PostgreSQL is away nothing is seen."""
        while True:
            with suppress(*_AWAY):
                connection = await asyncpg.connect(self._world.superuser_url("ingest"), timeout=2)
                try:
                    while True:
                        await self._look(connection)
                        await asyncio.sleep(_SAMPLE_EVERY_S)
                finally:
                    connection.terminate()
            await asyncio.sleep(_SAMPLE_EVERY_S)

    async def _look(self, connection: asyncpg.Connection) -> None:
        async with connection.transaction(isolation="repeatable_read"):
            at = await connection.fetchval(_OFFERED, timeout=5)
            held = [row["tenant_id"] for row in await connection.fetch(_HELD, timeout=5)]
            rows = await connection.fetch(_SEEN, list(self._tenants), timeout=5)
        recorded = {(row["tenant_id"], row["event_id"]) for row in rows}
        if at is not None:
            new = sorted(recorded - self._seen)
            self._history.note("watermark", watermark=at.timestamp(), held=held, recorded=new)
            self._seen |= recorded


async def wait_until_at_rest(world: World, tenants: Sequence[str], *, timeout_s: float) -> list[str]:
    """Return when every outbox is empty, every consumer has caught up and nothing is parked: nothing then, else what
    was still pending when the time was over.

    Goes the way of an event, so that what has passed one place is waited for at the next.
    """
    deadline = time.monotonic() + timeout_s
    for service, consumers in _WAY:
        for stream, durable in consumers:
            if problem := await _caught_up(world, stream, durable, deadline):
                return [problem]
        pending = ["never looked"]
        while pending:
            pending = await _unpublished(world, service, tenants)
            if pending and time.monotonic() > deadline:
                return pending
            if pending:
                await asyncio.sleep(_LOOK_EVERY_S)
    return []


async def gather_evidence(
    world: World, sessions: Sequence[TenantSession], history: Path, *, pending: Sequence[str], month: bool
) -> of.Evidence:
    """Read the history and all stores."""
    tenants = [session.tenant_id for session in sessions]
    connections = {
        service: await asyncpg.connect(world.superuser_url(service), timeout=5)
        for service in ("ingest", "rating", "billing", "payments")
    }
    try:
        return of.Evidence(
            records=read(history),
            tenants=tenants,
            ingest=await of.read_ingest(connections["ingest"], tenants),
            rating=await of.read_rating(connections["rating"], tenants),
            billing=await of.read_billing(connections["billing"], tenants) if month else None,
            payments=await of.read_payments(connections["payments"], tenants) if month else None,
            pending=pending,
            reconciliations=[text for session in sessions for text in await _disagreements(session)] if month else [],
        )
    finally:
        for connection in connections.values():
            await connection.close()


async def _caught_up(world: World, stream: str, durable: str, deadline: float) -> str:
    """Wait until everything that the stream holds now is acknowledged by the consumer; return what is wrong if not."""
    target = -1
    while True:
        try:
            floor = await _floor(world, stream, durable)
            # The end of the first look counts: watermarks never cease, and consumers that filter never reach the end.
            target = floor.stream_last_seq if target < 0 else target
            idle = floor.num_pending == 0 and floor.num_ack_pending == 0
            if floor.consumer_stream_seq >= target or idle:
                return ""
            problem = f"{floor.num_pending} messages wait, {floor.num_ack_pending} are being handled"
        except (*_AWAY, NatsError, Unavailable, FloorBeyondStream) as error:
            problem = f"cannot be seen: {error!r}"
        if time.monotonic() > deadline:
            return f"{durable} on {stream}: {problem}"
        await asyncio.sleep(_LOOK_EVERY_S)


async def _floor(world: World, stream: str, durable: str) -> AckFloor:
    connection = await nats.connect(world.nats_url.split(","), connect_timeout=2, max_reconnect_attempts=1)
    try:
        return await ack_floor(connection.jetstream(), stream, durable)
    finally:
        await connection.close()


async def _unpublished(world: World, service: str, tenants: Sequence[str]) -> list[str]:
    try:
        connection = await asyncpg.connect(world.superuser_url(service), timeout=2)
    except _AWAY as error:
        return [f"{service}: PostgreSQL is away: {error!r}"]
    try:
        counts = [(await connection.fetchval(query, list(tenants)), meaning) for query, meaning in _AT_REST[service]]
    finally:
        await connection.close()
    return [f"{service}: {count} {meaning}" for count, meaning in counts if count]


async def _disagreements(session: TenantSession) -> list[str]:
    return [
        f"{session.tenant_id}: {service} finds {check.name}: {check.left} against {check.right}"
        for service, checks in (await session.reconciliations()).items()
        for check in checks
        if not check.ok
    ]
