"""Usage of billing periods by local hours, days or times of the week, from the stored windows in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from services.rating.domain.usage_by_window import WindowQuantity, WindowScope

# One row for each time in which a zone's offset does not change: mostly one or two of a billing period. The places are
# those of `WindowCut`; days and times of the week of several spans meet in one place. Where all events were taken back
# nothing was used, though a window is left.
_OF_SCOPES = """
SELECT w.number,
       CASE w.cut
           WHEN 'hour' THEN greatest(w.start_s, w.local_s / 3600 * 3600 - w.offset_s)
           WHEN 'day' THEN w.local_s / 86400
           ELSE (w.local_s + 259200) / 60 % 10080
       END AS place,
       sum(w.value) AS quantity
FROM (
    SELECT s.number, s.cut, s.offset_s, extract(epoch FROM s.start_at)::bigint AS start_s,
           extract(epoch FROM u.window_start)::bigint + s.offset_s AS local_s, u.value, u.event_count
    FROM unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[],
                $8::bigint[])
        AS s(number, tenant_id, customer_id, meter_id, cut, start_at, end_at, offset_s)
    CROSS JOIN LATERAL (
        SELECT window_start, value, event_count FROM usage_windows
        WHERE tenant_id = s.tenant_id AND customer_id = s.customer_id AND meter_id = s.meter_id
            AND window_start >= s.start_at AND window_start < s.end_at
        OFFSET 0
    ) u
) w
GROUP BY 1, 2
HAVING sum(w.event_count) <> 0 OR sum(w.value) <> 0
ORDER BY 1, 2
"""


class PostgresUsageByWindowStore:
    """UsageByWindowStore in one open transaction."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def of(self, scopes: Sequence[WindowScope]) -> list[list[WindowQuantity]]:
        """Return the quantities of each scope by place, in the order of places; those without usage are left out."""
        rows = [
            (number, scope.tenant_id, scope.customer_id, scope.meter_id, scope.cut.value, *span)
            for number, scope in enumerate(scopes)
            for span in scope.spans
        ]
        found: list[list[WindowQuantity]] = [[] for _ in scopes]
        if rows:
            columns = (list(column) for column in zip(*rows, strict=True))
            for number, place, quantity in await self._connection.fetch(_OF_SCOPES, *columns):
                found[number].append(WindowQuantity(place, quantity))
        return found
