"""Look at a tenant's API keys."""

from __future__ import annotations

from services.billing.domain.tenant import ApiKey
from services.billing.usecases.ports import UnitOfWork


class ListApiKeys:
    """Newest first. :raises TenantNotFound: if there is no such tenant"""

    def __init__(self, *, unit_of_work: UnitOfWork) -> None:
        self._unit_of_work = unit_of_work

    async def __call__(self, *, tenant_id: str) -> list[ApiKey]:
        async with self._unit_of_work(tenant_id) as work:
            await work.tenants.get()
            return await work.api_keys.list_newest_first()
