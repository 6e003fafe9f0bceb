"""Charges as rating publishes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.outbox import StateFeed, StateValue
from services.rating.wire.charges import charges_changed_bytes

CHARGE_SUBJECT = "rating.charge.changed.v1"
WATERMARK_SUBJECT = "rating.watermark.advanced.v1"

ReadCharges = Callable[[AsyncConnection, str, Sequence[str]], Awaitable[list[StateValue]]]
"""Returns the current charges of a tenant, encoded, for the keys in their outbox."""


def charge_feed(table: sa.Table, read_charges: ReadCharges) -> StateFeed:
    """Say how marked charges become messages."""
    return StateFeed(
        entity="charge",
        table=table,
        read_current=read_charges,
        pack=_pack,
        subject_for=lambda _tenant: CHARGE_SUBJECT,
    )


def _pack(tenant_id: str, values: Sequence[StateValue]) -> bytes:
    return charges_changed_bytes(tenant_id, [value.payload for value in values])
