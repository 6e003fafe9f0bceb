"""Scopes of many customers as the first part of a statement (see `usage_sql`)."""

# ruff: noqa: S608 - statements are put together from constants; what callers say are arguments

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from libs.periods import Period
from services.ingest.domain.aggregations import BucketGrid
from services.ingest.domain.door import to_ns
from services.ingest.domain.meter import Meter
from services.ingest.store.measured_log import measured_log
from services.ingest.store.usage_sql import (
    EVENT,
    EVENT_STATE,
    MEASURED_EVENT,
    STATE,
    WINDOW_NS,
    Arguments,
    bucket_of_ns,
    is_windowed,
    usage_row,
)
from services.ingest.usecases.usage_parts import BEFORE
from services.ingest.usecases.usage_quantities import QuantityScope
from services.ingest.usecases.usage_question import cuts_windows, meter_grid
from services.ingest.usecases.window_cover import FIRST_INSTANT, cover

_GROUP = ("scope", "index", "bucket")


def with_scope_rows(
    tenant_id: str,
    meter: Meter,
    scopes: Sequence[QuantityScope],
    arguments: Arguments,
    known_at: datetime | None = None,
) -> str:
    """WITH ... usage_row; the scope is the number of the scope, the row 0, or BEFORE of what is carried over.

    :param known_at: as it was then, which only the log can tell; None: as it is
    """
    arguments.put(tenant_id)
    arguments.put(meter.meter_id)
    grid = _grid(meter, scopes)
    own, payload = (STATE, EVENT_STATE) if is_windowed(meter) else (EVENT, MEASURED_EVENT)
    if known_at is None and is_windowed(meter):
        part = _states(meter, scopes, grid, arguments)
    else:
        log = measured_log("" if known_at is None else arguments.put(known_at, "timestamptz"))
        part = _logged(meter, scopes, payload, grid, arguments, log)
    return f"""WITH part AS ({part}), grouped AS (SELECT {", ".join(_GROUP)}, {own} FROM part),
        {usage_row(meter, _GROUP, arguments)}"""


def _grid(meter: Meter, scopes: Sequence[QuantityScope]) -> BucketGrid | None:
    """Over all scopes; each of them cuts its first and last bucket itself."""
    if meter.buckets is None:
        return None
    periods = [scope.period for scope in scopes]
    whole = Period(min(period.start for period in periods), max(period.end for period in periods))
    return meter_grid(meter.buckets, whole)


def _bucket(grid: BucketGrid | None, time_ns: str, arguments: Arguments) -> str:
    return "0" if grid is None else bucket_of_ns(grid, time_ns, arguments)


def _states(meter: Meter, scopes: Sequence[QuantityScope], grid: BucketGrid | None, arguments: Arguments) -> str:
    """Windows, and events like windows."""
    kept: list[tuple[int, QuantityScope, Period, datetime | None]] = []
    edges: list[tuple[int, QuantityScope, Period]] = []
    for number, scope in enumerate(scopes):
        covered = cover(scope.period, carried=meter.carry_over, by_log=cuts_windows(meter))
        if covered.windows is not None:
            kept.append((number, scope, covered.windows, covered.cut))
        edges += [(number, scope, edge) for edge in covered.edges]
    numbers = arguments.put([number for number, *_ in kept], "int[]")
    customers = arguments.put([scope.customer_id for _, scope, *_ in kept], "text[]")
    begins = arguments.put([scope.period.start for _, scope, *_ in kept], "timestamptz[]")
    starts = arguments.put([windows.start for *_, windows, _ in kept], "timestamptz[]")
    ends = arguments.put([windows.end for *_, windows, _ in kept], "timestamptz[]")
    cuts = arguments.put([cut for *_, cut in kept], "timestamptz[]")
    return f"""
        SELECT scope.number AS scope, CASE WHEN window_start < scope.begins_at THEN {BEFORE} ELSE 0 END AS index,
            {_bucket(grid, WINDOW_NS, arguments)} AS bucket, {STATE}
        FROM unnest({numbers}, {customers}, {begins}, {starts}, {ends}, {cuts})
            AS scope (number, customer_id, begins_at, start_at, end_at, cut_at)
        JOIN usage_windows AS kept ON tenant_id = $1 AND meter_id = $2 AND kept.customer_id = scope.customer_id
            AND window_start >= start_at AND window_start < end_at AND window_start IS DISTINCT FROM cut_at
            AND event_count > 0
        UNION ALL {_events(edges, EVENT_STATE, grid, arguments, measured_log())}"""


def _logged(
    meter: Meter,
    scopes: Sequence[QuantityScope],
    payload: str,
    grid: BucketGrid | None,
    arguments: Arguments,
    log: str,
) -> str:
    """Events, those carried over included."""
    periods = [
        (number, scope, Period(FIRST_INSTANT, scope.period.end) if meter.carry_over else scope.period)
        for number, scope in enumerate(scopes)
    ]
    return _events(periods, payload, grid, arguments, log)


def _events(
    times: Iterable[tuple[int, QuantityScope, Period]],
    payload: str,
    grid: BucketGrid | None,
    arguments: Arguments,
    log: str,
) -> str:
    given = list(times)
    numbers = arguments.put([number for number, _, _ in given], "int[]")
    customers = arguments.put([scope.customer_id for _, scope, _ in given], "text[]")
    begins = arguments.put([to_ns(scope.period.start) for _, scope, _ in given], "bigint[]")
    starts = arguments.put([to_ns(time.start) for *_, time in given], "bigint[]")
    ends = arguments.put([to_ns(time.end) for *_, time in given], "bigint[]")
    return f"""
        SELECT scope.number AS scope, CASE WHEN event_time_ns < scope.begins_ns THEN {BEFORE} ELSE 0 END AS index,
            {_bucket(grid, "event_time_ns", arguments)} AS bucket, {payload}
        FROM unnest({numbers}, {customers}, {begins}, {starts}, {ends})
            AS scope (number, customer_id, begins_ns, start_ns, end_ns)
        JOIN {log} AS logged ON tenant_id = $1 AND measured ? $2 AND logged.customer_id = scope.customer_id
            AND event_time_ns >= start_ns AND event_time_ns < end_ns"""
