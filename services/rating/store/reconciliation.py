"""Compares rating's tables with each other, inside PostgreSQL."""

# ruff: noqa: S608 - statements are put together from constants, values are parameters.

from __future__ import annotations

import asyncpg

from libs.periods import Period
from services.rating.domain.comparison import MAX_DIFFERENCES, Comparison, Difference

# A side has rows of (subject, total, shown): subjects are unique in it, `total` is what it adds to the side's sum, and
# two sides agree on a subject if they show the same.
_COMPARE = """
WITH scope AS MATERIALIZED (
    SELECT tenant_id, subscription_id, period_start, period_end, customer_id FROM billing_periods WHERE tenant_id = $1
        AND ($2::timestamptz IS NULL OR period_start >= $2) AND ($3::timestamptz IS NULL OR period_start < $3)
), {sides}, differing AS (
    SELECT subject, l.shown AS l, r.shown AS r FROM left_side l FULL JOIN right_side r USING (subject)
    WHERE l.shown IS DISTINCT FROM r.shown ORDER BY subject LIMIT $4
)
SELECT (SELECT coalesce(sum(total), 0) FROM left_side) AS left_total,
       (SELECT coalesce(sum(total), 0) FROM right_side) AS right_total,
       ARRAY(SELECT ARRAY[subject, coalesce(l, ''), coalesce(r, '')] FROM differing) AS differences
"""

_SHOWN = "trim_scale({0}) || ' in ' || {1} || ' events and ' || {2} || ' windows'"
_PERIOD = """'subscription ' || p.subscription_id || ', period from '
    || to_char(p.period_start, 'YYYY-MM-DD"T"HH24:MI"Z"')"""
_IN_PERIOD = (
    "w.tenant_id = p.tenant_id AND w.customer_id = p.customer_id AND w.window_start >= p.period_start"
    " AND w.window_start < p.period_end"
)

_PERIOD_ROLL_UPS = f"""
left_side AS (
    SELECT {_PERIOD} || ', meter ' || u.meter_id AS subject, u.value AS total,
           {_SHOWN.format("u.value", "u.event_count", "u.window_count")} AS shown
    FROM scope p JOIN period_usage u USING (tenant_id, subscription_id, period_start)
), right_side AS (
    SELECT {_PERIOD} || ', meter ' || w.meter_id AS subject, sum(w.value) AS total,
           {_SHOWN.format("sum(w.value)", "sum(w.event_count)", "count(*)")} AS shown
    FROM scope p JOIN usage_windows w ON {_IN_PERIOD}
    GROUP BY p.subscription_id, p.period_start, w.meter_id
)
"""

_DIMENSIONS = f"""
metered AS (
    SELECT p.tenant_id, p.subscription_id, p.period_start, m.meter_id, {_PERIOD} || ', meter ' || m.meter_id AS subject
    FROM scope p JOIN billing_periods b USING (tenant_id, subscription_id, period_start)
    JOIN matrix_prices m ON m.tenant_id = b.tenant_id AND m.rate_card_id = b.rate_card_id
), left_side AS (
    SELECT subject, sum(d.value) AS total, trim_scale(sum(d.value))::text AS shown
    FROM metered JOIN period_dimensions d USING (tenant_id, subscription_id, period_start, meter_id) GROUP BY subject
), right_side AS (
    SELECT subject, u.value AS total, trim_scale(u.value)::text AS shown
    FROM metered JOIN period_usage u USING (tenant_id, subscription_id, period_start, meter_id)
)
"""

_DAY_ROLL_UPS = f"""
hull AS (
    SELECT (date_trunc('day', min(period_start), 'UTC') AT TIME ZONE 'UTC')::date AS first_day,
           (max(period_end) AT TIME ZONE 'UTC')::date AS last_day
    FROM scope
), left_side AS (
    SELECT 'customer ' || d.customer_id || ', meter ' || d.meter_id || ', ' || d.day AS subject, d.value AS total,
           {_SHOWN.format("d.value", "d.event_count", "d.window_count")} AS shown
    FROM usage_days d, hull WHERE d.tenant_id = $1 AND d.day >= first_day AND d.day <= last_day
), right_side AS (
    SELECT 'customer ' || w.customer_id || ', meter ' || w.meter_id || ', ' || w.day AS subject, sum(w.value) AS total,
           {_SHOWN.format("sum(w.value)", "sum(w.event_count)", "count(*)")} AS shown
    FROM (
        SELECT customer_id, meter_id, value, event_count, (window_start AT TIME ZONE 'UTC')::date AS day
        FROM usage_windows WHERE tenant_id = $1
    ) w, hull
    WHERE w.day >= first_day AND w.day <= last_day
    GROUP BY w.customer_id, w.meter_id, w.day
)
"""

_METERED = "scope p JOIN charges c USING (tenant_id, subscription_id, period_start)"
_CHARGE_QUANTITIES = f"""
left_side AS (
    SELECT {_PERIOD} || ', price ' || c.price_id AS subject, c.quantity AS total, trim_scale(c.quantity)::text AS shown
    FROM {_METERED} WHERE c.meter_id <> '' AND NOT c.withdrawn
), right_side AS (
    SELECT {_PERIOD} || ', price ' || c.price_id AS subject, coalesce(e.value, u.value, 0) AS total,
           trim_scale(coalesce(e.value, u.value, 0))::text AS shown
    FROM {_METERED}
    LEFT JOIN period_usage u USING (tenant_id, subscription_id, period_start, meter_id)
    LEFT JOIN exact_usage e USING (tenant_id, subscription_id, period_start, meter_id)
    WHERE c.meter_id <> '' AND NOT c.withdrawn
)
"""

_TERMS = f"""
left_side AS (
    SELECT {_PERIOD} || ', price ' || c.price_id AS subject, c.used AS total, trim_scale(c.used)::text AS shown
    FROM scope p JOIN committed_costs c USING (tenant_id, subscription_id, period_start)
), right_side AS (
    SELECT {_PERIOD} || ', price ' || c.price_id AS subject, coalesce(sum(e.cost), 0) AS total,
           trim_scale(coalesce(sum(e.cost), 0))::text AS shown
    FROM scope p JOIN committed_costs c USING (tenant_id, subscription_id, period_start)
    LEFT JOIN committed_costs e ON e.tenant_id = c.tenant_id AND e.subscription_id = c.subscription_id
        AND e.price_id = c.price_id AND e.period_start >= c.term_start AND e.period_start < c.period_start
    GROUP BY p.subscription_id, p.period_start, c.price_id
)
"""

_RATED_PERIODS = f"""
left_side AS (
    SELECT {_PERIOD} AS subject, 1::numeric AS total, 'rated' AS shown FROM scope p
    WHERE EXISTS (SELECT FROM charges c WHERE (c.tenant_id, c.subscription_id, c.period_start)
                                            = (p.tenant_id, p.subscription_id, p.period_start))
        AND NOT EXISTS (SELECT FROM rating_problems f WHERE (f.tenant_id, f.subscription_id, f.period_start)
                                                          = (p.tenant_id, p.subscription_id, p.period_start))
), right_side AS (
    SELECT {_PERIOD} AS subject, 1::numeric AS total, 'rated' AS shown FROM scope p
)
"""

_CHECKS = {
    "period roll-ups = usage windows": _PERIOD_ROLL_UPS,
    "quantities by dimensions = period roll-ups": _DIMENSIONS,
    "day roll-ups = usage windows": _DAY_ROLL_UPS,
    "charge quantities = period roll-ups": _CHARGE_QUANTITIES,
    "used of commitments = earlier periods of the term": _TERMS,
    "rated billing periods = billing periods": _RATED_PERIODS,
}


class PostgresReconciliation:
    """The equations inside rating. Changes nothing."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def compare(self, tenant_id: str, within: Period | None) -> list[Comparison]:
        """Return every equation for the billing periods that start within a time (None: all)."""
        start, end = (None, None) if within is None else (within.start, within.end)
        comparisons = []
        for name, sides in _CHECKS.items():
            sql = _COMPARE.format(sides=sides.strip())
            row = await self._connection.fetchrow(sql, tenant_id, start, end, MAX_DIFFERENCES)
            differences = tuple(Difference(*difference) for difference in row["differences"])
            comparisons.append(Comparison(name, row["left_total"], row["right_total"], differences))
        return comparisons
