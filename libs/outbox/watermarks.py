"""The outbox of watermarks: instants before which everything has passed, to be told behind the state they cover.

A watermark is offered together with `after_version`: a number that no version of a change it covers exceeds. Versions
come from one sequence per service, so its `last_value`, read after all covered transactions have committed, is one.
The watermark may be published once no mark with `version <= after_version` is left:

- A covered change has version v <= after_version, and its mark was committed with it, before the offer. That mark is
  deleted only after the broker has acknowledged version v or a later one of the item.
- The forwarder reads the offer and the marks in one statement, so with one snapshot, and a snapshot that contains the
  offer contains every covered change. Marks of changes that commit later are none of this watermark's business.
- Publishing comes before the note that it was published: a crash in between repeats it under the same id.

Two candidates are kept. The *awaited* one is never replaced, or under constant load the condition would move away as
fast as it is approached; the *latest* follows and takes its place, or overtakes it when it may be published too.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import raw


def watermark_table(metadata: sa.MetaData) -> sa.Table:
    """Define `outbox_watermarks`: one row per name; a queue table, without row-level security."""
    return sa.Table(
        "outbox_watermarks",
        metadata,
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("awaited_at", sa.DateTime(timezone=True), comment="The watermark to be published next."),
        sa.Column("awaited_after_version", sa.BigInteger),
        sa.Column("awaited_payload", sa.LargeBinary),
        sa.Column("latest_at", sa.DateTime(timezone=True), comment="The newest one offered behind it."),
        sa.Column("latest_after_version", sa.BigInteger),
        sa.Column("latest_payload", sa.LargeBinary),
        sa.Column("forwarded_through", sa.DateTime(timezone=True), comment="The watermark published last."),
        sa.Column("forwarded_at", sa.DateTime(timezone=True), comment="When that was."),
    )


_OFFER = """
INSERT INTO {watermarks} AS kept (name, awaited_at, awaited_after_version, awaited_payload) VALUES ($1, $2, $3, $4)
ON CONFLICT (name) DO UPDATE SET
    awaited_at = coalesce(kept.awaited_at, excluded.awaited_at),
    awaited_after_version = coalesce(kept.awaited_after_version, excluded.awaited_after_version),
    awaited_payload = coalesce(kept.awaited_payload, excluded.awaited_payload),
    latest_at = CASE WHEN kept.awaited_at IS NOT NULL THEN excluded.awaited_at END,
    latest_after_version = CASE WHEN kept.awaited_at IS NOT NULL THEN excluded.awaited_after_version END,
    latest_payload = CASE WHEN kept.awaited_at IS NOT NULL THEN excluded.awaited_payload END
-- greatest() leaves out what is NULL, and is NULL only if all are.
WHERE coalesce(excluded.awaited_at > greatest(kept.forwarded_through, kept.awaited_at, kept.latest_at), true)
"""


class WatermarkOutbox:
    """Offers watermarks for publication."""

    def __init__(self, connection: AsyncConnection, table: sa.Table, name: str) -> None:
        self._connection = connection
        self._offer = _OFFER.format(watermarks=table.name)
        self._name = name

    async def offer(self, at: datetime, after_version: int, payload: bytes) -> None:
        """Offer the watermark `at` with its encoded message; one that is not later than those before is ignored.

        `after_version` was read after the commit of every transaction that the watermark covers (this one may be
        among them, if it has taken its versions).
        """
        await (await raw(self._connection)).execute(self._offer, self._name, at, after_version, payload)
