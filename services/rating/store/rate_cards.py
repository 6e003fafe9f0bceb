"""Rate cards in PostgreSQL."""

# ruff: noqa: S608 - statements are put together from constants, values are parameters.

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection
from datetime import datetime

import asyncpg

from services.rating.domain.rate_card import CurrencyPrices, RateCard
from services.rating.domain.stored_card import StoredRateCard
from services.rating.store.price_json import price_from_json, price_to_json

_NAMES = (
    "rate_card_id, version, display_name, currency, effective_at, prices, further_currencies, created_at,"
    " override_reason"
)
_COLUMNS = ", ".join(f"c.{name}" for name in _NAMES.split(", "))
_STORED = f"{_COLUMNS}, archived_at, coalesce(reason, '') AS archive_reason"
_CARDS = "rate_cards c LEFT JOIN archived_rate_cards USING (tenant_id, rate_card_id)"

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('rate-card:' || $1 || ':' || $2, 0))"

_INSERT = """
INSERT INTO rate_cards (tenant_id, rate_card_id, version, display_name, currency, effective_at, prices, created_at,
                        override_reason, further_currencies)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""

_VERSION = f"""
SELECT {_STORED} FROM {_CARDS}
WHERE tenant_id = $1 AND rate_card_id = $2 AND ($3 = 0 OR version = $3) ORDER BY version DESC LIMIT 1
"""

_NEWEST = f"""
SELECT DISTINCT ON (rate_card_id) {_STORED} FROM {_CARDS}
WHERE tenant_id = $1 AND rate_card_id > $2 ORDER BY rate_card_id, version DESC LIMIT $3
"""

_ALL_VERSIONS = f"""
SELECT k.tenant_id, {_COLUMNS} FROM unnest($1::text[], $2::text[]) AS k(tenant_id, rate_card_id)
CROSS JOIN LATERAL (
    SELECT {_NAMES} FROM rate_cards
    WHERE tenant_id = k.tenant_id AND rate_card_id = k.rate_card_id AND ($3::timestamptz IS NULL OR created_at <= $3)
    OFFSET 0
) c
"""

_ARCHIVE = """
INSERT INTO archived_rate_cards (tenant_id, rate_card_id, archived_at, reason) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING
"""
_UNARCHIVE = "DELETE FROM archived_rate_cards WHERE tenant_id = $1 AND rate_card_id = $2"


class PostgresRateCardStore:
    """Versions of rate cards, which are added and never changed."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def lock(self, tenant_id: str, rate_card_id: str) -> None:
        """Let nobody else add a version until the transaction ends, also if there is none yet."""
        await self._connection.execute(_LOCK, tenant_id, rate_card_id)

    async def add(self, tenant_id: str, card: RateCard, created_at: datetime, override_reason: str = "") -> None:
        """Add a version that does not exist yet."""
        prices = json.dumps([price_to_json(price) for price in card.prices])
        further = [
            {"currency": item.currency, "prices": [price_to_json(price) for price in item.prices]}
            for item in card.further_currencies
        ]
        await self._connection.execute(
            _INSERT,
            tenant_id,
            card.rate_card_id,
            card.version,
            card.display_name,
            card.currency,
            card.effective_at,
            prices,
            created_at,
            override_reason,
            json.dumps(further),
        )

    async def archive(self, tenant_id: str, rate_card_id: str, at: datetime, reason: str) -> None:
        """Keep since when and why a card is archived, unless it is."""
        await self._connection.execute(_ARCHIVE, tenant_id, rate_card_id, at, reason)

    async def unarchive(self, tenant_id: str, rate_card_id: str) -> None:
        """Forget that a card is archived."""
        await self._connection.execute(_UNARCHIVE, tenant_id, rate_card_id)

    async def find(self, tenant_id: str, rate_card_id: str, version: int = 0) -> StoredRateCard | None:
        """Return a version, or the newest one for 0; None if there is none."""
        row = await self._connection.fetchrow(_VERSION, tenant_id, rate_card_id, version)
        return None if row is None else _stored_card(row)

    async def list_newest(self, tenant_id: str, after: str, limit: int) -> list[StoredRateCard]:
        """Return the newest versions of the cards behind `after`, by id."""
        return [_stored_card(row) for row in await self._connection.fetch(_NEWEST, tenant_id, after, limit)]

    async def versions(
        self, cards: Collection[tuple[str, str]], known_at: datetime | None = None
    ) -> dict[tuple[str, str], list[RateCard]]:
        """Return all versions by (tenant id, rate card id), or those stored until `known_at`; an unknown card
        has none."""
        found: defaultdict[tuple[str, str], list[RateCard]] = defaultdict(list)
        keys = sorted(cards)
        rows = await self._connection.fetch(_ALL_VERSIONS, [key[0] for key in keys], [key[1] for key in keys], known_at)
        for row in rows:
            found[row["tenant_id"], row["rate_card_id"]].append(_card(row))
        return found


def _card(row: asyncpg.Record) -> RateCard:
    return RateCard(
        rate_card_id=row["rate_card_id"],
        version=row["version"],
        currency=row["currency"],
        effective_at=row["effective_at"],
        prices=tuple(price_from_json(price) for price in row["prices"]),
        display_name=row["display_name"],
        further_currencies=tuple(
            CurrencyPrices(item["currency"], tuple(price_from_json(price) for price in item["prices"]))
            for item in row["further_currencies"]
        ),
    )


def _stored_card(row: asyncpg.Record) -> StoredRateCard:
    return StoredRateCard(
        _card(row), row["created_at"], row["override_reason"], row["archived_at"], row["archive_reason"]
    )
