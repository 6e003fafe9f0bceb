"""The swap of a replay: windows that differ become what the log gives, under their locks."""

# ruff: noqa: S608 - statements are put together from constants; what callers say are arguments

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg

from libs.outbox import marking
from libs.periods import WINDOW
from services.ingest.domain.meter import Meter
from services.ingest.domain.usage_windows import canonical_dimensions, window_key
from services.ingest.store import tables
from services.ingest.store.logged_states import NUMBER, PLACE, STATE, WINDOW_NS, LoggedStates
from services.ingest.store.measured_log import MEASURED_LOG
from services.ingest.store.recording_sql import ADD_WINDOWS
from services.ingest.store.resealing import reseal
from services.ingest.store.usage_sql import Arguments
from services.ingest.usecases.replay_ports import SwappedPortion, WindowPosition

PORTION_WINDOWS = 3_000
"""More than a month has of a customer and a meter without dimensions;"""
PORTION_EVENTS = 200_000
"""or fewer windows, if they have more events than this."""
RESEALED = "replay"
"""Why an hour has a new seal."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RANKS = {statement: rank for rank, statement in enumerate(dict.fromkeys(ADD_WINDOWS.values()))}
_FIRST = ("", "", _EPOCH.isoformat(), 0)

_NEXT = """
SELECT meter_id, customer_id, window_start, number, dimensions, window_key,
    greatest(live_events, built_events) AS events
FROM replay_windows
WHERE tenant_id = $1 AND replay_id = $2 AND (meter_id, customer_id, window_start, number) > ($3, $4, $5, $6)
ORDER BY meter_id, customer_id, window_start, number LIMIT $7
"""
# OFFSET 0 has each part looked up by its index: statistics know nothing of tables that have just grown.
#
# Who corrects events tells from the log which windows that concerns: not while the log gains readings.
_HOLD_CORRECTIONS = "SELECT pg_advisory_xact_lock(hashtextextended('ingest:corrections:' || $1::text, 0))"
_PUBLISH = f"""
INSERT INTO backfilled_events (tenant_id, meter_id, received_at, batch_id, ordinal, source, event_id, event_type,
    customer_id, event_time_ns, properties, value)
SELECT kept.tenant_id, kept.meter_id, received_at, batch_id, ordinal, source, event_id, event_type, kept.customer_id,
    event_time_ns, properties, value
FROM unnest($3::text[], $4::text[], $5::bigint[], $6::text[]) AS place (meter_id, customer_id, number, dimensions)
CROSS JOIN LATERAL (
    SELECT tenant_id, meter_id, received_at, batch_id, ordinal, source, event_id, event_type, customer_id,
        event_time_ns, properties, value
    FROM replay_measurements
    WHERE tenant_id = $1 AND replay_id = $2 AND meter_id = place.meter_id AND customer_id = place.customer_id
        AND event_time_ns >= number * {WINDOW_NS} AND event_time_ns < (number + 1) * {WINDOW_NS}
        AND properties = dimensions::jsonb OFFSET 0
) AS kept
"""
# In the order in which recorders take them: by how they are merged, then by key.
_LOCK = """
INSERT INTO usage_windows AS live (
    tenant_id, window_key, meter_id, customer_id, window_start, dimensions, value, event_count, version, trace_parent)
SELECT $1, window_key, meter_id, customer_id, to_timestamp(number * 900), dimensions::jsonb, 0, 0,
    nextval('state_version'), ''
FROM unnest($2::int[], $3::bytea[], $4::text[], $5::text[], $6::bigint[], $7::text[])
    AS place (rank, window_key, meter_id, customer_id, number, dimensions)
ORDER BY rank, window_key
ON CONFLICT (tenant_id, window_key) DO UPDATE SET version = live.version
"""


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of `usage_windows` that is to be made anew. Without `is_window` it stands where, by its key, another row is
    the window: it comes to nothing."""

    key: bytes
    meter: Meter
    customer_id: str
    number: int
    dimensions: str
    is_window: bool


async def swap_portion(
    driver: asyncpg.Connection,
    tenant_id: str,
    replay_id: str,
    meters: Sequence[Meter],
    after: WindowPosition | None,
    now: datetime,
) -> SwappedPortion:
    """Swap the next windows by meter, customer and time: whole customers of a meter, up to the size of a portion."""
    meter_id, customer_id, start, number = after or _FIRST
    behind = meter_id, customer_id, datetime.fromisoformat(start), number
    found = _portion(await driver.fetch(_NEXT, tenant_id, replay_id, *behind, PORTION_WINDOWS + 1))
    if not found:
        return SwappedPortion(None, 0)
    rows = _rows_of(found, {meter.meter_id: meter for meter in meters})
    await driver.execute(_HOLD_CORRECTIONS, tenant_id)
    windows = [row for row in rows if row.is_window]
    await driver.execute(_PUBLISH, tenant_id, replay_id, *_places(windows))
    ranks, keys = [_RANKS[ADD_WINDOWS[row.meter.window_aggregation]] for row in rows], [row.key for row in rows]
    await driver.execute(_LOCK, tenant_id, ranks, keys, *_places(rows))
    # The hours in which they stand, and those in which they stand then.
    await reseal(driver, tenant_id, keys, RESEALED)
    # A statement of its own: it sees whatever the locks were waiting for.
    await _recompute(driver, tenant_id, rows, now)
    await reseal(driver, tenant_id, keys, RESEALED)
    last = found[-1]
    position = last["meter_id"], last["customer_id"], last["window_start"].isoformat(), last["number"]
    return SwappedPortion(position, len(found))


def _portion(found: Sequence[asyncpg.Record]) -> Sequence[asyncpg.Record]:
    """As many from the first on as go together: whole groups of meter and customer, unless the first is too large."""
    events = 0
    for after, row in enumerate(found):
        events += row["events"]
        if after and (after == PORTION_WINDOWS or events > PORTION_EVENTS):
            cut = row["meter_id"], row["customer_id"]
            whole = [row for row in found[:after] if (row["meter_id"], row["customer_id"]) != cut]
            return whole or found[:after]
    return found


def _rows_of(found: Sequence[asyncpg.Record], meters: Mapping[str, Meter]) -> list[_Row]:
    """The window of each place that was noted, and rows that stand in one with a key that is not the window's."""
    windows: dict[bytes, _Row] = {}
    others: dict[bytes, _Row] = {}
    for row in found:
        dimensions = canonical_dimensions(row["dimensions"].items())
        number = (row["window_start"] - _EPOCH) // WINDOW
        key = window_key(row["meter_id"], row["customer_id"], number, dimensions)
        place = meters[row["meter_id"]], row["customer_id"], number, dimensions
        windows[key] = _Row(key, *place, is_window=True)
        if row["window_key"] not in (None, key):
            others[row["window_key"]] = _Row(row["window_key"], *place, is_window=False)
    return list((others | windows).values())


def _places(rows: Sequence[_Row]) -> tuple[list[str], list[str], list[int], list[str]]:
    return (
        [row.meter.meter_id for row in rows],
        [row.customer_id for row in rows],
        [row.number for row in rows],
        [row.dimensions for row in rows],
    )


async def _recompute(driver: asyncpg.Connection, tenant_id: str, rows: Sequence[_Row], now: datetime) -> None:
    """Each customer's quarter of an hour is read once, however many windows it has."""
    arguments = Arguments(tenant_id, [row.key for row in rows], *_places(rows), [row.is_window for row in rows], now)
    states = LoggedStates(list({row.meter.meter_id: row.meter for row in rows}.values()), arguments)
    events = f"""(SELECT DISTINCT customer_id AS slot_customer, number AS slot FROM wanted) AS slot
        CROSS JOIN LATERAL (
            SELECT customer_id, event_time_ns, batch_id, ordinal, properties, logged.measured
            FROM {MEASURED_LOG} AS logged
            WHERE tenant_id = $1 AND customer_id = slot_customer AND event_time_ns >= slot * {WINDOW_NS}
                AND event_time_ns < (slot + 1) * {WINDOW_NS} OFFSET 0
        ) AS event"""
    await driver.execute(
        f"""
WITH wanted AS (
    SELECT window_key, meter_id COLLATE "C" AS meter_id, customer_id COLLATE "C" AS customer_id, number,
        dimensions::jsonb AS dimensions, is_window
    FROM unnest($2::bytea[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::boolean[])
        AS wanted (window_key, meter_id, customer_id, number, dimensions, is_window)
), {states.rule}, reading AS ({states.reading(events, "true")}), {states.logged()}, changed AS (
    UPDATE usage_windows AS live SET
        meter_id = wanted.meter_id, customer_id = wanted.customer_id, window_start = to_timestamp(wanted.number * 900),
        dimensions = wanted.dimensions, value = coalesce(state.value, 0),
        event_count = coalesce(state.event_count, 0), latest_ns = coalesce(state.latest_ns, 0),
        latest_position = coalesce(state.latest_position, 0), version = nextval('state_version')
    FROM wanted LEFT JOIN (SELECT {PLACE}, {STATE}, true AS is_window FROM logged) AS state
        USING ({PLACE}, is_window)
    WHERE live.tenant_id = $1 AND live.window_key = wanted.window_key
        -- One that stands in a wrong place may have been put into its own by now.
        AND (is_window OR (live.meter_id, live.customer_id, {NUMBER}, live.dimensions)
            = (wanted.meter_id, wanted.customer_id, wanted.number, wanted.dimensions))
    RETURNING live.tenant_id, encode(live.window_key, 'hex') AS item_key, live.version
)
{marking(tables.window_marks, "changed", "$8::timestamptz")}
""",
        *arguments.values,
    )
