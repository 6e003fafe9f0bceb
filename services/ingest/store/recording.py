"""The recorder's statements: arrays in, sets out, no row of its own per Python call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain, repeat

import asyncpg
import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import raw
from libs.errors import Aborted
from services.ingest.domain.batch_digest import MERKLE
from services.ingest.domain.meter import Meter
from services.ingest.domain.meter_options import Aggregation
from services.ingest.domain.recording import BatchOutcome, EventException, Fate, KeyColumns, RecordingBatch, of_rows
from services.ingest.domain.usage_batch import UsageBatch
from services.ingest.domain.usage_windows import WindowChange
from services.ingest.store import recording_sql as sql
from services.ingest.store.arrivals import WatchedTenants, add_arrivals
from services.ingest.store.fate_counts import add_fate_counts
from services.ingest.store.meter_cache import MeterCache
from services.ingest.store.meter_changes import HOLD_COUNTING
from services.ingest.store.waiting_voids import take_waiting_voids
from services.ingest.usecases.ports import QueuedBatch, QueuedMarker


class PostgresRecordingStore:
    """RecordingStore in one open transaction of the worker role."""

    def __init__(self, driver: asyncpg.Connection, meters: MeterCache, watched: WatchedTenants) -> None:
        self._driver = driver
        self._meters = meters
        self._watched = watched

    @classmethod
    async def on(
        cls, connection: AsyncConnection, meters: MeterCache, watched: WatchedTenants
    ) -> PostgresRecordingStore:
        """Work in the transaction that is open on `connection`."""
        return cls(await raw(connection), meters, watched)

    async def add_batches(self, batches: Sequence[UsageBatch]) -> Mapping[int, int]:
        first = {_batch_key(batches[index]): index for index in reversed(range(len(batches)))}
        ordered = [batches[index] for _, index in sorted(first.items())]
        rows = await self._driver.fetch(
            sql.ADD_BATCHES,
            [batch.tenant_id for batch in ordered],
            [batch.acceptor_epoch for batch in ordered],
            [batch.batch_number for batch in ordered],
            [batch.received_at for batch in ordered],
            [batch.accepted_at for batch in ordered],
            [len(batch.events) for batch in ordered],
            [len(batch.rejected) for batch in ordered],
            [batch.trace_parent for batch in ordered],
            [batch.accepted_total for batch in ordered],
            [batch.rejected_total for batch in ordered],
        )
        return {first[row["tenant_id"], row["acceptor_epoch"], row["batch_number"]]: row["batch_id"] for row in rows}

    async def meters(self, tenant_ids: Sequence[str]) -> Mapping[str, Sequence[Meter]]:
        await self._driver.execute(HOLD_COUNTING, tenant_ids)
        return await self._meters.read(self._driver, tenant_ids)

    async def add_keys(self, batches: Sequence[RecordingBatch], keys: KeyColumns) -> set[tuple[int, int]] | None:
        if not len(keys):
            return None
        row = await self._driver.fetchrow(
            sql.ADD_KEYS,
            *_batch_columns(batches),
            _joined([str(slot + 1) for slot in keys.slots]),
            _joined(list(map(str, keys.ordinals))),
            _joined(keys.sources),
            _joined(keys.event_ids),
            b"".join(keys.payload_hashes),
            len(keys),
        )
        if row["all_new"]:
            return None
        return set(zip(row["batch_ids"] or (), row["ordinals"] or (), strict=True))

    async def stored_hashes(
        self, batches: Sequence[RecordingBatch], rows: Sequence[tuple[int, int]]
    ) -> list[bytes | None]:
        if not rows:
            return []
        found: list[bytes | None] = [None] * len(rows)
        for row in await self._driver.fetch(
            sql.STORED_HASHES,
            [batches[index].batch.tenant_id for index, _ in rows],
            [batches[index].batch.events.sources[ordinal] for index, ordinal in rows],
            [batches[index].batch.events.event_ids[ordinal] for index, ordinal in rows],
        ):
            found[row["position"] - 1] = row["payload_hash"]
        for (index, ordinal), stored in zip(rows, found, strict=True):
            if stored is None and ordinal not in batches[index].measurement.problems:
                # Its key was there a moment ago: retention is deleting it. The next try inserts it.
                raise Aborted("an event key vanished during recording")
        return found

    async def take_waiting_voids(self, batches: Sequence[RecordingBatch]) -> None:
        await take_waiting_voids(self._driver, batches)

    async def add_events(self, batches: Sequence[RecordingBatch]) -> None:
        recorded = [(slot, item, sorted(item.recorded)) for slot, item in enumerate(batches) if item.recorded]
        if not recorded:
            return

        def column(pick: Callable[[RecordingBatch], Sequence[str]]) -> str:
            return _joined(chain.from_iterable(of_rows(pick(item), rows) for _, item, rows in recorded))

        await self._driver.execute(
            sql.ADD_EVENTS,
            *_batch_columns(batches),
            _joined(chain.from_iterable(repeat(str(slot + 1), len(rows)) for slot, _, rows in recorded)),
            _joined(chain.from_iterable(map(str, rows) for _, _, rows in recorded)),
            column(lambda item: list(map(str, item.batch.events.times_ns))),
            column(lambda item: item.batch.events.sources),
            column(lambda item: item.batch.events.event_ids),
            column(lambda item: item.batch.events.event_types),
            column(lambda item: item.batch.events.customer_ids),
            column(lambda item: [orjson.dumps(properties).decode() for properties in item.batch.events.properties]),
            column(lambda item: item.measured_texts()),
        )

    async def add_outcomes(self, batches: Sequence[RecordingBatch]) -> None:
        if not batches:
            return
        await self._add_results(batches)
        await self._add_exceptions(batches)

    async def add_arrivals(self, batches: Sequence[RecordingBatch], now: datetime) -> None:
        await add_arrivals(self._driver, self._watched, [item.batch for item in batches], now)

    async def add_counts(self, batches: Sequence[RecordingBatch]) -> None:
        if not batches:
            return
        await self._add_duplicates(batches)
        await self._add_customers(batches)
        await self._driver.execute(
            sql.ADD_COUNTERS,
            [item.batch.tenant_id for item in batches],
            [item.batch.acceptor_epoch for item in batches],
            [item.batch.accepted_total for item in batches],
            [item.batch.rejected_total for item in batches],
            *([item.count(fate) for item in batches] for fate in Fate),
        )
        await add_fate_counts(self._driver, batches)

    async def add_windows(self, changes: Mapping[str, Sequence[WindowChange]], now: datetime) -> None:
        items = [(tenant_id, change) for tenant_id, of_tenant in sorted(changes.items()) for change in of_tenant]
        by_statement: dict[str, list[tuple[str, WindowChange]]] = {
            statement: [] for statement in sql.ADD_WINDOWS.values()
        }
        for item in items:
            by_statement[sql.ADD_WINDOWS[item[1].aggregation]].append(item)
        for statement, chosen in by_statement.items():
            if chosen:
                await self._driver.execute(statement, *_window_columns(chosen, now))

    async def stored_outcomes(self, batches: Sequence[UsageBatch]) -> list[BatchOutcome]:
        if not batches:
            return []
        columns = [list(column) for column in zip(*map(_batch_key, batches), strict=True)]
        exceptions: list[list[EventException]] = [[] for _ in batches]
        for row in await self._driver.fetch(sql.STORED_DUPLICATES, *columns):
            exceptions[row["position"] - 1].append(EventException(row["ordinal"], Fate.DUPLICATE, None))
        for row in await self._driver.fetch(sql.STORED_EXCEPTIONS, *columns):
            problem = sql.problem_of(row)
            exceptions[row["position"] - 1].append(EventException(row["ordinal"], Fate(row["verdict"]), problem))
        return [
            BatchOutcome(*_batch_key(batch), sorted(found, key=lambda item: item.ordinal))
            for batch, found in zip(batches, exceptions, strict=True)
        ]

    async def add_positions(self, batches: Sequence[QueuedBatch], markers: Sequence[QueuedMarker]) -> None:
        positions = [*(item.position for item in batches), *(item.position for item in markers)]
        no_batch = [("", "", 0)] * len(markers)
        keys = [*(_batch_key(item.batch) for item in batches), *no_batch]
        await self._driver.execute(
            sql.ADD_POSITIONS,
            [at.stream_epoch for at in positions],
            [at.stream_seq for at in positions],
            *(list(column) for column in zip(*keys, strict=True)),
        )
        if markers:
            await self._driver.execute(
                sql.ADD_MARKERS,
                [item.position.stream_epoch for item in markers],
                [item.position.stream_seq for item in markers],
                [item.marker_id for item in markers],
                [item.marked_at for item in markers],
            )
        abandoned = sorted(
            {
                (item.batch.tenant_id, item.batch.acceptor_epoch, n)
                for item in batches
                for n in item.batch.abandoned_numbers
            }
        )
        if abandoned:
            await self._driver.execute(sql.ADD_ABANDONED, *(list(column) for column in zip(*abandoned, strict=True)))

    async def _add_results(self, batches: Sequence[RecordingBatch]) -> None:
        duplicates = [[x.ordinal for x in item.exceptions if x.fate is Fate.DUPLICATE] for item in batches]
        await self._driver.execute(
            sql.ADD_RESULTS,
            [item.batch.tenant_id for item in batches],
            [item.batch_id for item in batches],
            *([item.count(fate) for item in batches] for fate in Fate),
            # PostgreSQL's arrays of arrays are rectangular: these travel as text.
            ["{" + ",".join(map(str, ordinals)) + "}" for ordinals in duplicates],
            *([item.digest() for item in batches], MERKLE, [item.oldest_ns for item in batches]),
        )

    async def _add_exceptions(self, batches: Sequence[RecordingBatch]) -> None:
        rows = list(chain.from_iterable(map(_exception_rows, batches)))
        if rows:
            await self._driver.execute(sql.ADD_EXCEPTIONS, *(list(column) for column in zip(*rows, strict=True)))

    async def _add_duplicates(self, batches: Sequence[RecordingBatch]) -> None:
        keys = [
            (item.batch.tenant_id, item.batch.events.sources[x.ordinal], item.batch.events.event_ids[x.ordinal])
            for item in batches
            for x in item.exceptions
            if x.fate is Fate.DUPLICATE
        ]
        if keys:
            await self._driver.execute(sql.ADD_DUPLICATES, *(list(column) for column in zip(*keys, strict=True)))

    async def _add_customers(self, batches: Sequence[RecordingBatch]) -> None:
        counts: dict[str, Counter[str]] = {}
        for item in batches:
            of_tenant = counts.setdefault(item.batch.tenant_id, Counter())
            of_tenant.update(of_rows(item.batch.events.customer_ids, list(item.recorded)))
        ordered = sorted(
            (tenant, customer, count) for tenant, found in counts.items() for customer, count in found.items()
        )
        if ordered:
            await self._driver.execute(sql.ADD_CUSTOMERS, *(list(column) for column in zip(*ordered, strict=True)))


def _batch_columns(batches: Sequence[RecordingBatch]) -> tuple[list[str], list[datetime], list[int]]:
    """What all events of a batch have in common, addressed by its slot."""
    tenants, received = [item.batch.tenant_id for item in batches], [item.batch.received_at for item in batches]
    return tenants, received, [item.batch_id for item in batches]


_joined = sql.SEPARATOR.join


def _window_columns(items: Sequence[tuple[str, WindowChange]], now: datetime) -> list[object]:
    columns: list[object] = [
        _joined([tenant_id for tenant_id, _ in items]),
        _joined([change.key.hex() for _, change in items]),
        _joined([change.meter_id for _, change in items]),
        _joined([change.customer_id for _, change in items]),
        _joined([str(int(change.start.timestamp())) for _, change in items]),
        _joined([change.dimensions for _, change in items]),
        _joined([str(change.value) for _, change in items]),
        _joined([str(change.event_count) for _, change in items]),
        [change.trace_parent for _, change in items],
        now,
    ]
    if items[0][1].aggregation is Aggregation.LATEST:
        columns += [[change.latest_ns for _, change in items], [change.latest_position for _, change in items]]
    return columns


def _batch_key(batch: UsageBatch) -> tuple[str, str, int]:
    return batch.tenant_id, batch.acceptor_epoch, batch.batch_number


def _exception_rows(item: RecordingBatch) -> Iterable[tuple[object, ...]]:
    batch, events = item.batch, item.batch.events
    for index, refused in enumerate(batch.rejected):
        ids = (refused.source, refused.event_id, refused.event_type, refused.customer_id)
        problem = refused.problem
        yield (
            *(batch.tenant_id, batch.received_at, item.batch_id, -1 - index, Fate.REJECTED, *ids),
            *(problem.field, problem.reason, problem.description),
        )
    for found in item.exceptions:
        if found.problem is None:
            continue
        row, problem = found.ordinal, found.problem
        ids = (events.sources[row], events.event_ids[row], events.event_types[row], events.customer_ids[row])
        yield (
            *(batch.tenant_id, batch.received_at, item.batch_id, row, found.fate, *ids),
            *(problem.field, problem.reason, problem.description),
        )
