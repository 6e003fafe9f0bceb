"""Charges in PostgreSQL: the current value of each, and why a period has none."""

# ruff: noqa: S608 - statements are put together from constants, values are parameters.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import raw
from libs.outbox import StateOutbox, StateValue
from services.rating.domain.billing_period import PeriodKey
from services.rating.domain.period_charge import ChangedCharge, PeriodCharge, in_card_order
from services.rating.domain.queue import RatingProblem
from services.rating.store.columns import joined, joined_numbers
from services.rating.store.keys import KEYS, NUMBERED_KEYS, OF_KEY, key_columns, numbered_key_columns
from services.rating.wire.charges import charge_bytes, charge_content, charge_from_content

_OF_PERIODS = f"""
SELECT k.number, c.price_id, c.content, c.withdrawn, c.version, c.trace_parent FROM {NUMBERED_KEYS}
CROSS JOIN LATERAL (
    SELECT price_id, content, withdrawn, version, trace_parent FROM charges WHERE {OF_KEY} OFFSET 0
) c
"""

_BY_KEY = """
SELECT k.number, c.content, c.version, c.trace_parent
FROM unnest(
    string_to_array($2, E'\x1f'), string_to_array($3, E'\x1f')::timestamptz[], string_to_array($4, E'\x1f')
) WITH ORDINALITY AS k(subscription_id, period_start, price_id, number)
CROSS JOIN LATERAL (
    SELECT content, version, trace_parent FROM charges
    WHERE tenant_id = $1 AND subscription_id = k.subscription_id AND period_start = k.period_start
        AND price_id = k.price_id
    OFFSET 0
) c
"""

# Drawn while the caller holds the rows of the billing periods, so that the versions of one charge grow in the order
# of commits.
_DRAW_VERSIONS = "SELECT nextval('state_version') FROM generate_series(1, $1)"

_SAVE = """
INSERT INTO charges AS c (tenant_id, subscription_id, period_start, price_id, meter_id, quantity, amount, withdrawn,
                          version, trace_parent, content)
SELECT tenant_id, subscription_id, period_start, price_id, coalesce(meter_id, ''), quantity, amount, withdrawn,
       version, coalesce(trace_parent, ''), content
FROM unnest(
    string_to_array($1, E'\x1f'), string_to_array($2, E'\x1f'), string_to_array($3, E'\x1f')::timestamptz[],
    string_to_array($4, E'\x1f'), string_to_array($5, E'\x1f'), string_to_array($6, E'\x1f')::numeric[],
    string_to_array($7, E'\x1f')::numeric[], string_to_array($8, E'\x1f')::boolean[],
    string_to_array($9, E'\x1f')::bigint[], string_to_array($10, E'\x1f'), $11::bytea[]
) AS n(tenant_id, subscription_id, period_start, price_id, meter_id, quantity, amount, withdrawn, version,
       trace_parent, content)
ON CONFLICT (tenant_id, subscription_id, period_start, price_id) DO UPDATE
    SET meter_id = excluded.meter_id, quantity = excluded.quantity, amount = excluded.amount,
        withdrawn = excluded.withdrawn, version = excluded.version, trace_parent = excluded.trace_parent,
        content = excluded.content
"""

_CLEAR_PROBLEMS = f"""
DELETE FROM rating_problems WHERE ctid = ANY(ARRAY(
    SELECT p.ctid FROM {KEYS} CROSS JOIN LATERAL (SELECT ctid FROM rating_problems WHERE {OF_KEY} FOR UPDATE) p
))
"""

_ADD_PROBLEMS = """
INSERT INTO rating_problems (tenant_id, subscription_id, period_start, reason, description, failed_at)
SELECT p.tenant_id, p.subscription_id, p.period_start, p.reason, p.description, $6
FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[])
    AS p(tenant_id, subscription_id, period_start, reason, description)
"""

_PROBLEMS = f"""
SELECT k.tenant_id, k.subscription_id, k.period_start, p.reason, p.description
FROM {KEYS} CROSS JOIN LATERAL (SELECT reason, description FROM rating_problems WHERE {OF_KEY} OFFSET 0) p
"""


class PostgresChargeStore:
    """Charges of billing periods. Who writes holds the rows of the billing periods locked.

    What a charge says is stored as it is published, so that neither comparing nor publishing has to decode it; the
    columns beside it are for SQL.
    """

    def __init__(self, connection: asyncpg.Connection, outbox: StateOutbox) -> None:
        self._connection = connection
        self._outbox = outbox

    async def of_periods(self, keys: Sequence[PeriodKey]) -> dict[PeriodKey, list[PeriodCharge]]:
        """Return the charges of billing periods in the order of the card, withdrawn ones at the end."""
        found: dict[PeriodKey, list[PeriodCharge]] = {key: [] for key in keys}
        for number, _, content, withdrawn, version, trace_parent in await self._stored(keys):
            key = keys[number - 1]
            found[key].append(
                charge_from_content(
                    key.tenant_id, content, withdrawn=withdrawn, version=version, trace_parent=trace_parent
                )
            )
        return {key: in_card_order(charges) for key, charges in found.items()}

    async def changed(
        self, fresh: Mapping[PeriodKey, Sequence[PeriodCharge]], withdraw: Callable[[PeriodCharge], PeriodCharge]
    ) -> list[ChangedCharge]:
        """Return what has to be stored: charges that say something new, and what `withdraw` makes of vanished ones."""
        keys = list(fresh)
        stored: list[dict[str, asyncpg.Record]] = [{} for _ in keys]
        for row in await self._stored(keys):
            stored[row[0] - 1][row[1]] = row
        changed = []
        for key, known in zip(keys, stored, strict=True):
            for charge in fresh[key]:
                row, content = known.pop(charge.price_id, None), charge_content(charge)
                if row is None or row[2] != content or row[3]:
                    changed.append(ChangedCharge(charge, content))
            for row in known.values():
                changed += _withdrawn(key, row, withdraw)
        return changed

    async def save(self, changed: Sequence[ChangedCharge], now: datetime) -> None:
        """Store charges under new versions, to be published as they are now."""
        if not changed:
            return
        changed = sorted(changed, key=lambda item: (item.charge.key, item.charge.price_id))  # As locks are taken.
        charges = [item.charge for item in changed]
        versions = [row[0] for row in await self._connection.fetch(_DRAW_VERSIONS, len(charges))]
        await self._connection.execute(
            _SAVE,
            joined([charge.key.tenant_id for charge in charges]),
            joined([charge.key.subscription_id for charge in charges]),
            joined([charge.key.period_start.isoformat() for charge in charges]),
            joined([charge.price_id for charge in charges]),
            joined([charge.meter_id for charge in charges]),
            joined([format(charge.quantity, "f") for charge in charges]),
            joined([format(charge.amount, "f") for charge in charges]),
            joined(["true" if charge.withdrawn else "false" for charge in charges]),
            joined_numbers(versions),
            joined([charge.trace_parent for charge in charges]),
            [item.content for item in changed],
        )
        marks = [
            (charge.key.tenant_id, _item_key(charge), version)
            for charge, version in zip(charges, versions, strict=True)
        ]
        await self._outbox.mark(marks, now)

    async def save_problems(
        self, keys: Sequence[PeriodKey], problems: Mapping[PeriodKey, RatingProblem], failed_at: datetime
    ) -> None:
        """Replace the problems of the billing periods by these; a period without one could be rated."""
        await self._connection.execute(_CLEAR_PROBLEMS, *key_columns(keys))
        if problems:
            ordered = sorted(problems)
            reasons = [problems[key].reason for key in ordered]
            descriptions = [problems[key].description for key in ordered]
            await self._connection.execute(_ADD_PROBLEMS, *key_columns(ordered), reasons, descriptions, failed_at)

    async def problems(self, keys: Sequence[PeriodKey]) -> dict[PeriodKey, RatingProblem]:
        """Return why billing periods could not be rated, for those that could not."""
        rows = await self._connection.fetch(_PROBLEMS, *key_columns(keys))
        return {PeriodKey(*row[:3]): RatingProblem(row["reason"], row["description"]) for row in rows}

    async def _stored(self, keys: Sequence[PeriodKey]) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = await self._connection.fetch(_OF_PERIODS, *numbered_key_columns(keys))
        return rows


async def read_charges(connection: AsyncConnection, tenant_id: str, item_keys: Sequence[str]) -> list[StateValue]:
    """Return the current charges of a tenant for the keys in their outbox; those that do not exist are left out."""
    columns = zip(*(key.split("|") for key in item_keys), strict=True)
    rows = await (await raw(connection)).fetch(_BY_KEY, tenant_id, *map(joined, columns))
    return [
        StateValue(item_keys[number - 1], version, charge_bytes(content, version, trace_parent))
        for number, content, version, trace_parent in rows
    ]


def _withdrawn(
    key: PeriodKey, row: asyncpg.Record, withdraw: Callable[[PeriodCharge], PeriodCharge]
) -> list[ChangedCharge]:
    """The withdrawn charge of a price, unless it is what is stored."""
    _, _, content, withdrawn, version, trace_parent = row
    stored = charge_from_content(
        key.tenant_id, content, withdrawn=withdrawn, version=version, trace_parent=trace_parent
    )
    gone = withdraw(stored)
    return [] if gone == stored else [ChangedCharge(gone, charge_content(gone))]


def _item_key(charge: PeriodCharge) -> str:
    key = charge.key
    return f"{key.subscription_id}|{key.period_start.isoformat()}|{charge.price_id}"  # No id has a vertical bar.
