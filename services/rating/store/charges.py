"""Charges in PostgreSQL: the current value of each, and why a period has none."""

# ruff: noqa: S608 - statements are put together from constants, values are parameters.

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import raw
from libs.money import RoundingMode
from libs.outbox import StateOutbox
from services.rating.domain.billing_period import PeriodKey
from services.rating.domain.period_charge import PeriodCharge
from services.rating.domain.queue import RatingProblem
from services.rating.store.keys import KEYS, OF_KEY, key_columns

_COLUMNS = """
    tenant_id, subscription_id, period_start, period_end, customer_id, price_id, display_name, meter_id, position,
    currency, quantity, amount, rounding_mode, rate_card_id, rate_card_version, engine_version, parts, withdrawn,
    version, trace_parent
"""
_OF_CHARGE = """
    c.tenant_id, c.subscription_id, c.period_start, c.period_end, c.customer_id, c.price_id, c.display_name, c.meter_id,
    c.position, c.currency, c.quantity, c.amount, c.rounding_mode, c.rate_card_id, c.rate_card_version,
    c.engine_version, c.parts, c.withdrawn, c.version, c.trace_parent
"""

_OF_PERIODS = f"""
SELECT {_OF_CHARGE} FROM {KEYS} CROSS JOIN LATERAL (SELECT {_COLUMNS} FROM charges WHERE {OF_KEY} OFFSET 0) c
"""

_BY_KEY = f"""
SELECT {_OF_CHARGE}
FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[])
    AS k(tenant_id, subscription_id, period_start, price_id)
CROSS JOIN LATERAL (SELECT {_COLUMNS} FROM charges WHERE {OF_KEY} AND price_id = k.price_id OFFSET 0) c
"""

# The version is drawn while the row is locked (by this upsert, and the billing period's row by the caller), so that
# the versions of one charge grow in the order of commits.
_SAVE = """
INSERT INTO charges AS c (tenant_id, subscription_id, period_start, price_id, period_end, customer_id, display_name,
                          meter_id, position, currency, quantity, amount, rounding_mode, rate_card_id,
                          rate_card_version, engine_version, parts, withdrawn, trace_parent, version)
SELECT n.tenant_id, n.subscription_id, n.period_start, n.price_id, n.period_end, n.customer_id, n.display_name,
       n.meter_id, n.position, n.currency, n.quantity::numeric, n.amount::numeric, n.rounding_mode, n.rate_card_id,
       n.rate_card_version, n.engine_version, n.parts::jsonb, n.withdrawn, n.trace_parent, nextval('state_version')
FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::timestamptz[], $6::text[], $7::text[],
            $8::text[], $9::int[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::int[],
            $16::text[], $17::text[], $18::boolean[], $19::text[])
    AS n(tenant_id, subscription_id, period_start, price_id, period_end, customer_id, display_name, meter_id, position,
         currency, quantity, amount, rounding_mode, rate_card_id, rate_card_version, engine_version, parts, withdrawn,
         trace_parent)
ON CONFLICT (tenant_id, subscription_id, period_start, price_id) DO UPDATE
    SET period_end = excluded.period_end, customer_id = excluded.customer_id, display_name = excluded.display_name,
        meter_id = excluded.meter_id, position = excluded.position, currency = excluded.currency,
        quantity = excluded.quantity, amount = excluded.amount, rounding_mode = excluded.rounding_mode,
        rate_card_id = excluded.rate_card_id, rate_card_version = excluded.rate_card_version,
        engine_version = excluded.engine_version, parts = excluded.parts, withdrawn = excluded.withdrawn,
        trace_parent = excluded.trace_parent, version = nextval('state_version')
RETURNING c.tenant_id, c.subscription_id, c.period_start, c.price_id, c.version
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
    """Charges of billing periods. Who writes holds the rows of the billing periods locked."""

    def __init__(self, connection: asyncpg.Connection, outbox: StateOutbox) -> None:
        self._connection = connection
        self._outbox = outbox

    async def of_periods(self, keys: Sequence[PeriodKey]) -> dict[PeriodKey, dict[str, PeriodCharge]]:
        """Return the charges of billing periods by price, withdrawn ones too."""
        found: defaultdict[PeriodKey, dict[str, PeriodCharge]] = defaultdict(dict)
        for row in await self._connection.fetch(_OF_PERIODS, *key_columns(keys)):
            charge = _charge(row)
            found[charge.key][charge.price_id] = charge
        return found

    async def save(self, charges: Sequence[PeriodCharge], now: datetime) -> dict[tuple[PeriodKey, str], int]:
        """Store charges to be published as they are now; return their new versions by (billing period, price)."""
        if not charges:
            return {}
        ordered = sorted(charges, key=lambda charge: (charge.key, charge.price_id))
        rows = await self._connection.fetch(_SAVE, *zip(*map(_values, ordered), strict=True))
        versions = {(PeriodKey(*row[:3]), row["price_id"]): row["version"] for row in rows}
        marks = [(key.tenant_id, _item_key(key, price), version) for (key, price), version in versions.items()]
        await self._outbox.mark(marks, now)
        return versions

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


async def read_charges(connection: AsyncConnection, tenant_id: str, item_keys: Sequence[str]) -> list[PeriodCharge]:
    """Return the current charges of a tenant for the keys in their outbox; those that do not exist are left out."""
    keys = [_from_item_key(key) for key in item_keys]
    columns = [list(column) for column in zip(*keys, strict=True)]
    rows = await (await raw(connection)).fetch(_BY_KEY, [tenant_id] * len(keys), *columns)
    return [_charge(row) for row in rows]


def item_key(charge: PeriodCharge) -> str:
    """Return the key of a charge in the outbox."""
    return _item_key(charge.key, charge.price_id)


def _item_key(key: PeriodKey, price_id: str) -> str:
    return f"{key.subscription_id}|{key.period_start.isoformat()}|{price_id}"  # No id has a vertical bar.


def _from_item_key(text: str) -> tuple[str, datetime, str]:
    subscription_id, period_start, price_id = text.split("|")
    return subscription_id, datetime.fromisoformat(period_start), price_id


def _values(charge: PeriodCharge) -> tuple[object, ...]:
    return (
        charge.key.tenant_id,
        charge.key.subscription_id,
        charge.key.period_start,
        charge.price_id,
        charge.period_end,
        charge.customer_id,
        charge.display_name,
        charge.meter_id,
        charge.position,
        charge.currency,
        format(charge.quantity, "f"),
        format(charge.amount, "f"),
        charge.rounding_mode.value,
        charge.rate_card_id,
        charge.rate_card_version,
        charge.engine_version,
        json.dumps(charge.parts),
        charge.withdrawn,
        charge.trace_parent,
    )


def _charge(row: asyncpg.Record) -> PeriodCharge:
    return PeriodCharge(
        key=PeriodKey(*row[:3]),
        period_end=row["period_end"],
        customer_id=row["customer_id"],
        price_id=row["price_id"],
        display_name=row["display_name"],
        meter_id=row["meter_id"],
        position=row["position"],
        currency=row["currency"],
        quantity=row["quantity"],
        amount=row["amount"],
        rounding_mode=RoundingMode(row["rounding_mode"]),
        rate_card_id=row["rate_card_id"],
        rate_card_version=row["rate_card_version"],
        engine_version=row["engine_version"],
        parts=tuple(row["parts"]),
        withdrawn=row["withdrawn"],
        version=row["version"],
        trace_parent=row["trace_parent"],
    )
