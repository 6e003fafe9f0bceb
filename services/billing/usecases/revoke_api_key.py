"""End an API key."""

from __future__ import annotations

from libs.clock import Clock
from libs.ids import check_text
from services.billing.domain.tenant import ApiKey
from services.billing.usecases.ports import Directory, EntryKind, UnitOfWork
from services.billing.usecases.request import Request, require_valid


class RevokeApiKey:
    """Returns once the directory has it; processes refuse the key as soon as they have read that.

    :raises InvalidInput, ApiKeyNotFound, RequestIdReused: and nothing changes
    """

    def __init__(self, *, unit_of_work: UnitOfWork, directory: Directory, clock: Clock) -> None:
        self._unit_of_work = unit_of_work
        self._directory = directory
        self._clock = clock

    async def __call__(self, *, request: Request, tenant_id: str, key_id: str) -> ApiKey:
        violation = check_text(key_id, "key_id", 64)
        require_valid(request.request_id, [violation] if violation else [])
        now = self._clock()
        async with self._unit_of_work(tenant_id) as work:
            if await request.claim(work, key_id, now) is None:
                await work.api_keys.revoke(key_id, now)
                await work.publish_entry(EntryKind.KEY, key_id)
            key = await work.api_keys.get(key_id)
        await self._directory.publish(tenant_id)
        return key
