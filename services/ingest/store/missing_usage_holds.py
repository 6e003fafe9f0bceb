"""Whose invoices wait for usage that seems to be missing, as the keeper asks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

import asyncpg

from services.ingest.store import missing_usage_sql as sql
from services.ingest.usecases.ports import Hold

_logger = logging.getLogger(__name__)


async def missing_usage_holds(driver: asyncpg.Connection, watermark: datetime | None) -> list[Hold]:
    """Holds of tenants whose expectations name kinds that hold, in the keeper's transaction of the worker role.

    `watermark` is the one to be offered, if there is any. Everything that it covers is committed, so whatever that
    tells of gaps is seen here. If the question fails those tenants are held, and the watermark goes on for all others.
    """
    tenants = [row["tenant_id"] for row in await driver.fetch(sql.HOLDING_TENANTS)]
    if not tenants:
        return []
    try:
        async with driver.transaction():  # A savepoint.
            return await _read(driver, tenants, watermark)
    except asyncpg.PostgresError as error:
        if isinstance(error, asyncpg.OperatorInterventionError):
            raise
        _logger.exception("whose invoices wait for missing usage cannot be told")
        return [Hold(tenant_id, "whether usage is missing cannot be told") for tenant_id in tenants]


async def _read(driver: asyncpg.Connection, tenants: Sequence[str], watermark: datetime | None) -> list[Hold]:
    await driver.execute(sql.SEE_TENANTS, ",".join(tenants))
    rows = await driver.fetch(sql.HOLDS, watermark)
    await driver.execute(sql.SEE_TENANTS, "")
    return [
        Hold(row["tenant_id"], f"usage may be missing: {row['items']} of kind {row['kind']}, see steelyard findings")
        for row in rows
    ]
