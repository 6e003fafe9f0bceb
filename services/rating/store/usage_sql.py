"""The set-wise statements of usage: windows and their roll-ups move together, in one statement.

All row locks are taken in the order windows, days, period roll-ups, those by dimensions, and each ordered by key.
"""

# ruff: noqa: S608 - statements are put together from constants, values are parameters.

from __future__ import annotations

from services.rating.store.keys import KEYS, NUMBERED_KEYS, OF_KEY

# A window of a known or lower version changes nothing. What a changed one adds to its roll-ups is its new value minus
# the one that this very statement replaces. The marks are part of it, for no changed period has to come back then.
APPLY = """
WITH incoming AS (
    SELECT tenant_id, customer_id, to_timestamp(start_s) AS window_start, meter_id,
           decode(coalesce(dimensions_key, ''), 'hex') AS dimensions_key, dimensions::jsonb, value::numeric,
           event_count, version, coalesce(trace_parent, '') AS trace_parent
    FROM unnest(
        string_to_array($1, E'\x1f'), string_to_array($2, E'\x1f'), string_to_array($3, E'\x1f')::bigint[],
        string_to_array($4, E'\x1f'), string_to_array($5, E'\x1f'), string_to_array($6, E'\x1f'),
        string_to_array($7, E'\x1f')::bigint[], string_to_array($8, E'\x1f')::bigint[],
        string_to_array($9, E'\x1f'), string_to_array($10, E'\x1f')
    ) AS i(tenant_id, customer_id, start_s, meter_id, dimensions, value, event_count, version, trace_parent,
           dimensions_key)
), changed AS (
    INSERT INTO usage_windows AS w (tenant_id, customer_id, window_start, meter_id, dimensions_key, dimensions, value,
                                    event_count, version, trace_parent)
    SELECT tenant_id, customer_id, window_start, meter_id, dimensions_key, dimensions, value, event_count, version,
           trace_parent
    FROM incoming ORDER BY tenant_id, customer_id, window_start, meter_id, dimensions_key
    ON CONFLICT (tenant_id, customer_id, window_start, meter_id, dimensions_key) DO UPDATE
        SET value = excluded.value, event_count = excluded.event_count, version = excluded.version,
            trace_parent = excluded.trace_parent
        WHERE w.version < excluded.version
    RETURNING new.tenant_id, new.customer_id, new.window_start, new.meter_id, new.dimensions_key, new.dimensions,
              new.value - coalesce(old.value, 0) AS value,
              new.event_count - coalesce(old.event_count, 0) AS event_count, (old.version IS NULL)::int AS window_count,
              new.version, new.trace_parent
), days AS (
    INSERT INTO usage_days AS d (tenant_id, customer_id, meter_id, day, value, event_count, window_count)
    SELECT tenant_id, customer_id, meter_id, (window_start AT TIME ZONE 'UTC')::date, sum(value), sum(event_count),
           sum(window_count)
    FROM changed GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    ON CONFLICT (tenant_id, customer_id, meter_id, day) DO UPDATE
        SET value = d.value + excluded.value, event_count = d.event_count + excluded.event_count,
            window_count = d.window_count + excluded.window_count
), totals AS (
    SELECT p.tenant_id, p.subscription_id, p.period_start, c.meter_id, sum(c.value) AS value,
           sum(c.event_count) AS event_count, sum(c.window_count) AS window_count, max(c.version) AS highest_version,
           max(c.trace_parent) AS trace_parent
    FROM changed c
    CROSS JOIN LATERAL (
        SELECT tenant_id, subscription_id, period_start FROM billing_periods
        WHERE tenant_id = c.tenant_id AND customer_id = c.customer_id AND period_start <= c.window_start
            AND c.window_start < period_end
        OFFSET 0
    ) p
    GROUP BY 1, 2, 3, 4
), rolled_up AS (
    INSERT INTO period_usage AS u (tenant_id, subscription_id, period_start, meter_id, value, event_count,
                                   window_count, highest_version, trace_parent)
    SELECT tenant_id, subscription_id, period_start, meter_id, value, event_count, window_count, highest_version,
           trace_parent
    FROM totals ORDER BY tenant_id, subscription_id, period_start, meter_id
    ON CONFLICT (tenant_id, subscription_id, period_start, meter_id) DO UPDATE
        SET value = u.value + excluded.value, event_count = u.event_count + excluded.event_count,
            window_count = u.window_count + excluded.window_count,
            highest_version = greatest(u.highest_version, excluded.highest_version),
            trace_parent = coalesce(nullif(excluded.trace_parent, ''), u.trace_parent)
), by_dimensions AS (
    INSERT INTO period_dimensions AS d (tenant_id, subscription_id, period_start, meter_id, dimensions_key, dimensions,
                                        value, event_count)
    SELECT p.tenant_id, p.subscription_id, p.period_start, c.meter_id, c.dimensions_key, (array_agg(c.dimensions))[1],
           sum(c.value), sum(c.event_count)
    FROM matrix_prices m
    JOIN changed c ON c.tenant_id = m.tenant_id AND c.meter_id = m.meter_id
    CROSS JOIN LATERAL (
        SELECT tenant_id, subscription_id, period_start FROM billing_periods
        WHERE tenant_id = c.tenant_id AND customer_id = c.customer_id AND rate_card_id = m.rate_card_id
            AND period_start <= c.window_start AND c.window_start < period_end
        OFFSET 0
    ) p
    GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT (tenant_id, subscription_id, period_start, meter_id, dimensions_key) DO UPDATE
        SET value = d.value + excluded.value, event_count = d.event_count + excluded.event_count
), carried AS (
    -- What happened before a period may act in it: seats that were added, the level of a store.
    SELECT p.tenant_id, p.subscription_id, p.period_start
    FROM (
        SELECT c.tenant_id, c.customer_id, e.rate_card_id, min(c.window_start) AS first_start
        FROM exact_prices e JOIN changed c ON c.tenant_id = e.tenant_id AND c.meter_id = e.meter_id
        GROUP BY 1, 2, 3
    ) AS earlier
    CROSS JOIN LATERAL (
        SELECT tenant_id, subscription_id, period_start FROM billing_periods
        WHERE tenant_id = earlier.tenant_id AND customer_id = earlier.customer_id
            AND rate_card_id = earlier.rate_card_id AND period_start > earlier.first_start
        OFFSET 0
    ) p
), marked AS (
    INSERT INTO rating_marks (mark, tenant_id, subscription_id, period_start, marked_at, urgent)
    SELECT nextval('rating_mark'), tenant_id, subscription_id, period_start, $11::timestamptz, false
    FROM (
        SELECT tenant_id, subscription_id, period_start FROM totals
        UNION SELECT tenant_id, subscription_id, period_start FROM carried
    ) AS periods
    RETURNING 1
)
SELECT count(*) FROM marked
"""

CLEAR_PERIODS = f"""
DELETE FROM period_usage WHERE ctid = ANY(ARRAY(
    SELECT u.ctid FROM {KEYS} CROSS JOIN LATERAL (SELECT ctid FROM period_usage WHERE {OF_KEY} FOR UPDATE) u
))
"""

SUM_UP_PERIODS = f"""
INSERT INTO period_usage (tenant_id, subscription_id, period_start, meter_id, value, event_count, window_count,
                          highest_version, trace_parent)
SELECT p.tenant_id, p.subscription_id, p.period_start, w.meter_id, sum(w.value), sum(w.event_count), count(*),
       max(w.version),
       coalesce((array_agg(w.trace_parent ORDER BY w.version DESC) FILTER (WHERE w.trace_parent <> ''))[1], '')
FROM {KEYS}
CROSS JOIN LATERAL (
    SELECT tenant_id, subscription_id, period_start, period_end, customer_id FROM billing_periods WHERE {OF_KEY}
    OFFSET 0
) p
CROSS JOIN LATERAL (
    SELECT meter_id, value, event_count, version, trace_parent FROM usage_windows
    WHERE tenant_id = p.tenant_id AND customer_id = p.customer_id
        AND window_start >= p.period_start AND window_start < p.period_end
    OFFSET 0
) w
GROUP BY p.tenant_id, p.subscription_id, p.period_start, w.meter_id
"""

PERIOD_USAGE = f"""
SELECT k.number, u.meter_id, u.window_count, u.value, u.event_count, u.highest_version, u.trace_parent
FROM {NUMBERED_KEYS}
CROSS JOIN LATERAL (
    SELECT meter_id, window_count, value, event_count, highest_version, trace_parent
    FROM period_usage WHERE {OF_KEY} OFFSET 0
) u
"""

# Whole UTC days come from the daily roll-up, days that the period cuts from the windows.
EXPLAIN = """
WITH whole AS (
    SELECT (date_trunc('day', $4::timestamptz - interval '1 microsecond', 'UTC') + interval '1 day') AS first_instant,
           date_trunc('day', $5::timestamptz, 'UTC') AS end_instant
)
SELECT meter_id, day, value, event_count, window_count
FROM usage_days, whole
WHERE tenant_id = $1 AND customer_id = $2 AND meter_id = ANY($3)
    AND day >= (first_instant AT TIME ZONE 'UTC')::date AND day < (end_instant AT TIME ZONE 'UTC')::date
UNION ALL
SELECT meter_id, (window_start AT TIME ZONE 'UTC')::date, sum(value), sum(event_count)::bigint, count(*)
FROM usage_windows, whole
WHERE tenant_id = $1 AND customer_id = $2 AND meter_id = ANY($3) AND window_start >= $4 AND window_start < $5
    AND (window_start < first_instant OR window_start >= end_instant)
GROUP BY 1, 2
ORDER BY 1, 2
"""

# Digests of the stored windows, not of a roll-up, by index of the scope.
SCOPE_DIGESTS = """
SELECT s.scope_index, w.meter_id, count(*) AS window_count, sum(w.value) AS value,
       sum(w.event_count)::bigint AS event_count, max(w.version) AS highest_version
FROM unnest($2::int[], $3::text[], $4::timestamptz[], $5::timestamptz[])
    AS s(scope_index, customer_id, start_at, end_at)
CROSS JOIN LATERAL (
    SELECT meter_id, value, event_count, version FROM usage_windows
    WHERE tenant_id = $1 AND customer_id = s.customer_id AND window_start >= s.start_at AND window_start < s.end_at
    OFFSET 0
) w
GROUP BY 1, 2
"""
