"""Events that acceptors counted and nobody will ever record: those of batches that people have given up.

A batch carries its acceptor's totals. What was accepted and refused between two recorded neighbours is
therefore known exactly, if everything between them was given up or never stored; a gap of which one number is still
open is not written off.
"""

from __future__ import annotations

# A batch that came after all is recorded: its number is no gap any more, and is written off no longer.
WRITTEN_OFF = """
WITH settled AS (
    SELECT DISTINCT acceptor_epoch, batch_number FROM hold_resolutions AS decided
    WHERE tenant_id = $1 AND batch_number > 0 AND NOT EXISTS (SELECT FROM batches AS recorded
        WHERE (recorded.tenant_id, recorded.acceptor_epoch, recorded.batch_number)
            = ($1, decided.acceptor_epoch, decided.batch_number))
), gap AS (
    SELECT DISTINCT settled.acceptor_epoch, coalesce(below.batch_number, 0) AS low, above.batch_number AS high,
        above.accepted_total - above.event_count
            - CASE WHEN below.batch_number IS NULL THEN 0 ELSE below.accepted_total END AS accepted,
        above.rejected_total - above.rejected_count
            - CASE WHEN below.batch_number IS NULL THEN 0 ELSE below.rejected_total END AS rejected
    FROM settled
    JOIN LATERAL (SELECT batch_number, accepted_total, rejected_total, event_count, rejected_count FROM batches
        WHERE (tenant_id, acceptor_epoch) = ($1, settled.acceptor_epoch) AND batch_number > settled.batch_number
        ORDER BY batch_number LIMIT 1) AS above ON true
    LEFT JOIN LATERAL (SELECT batch_number, accepted_total, rejected_total FROM batches
        WHERE (tenant_id, acceptor_epoch) = ($1, settled.acceptor_epoch) AND batch_number < settled.batch_number
        ORDER BY batch_number DESC LIMIT 1) AS below ON true
), explained AS (
    SELECT acceptor_epoch, batch_number FROM settled
    UNION SELECT acceptor_epoch, batch_number FROM abandoned_batches WHERE tenant_id = $1
)
SELECT coalesce(sum(accepted), 0)::bigint AS written_off, coalesce(sum(rejected), 0)::bigint AS rejected_written_off
FROM gap
WHERE high - low - 1 = (SELECT count(*) FROM explained WHERE explained.acceptor_epoch = gap.acceptor_epoch
    AND explained.batch_number > low AND explained.batch_number < high)
"""
