"""Tell the sealer that windows changed otherwise than by recording."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

_RESEAL = """
INSERT INTO hours_to_seal (tenant_id, hour_start, cause)
SELECT DISTINCT $1, date_trunc('hour', window_start), $3
FROM usage_windows WHERE tenant_id = $1 AND window_key = ANY ($2::bytea[])
"""


async def reseal(driver: asyncpg.Connection, tenant_id: str, window_keys: Sequence[bytes], cause: str) -> None:
    """Have the hours of windows sealed anew if they were sealed, in the transaction that changes the windows.

    `cause` is one word that seals show. Recording does without: the sealer sees it by the batch.
    """
    await driver.execute(_RESEAL, tenant_id, window_keys, cause)
