"""Charges as rating publishes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.outbox import StateFeed, StateValue
from services.rating.domain.period_charge import PeriodCharge
from services.rating.wire.charges import charge_to_pb
from steelyard.rating.v1 import charge_pb2

CHARGE_SUBJECT = "rating.charge.changed.v1"
WATERMARK_SUBJECT = "rating.watermark.advanced.v1"

ReadCharges = Callable[[AsyncConnection, str, Sequence[str]], Awaitable[list[PeriodCharge]]]
"""Returns the current charges of a tenant for the keys in their outbox."""

ItemKey = Callable[[PeriodCharge], str]


def charge_feed(table: sa.Table, read_charges: ReadCharges, item_key: ItemKey) -> StateFeed:
    """Say how marked charges become messages."""

    async def read_current(connection: AsyncConnection, tenant_id: str, keys: Sequence[str]) -> list[StateValue]:
        charges = await read_charges(connection, tenant_id, keys)
        return [
            StateValue(item_key(charge), charge.version, charge_to_pb(charge).SerializeToString()) for charge in charges
        ]

    return StateFeed(
        entity="charge", table=table, read_current=read_current, pack=_pack, subject_for=lambda _tenant: CHARGE_SUBJECT
    )


def _pack(tenant_id: str, values: Sequence[StateValue]) -> bytes:
    charges = [charge_pb2.Charge.FromString(value.payload) for value in values]
    return charge_pb2.ChargesChanged(tenant_id=tenant_id, charges=charges).SerializeToString()
