"""Corrections in PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import asyncpg
import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import Database, RequestLog, raw
from libs.errors import Violation
from services.ingest.domain.correction import (
    Correction,
    CorrectionKind,
    CorrectionOutcome,
    CorrectionResult,
    KnownEvent,
    KnownEvents,
)
from services.ingest.domain.event_key import EventKey
from services.ingest.domain.meter import Meter
from services.ingest.domain.usage_windows import WindowChange
from services.ingest.store import corrections_sql as sql
from services.ingest.store import tables
from services.ingest.store.arrivals import WatchedTenants
from services.ingest.store.corrected_windows import recompute_windows
from services.ingest.store.meter_cache import MeterCache
from services.ingest.store.recording import PostgresRecordingStore
from services.ingest.store.waiting_voids import LOCK_ALONE
from services.ingest.usecases.corrections import CorrectionRequest, ListedCorrection


class PostgresCorrectionStore:
    """CorrectionStore in one open transaction of the api role."""

    def __init__(
        self, connection: AsyncConnection, driver: asyncpg.Connection, tenant_id: str, meters: MeterCache
    ) -> None:
        self._connection = connection
        self._driver = driver
        self._tenant_id = tenant_id
        self.recording = PostgresRecordingStore(driver, meters, WatchedTenants())

    async def begin(
        self, request: CorrectionRequest, correction_id: str, now: datetime
    ) -> list[CorrectionResult] | None:
        first = await RequestLog(self._connection, tables.requests).claim(
            request.tenant_id, request.method, request.request_id, request.fingerprint, correction_id, now
        )
        if first is not None:
            found = await self._driver.fetchval(sql.ANSWER_OF, self._tenant_id, first)
            return [_result_from_json(item) for item in found]
        await self.wait_for_others()
        return None

    async def was_answered(self, request: CorrectionRequest) -> bool:
        log = RequestLog(self._connection, tables.requests)
        found = await log.find(request.tenant_id, request.method, request.request_id, request.fingerprint)
        return found is not None

    async def wait_for_others(self) -> None:
        await self._driver.execute(sql.ONE_AFTER_THE_OTHER, self._tenant_id)

    async def hold_recorders(self) -> None:
        await self._driver.execute(LOCK_ALONE, self._tenant_id)

    async def known(self, keys: Collection[EventKey]) -> KnownEvents:
        rows = await self._driver.fetch(sql.KNOWN, self._tenant_id, *_columns(keys))
        return {
            (row["source"], row["event_id"]): KnownEvent(
                row["payload_hash"], CorrectionKind(row["kind"]) if row["kind"] else None, _replacement(row)
            )
            for row in rows
        }

    async def add(
        self, correction_id: str, corrections: Mapping[EventKey, Correction], waiting: Collection[EventKey]
    ) -> None:
        if not corrections:
            return
        said = next(iter(corrections.values()))
        replacements = [made.replacement or (None, None) for made in corrections.values()]
        await self._driver.execute(
            sql.ADD,
            self._tenant_id,
            correction_id,
            *_columns(corrections),
            [made.kind for made in corrections.values()],
            [source for source, _ in replacements],
            [event_id for _, event_id in replacements],
            *(said.reason, said.actor, said.api_key_id, said.corrected_at),
        )
        if waiting:
            await self._driver.execute(sql.ADD_WAITING, self._tenant_id, *_columns(waiting))

    async def recompute_windows(
        self, meters: Sequence[Meter], corrected: Collection[EventKey], added: Sequence[WindowChange], now: datetime
    ) -> None:
        await recompute_windows(self._driver, self._tenant_id, meters, corrected, added, now)

    async def answer(self, correction_id: str, results: Sequence[CorrectionResult]) -> None:
        document = orjson.dumps([_result_to_json(result) for result in results]).decode()
        await self._driver.execute(sql.ADD_ANSWER, self._tenant_id, correction_id, document)


class PostgresCorrectionTransactions:
    """CorrectionTransactions over the database of the api role."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._meters = MeterCache()

    @asynccontextmanager
    async def __call__(self, tenant_id: str) -> AsyncIterator[PostgresCorrectionStore]:
        async with self._database.transaction(tenant_id) as connection:
            yield PostgresCorrectionStore(connection, await raw(connection), tenant_id, self._meters)


class PostgresCorrectionList:
    """CorrectionList; each call is a transaction of one tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(
        self, tenant_id: str, before: int | None, limit: int, *, waiting_only: bool
    ) -> list[ListedCorrection]:
        statement = sql.LIST.format(join="JOIN" if waiting_only else "LEFT JOIN")
        async with self._database.transaction(tenant_id) as connection:
            rows = await (await raw(connection)).fetch(statement, tenant_id, before, limit)
        return [
            ListedCorrection(
                (row["source"], row["event_id"]), correction_from_row(row), row["waiting"], row["position"]
            )
            for row in rows
        ]


def correction_from_row(row: asyncpg.Record) -> Correction:
    """A row with the columns of `corrections` that are not its keys."""
    return Correction(
        kind=CorrectionKind(row["kind"]),
        replacement=_replacement(row),
        reason=row["reason"],
        actor=row["actor"],
        api_key_id=row["api_key_id"],
        corrected_at=row["corrected_at"],
    )


def _replacement(row: asyncpg.Record) -> EventKey | None:
    found = row["replacement_source"]
    return None if found is None else (found, row["replacement_event_id"])


def _columns(keys: Collection[EventKey]) -> tuple[list[str], list[str]]:
    return [source for source, _ in keys], [event_id for _, event_id in keys]


def _result_to_json(result: CorrectionResult) -> list[object]:
    problem = result.problem
    said = [problem.field, problem.reason, problem.description] if problem else None
    return [result.outcome, result.replacement, said]


def _result_from_json(item: Sequence[object]) -> CorrectionResult:
    outcome, replacement, said = item
    return CorrectionResult(
        CorrectionOutcome(str(outcome)),
        tuple(replacement) if replacement else None,  # type: ignore[arg-type]
        Violation(*said) if said else None,  # type: ignore[misc]
    )
