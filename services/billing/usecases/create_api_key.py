"""Make an API key."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from libs.clock import Clock
from libs.errors import Aborted
from services.billing.domain.tenant import ApiKey, check_display_name
from services.billing.usecases.ports import Directory, EntryKind, UnitOfWork
from services.billing.usecases.request import Request, require_valid

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A key's public part, the whole secret, and the hash that is kept of it."""

    key_id: str
    secret: str
    secret_hash: bytes


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """The key and its secret; the secret is empty when the request is a repetition, because nobody knows it then."""

    key: ApiKey
    secret: str


class KeyIdTaken(Aborted):
    """Ids are short and random; the transaction is rolled back, so a retry makes another key."""

    reason = "KEY_ID_TAKEN"


class CreateApiKey:
    """Stores the hash, and returns once the key works everywhere.

    A service that does not confirm in time is logged, not an error: an error would make the caller repeat the request,
    which cannot bring the secret again. A service that is away reads the directory before it serves.

    :raises InvalidInput, TenantNotFound, RequestIdReused: and no key is made
    """

    def __init__(
        self, *, unit_of_work: UnitOfWork, directory: Directory, clock: Clock, make_secret: Callable[[], NewSecret]
    ) -> None:
        self._unit_of_work = unit_of_work
        self._directory = directory
        self._clock = clock
        self._make_secret = make_secret

    async def __call__(self, *, request: Request, tenant_id: str, display_name: str) -> NewApiKey:
        violation = check_display_name(display_name, "display_name")
        require_valid(request.request_id, [violation] if violation else [])
        new, now = self._make_secret(), self._clock()
        async with self._unit_of_work(tenant_id) as work:
            await work.tenants.get()
            first = await request.claim(work, new.key_id, now)
            if first is None:
                if not await work.api_keys.add(ApiKey(tenant_id, new.key_id, display_name, new.secret_hash, now)):
                    raise KeyIdTaken("the key's id is taken, by chance; send the request again")
                await work.publish_entry(EntryKind.KEY, new.key_id)
            key = await work.api_keys.get(first or new.key_id)
        await self._directory.publish(tenant_id)
        if missing := await self._directory.unconfirmed():
            _logger.warning("key %s is not confirmed by %s", key.key_id, ", ".join(missing))
        return NewApiKey(key, "" if first else new.secret)
