"""Tenants, their clocks and API keys in PostgreSQL. Rows stay here."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.clock import TenantClock
from services.billing.domain.tenant import ApiKey, ApiKeyNotFound, Tenant, TenantExists, TenantNotFound
from services.billing.store.tables import api_keys, clocks, tenants

NEXT_VERSION = sa.text("nextval('state_version')")
_KEY_COLUMNS = [column for column in api_keys.c if column.name != "version"]


class PostgresTenants:
    """The tenant of a transaction and its clock."""

    def __init__(self, connection: AsyncConnection, tenant_id: str) -> None:
        self._connection = connection
        self._tenant_id = tenant_id

    async def add(self, tenant: Tenant, test_time: datetime | None) -> None:
        clock = insert(clocks).values(tenant_id=tenant.tenant_id, test_time=test_time, version=NEXT_VERSION)
        added = clock.on_conflict_do_nothing().returning(clocks.c.tenant_id)
        if (await self._connection.execute(added)).one_or_none() is None:
            raise TenantExists(f"tenant {tenant.tenant_id} exists", tenantId=tenant.tenant_id)
        await self._connection.execute(insert(tenants).values(**asdict(tenant), version=NEXT_VERSION))

    async def get(self) -> Tenant:
        columns = [column for column in tenants.c if column.name != "version"]
        row = (
            await self._connection.execute(sa.select(*columns).where(tenants.c.tenant_id == self._tenant_id))
        ).one_or_none()
        if row is None:
            raise self._not_found()
        return Tenant(**row._mapping)

    async def clock(self) -> TenantClock:
        return await self._clock(sa.select(clocks).where(clocks.c.tenant_id == self._tenant_id))

    async def lock_clock(self) -> TenantClock:
        return await self._clock(sa.select(clocks).where(clocks.c.tenant_id == self._tenant_id).with_for_update())

    async def set_clock(self, test_time: datetime) -> None:
        changed = sa.update(clocks).where(clocks.c.tenant_id == self._tenant_id)
        await self._connection.execute(changed.values(test_time=test_time, version=NEXT_VERSION))

    async def _clock(self, query: sa.Select[object]) -> TenantClock:
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise self._not_found()
        return TenantClock(**row._mapping)

    def _not_found(self) -> TenantNotFound:
        return TenantNotFound(f"no tenant {self._tenant_id}", tenantId=self._tenant_id)


class PostgresApiKeys:
    """The keys of a transaction's tenant."""

    def __init__(self, connection: AsyncConnection, tenant_id: str) -> None:
        self._connection = connection
        self._tenant_id = tenant_id

    async def add(self, key: ApiKey) -> bool:
        row = insert(api_keys).values(**asdict(key), version=NEXT_VERSION)
        added = row.on_conflict_do_nothing().returning(api_keys.c.key_id)
        return (await self._connection.execute(added)).one_or_none() is not None

    async def get(self, key_id: str) -> ApiKey:
        query = sa.select(*_KEY_COLUMNS).where(api_keys.c.tenant_id == self._tenant_id, api_keys.c.key_id == key_id)
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise ApiKeyNotFound(f"no API key {key_id}", keyId=key_id)
        return ApiKey(**row._mapping)

    async def list_newest_first(self) -> list[ApiKey]:
        query = sa.select(*_KEY_COLUMNS).where(api_keys.c.tenant_id == self._tenant_id)
        rows = await self._connection.execute(query.order_by(api_keys.c.created_at.desc(), api_keys.c.key_id))
        return [ApiKey(**row._mapping) for row in rows]

    async def revoke(self, key_id: str, revoked_at: datetime) -> None:
        await self.get(key_id)
        open_key = (
            api_keys.c.tenant_id == self._tenant_id,
            api_keys.c.key_id == key_id,
            api_keys.c.revoked_at.is_(None),
        )
        change = sa.update(api_keys).where(*open_key).values(revoked_at=revoked_at, version=NEXT_VERSION)
        await self._connection.execute(change)
