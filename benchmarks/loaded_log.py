"""A month of usage written by the server itself, far faster than it could be sent: events, and their windows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import asyncpg

from benchmarks.workload import PERIOD_END, PERIOD_START

EVERYTHING = "events and windows of three meters; no keys, batches, marks"
_WINDOWS_IN_MONTH = (PERIOD_END - PERIOD_START).days * 96
_EVENTS_AT_ONCE = 500_000
_CUSTOMER = "'customer-' || lpad((n % $4)::text, 5, '0')"
# Customers take turns, and times go up evenly, as the log of a month of recording has them.
_EVENTS = f"""
INSERT INTO events (tenant_id, received_at, batch_id, ordinal, source, event_id, event_type, customer_id, event_time_ns,
    properties, measured)
SELECT $1, to_timestamp(time_ns / 1000000000), n / 1000, n % 1000, 'bulk', 'bulk-' || n, 'bulk', {_CUSTOMER}, time_ns,
    jsonb_build_object('v', value, 'u', text),
    jsonb_build_object('bulk-sum', value, 'bulk-p95', value, 'bulk-unique', '+' || text)
FROM generate_series($2::bigint, $3::bigint - 1) AS n,
    LATERAL (SELECT $5::bigint + (n * $6::numeric)::bigint AS time_ns) AS made,
    LATERAL (SELECT (hashint8(n) % 100000)::text || '.25' AS value,
        'user-' || (hashint8(n + 1) % 200000)::text AS text) AS measured_in
"""
_WINDOWS = """
INSERT INTO usage_windows (tenant_id, window_key, meter_id, customer_id, window_start, dimensions, value, event_count,
    version, trace_parent)
SELECT tenant_id, sha256(convert_to(concat_ws('|', meter_id, customer_id, number), 'UTF8')), meter_id, customer_id,
    to_timestamp(number * 900), '{}', sum(CASE WHEN meter_id = 'bulk-sum' THEN measured::numeric ELSE 1 END), count(*),
    nextval('state_version'), ''
FROM (
    SELECT tenant_id, customer_id, event_time_ns / 900000000000 AS number, meter_id, each.value AS measured
    FROM events, jsonb_each_text(measured) AS each (meter_id, value) WHERE tenant_id = $1
) AS event GROUP BY tenant_id, number, customer_id, meter_id ORDER BY number
"""


@dataclass(frozen=True, slots=True)
class LoadedLog:
    """So many events of so many customers, evenly over the month."""

    events: int
    customers: int

    def scaled(self, scale: float) -> LoadedLog:
        """Return it with fewer (or more) events."""
        return replace(self, events=max(10_000, round(self.events * scale)))

    def customer_ids(self) -> list[str]:
        """The ids of all customers."""
        return [f"customer-{number:05}" for number in range(self.customers)]

    @property
    def windows_of_one(self) -> int:
        """How many windows one customer has of a meter, at least one event a window given."""
        return min(_WINDOWS_IN_MONTH, self.events // self.customers)


async def load(connection: asyncpg.Connection, tenant_id: str, log: LoadedLog) -> None:
    """Write the events and windows of a tenant that has none; by a superuser, whom no policy keeps out."""
    start_ns = int(PERIOD_START.timestamp()) * 10**9
    step_ns = ((PERIOD_END - PERIOD_START).days * 86_400 * 10**9 - 1) // log.events
    await connection.execute("SELECT ensure_event_partition($1)", PERIOD_START)
    for first in range(0, log.events, _EVENTS_AT_ONCE):
        after = min(first + _EVENTS_AT_ONCE, log.events)
        await connection.execute(_EVENTS, tenant_id, first, after, log.customers, start_ns, step_ns)
    await connection.execute(_WINDOWS, tenant_id)
    await connection.execute("VACUUM (ANALYZE) events")
    await connection.execute("VACUUM (ANALYZE) usage_windows")
    await connection.execute("CHECKPOINT")
