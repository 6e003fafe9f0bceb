"""Leases: which of several processes does a piece of standing work at the moment."""

from __future__ import annotations

from datetime import datetime, timedelta

import asyncpg
import sqlalchemy as sa

LEASE = timedelta(seconds=5)


def lease_table(metadata: sa.MetaData) -> sa.Table:
    """Define `outbox_leases`: one row per feed; a queue table, without row-level security."""
    return sa.Table(
        "outbox_leases",
        metadata,
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("held_until", sa.DateTime(timezone=True), nullable=False),
    )


_HOLD = """
INSERT INTO outbox_leases AS kept (name, holder, held_until) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until
WHERE kept.holder = excluded.holder OR kept.held_until <= $4
RETURNING true
"""
_RELEASE = "UPDATE outbox_leases SET held_until = $3 WHERE name = $1 AND holder = $2"


async def hold(driver: asyncpg.Connection, name: str, holder: str, now: datetime) -> bool:
    """Take or prolong a lease by 5 s; return whether it is ours.

    It only saves work: two holders at once, as after a long pause, must do no harm.
    """
    return await driver.fetchval(_HOLD, name, holder, now + LEASE, now) is not None


async def release(driver: asyncpg.Connection, name: str, holder: str, now: datetime) -> None:
    """Give a lease up, if it is ours, so that another one need not wait for its end."""
    await driver.execute(_RELEASE, name, holder, now)
