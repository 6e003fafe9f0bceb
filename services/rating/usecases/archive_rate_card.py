"""Close a rate card for new subscriptions, or open it again."""

from __future__ import annotations

from libs.clock import Clock
from services.rating.domain.stored_card import StoredRateCard
from services.rating.usecases.create_rate_card import Request, find_card
from services.rating.usecases.ports import OpenWork


class ArchiveRateCard:
    """Charges do not change by it: who has the card keeps it, and its versions go on."""

    def __init__(self, open_work: OpenWork, clock: Clock) -> None:
        self._open_work = open_work
        self._clock = clock

    async def archive(self, request: Request, rate_card_id: str, reason: str) -> StoredRateCard:
        """Return the newest version, with the time since when it is archived; that stays if it was before.

        :raises RateCardNotFound: if there is no such card
        :raises RequestIdReused: if the request id came with another request before
        """
        async with self._open_work(request.tenant_id) as work:
            await work.cards.lock(request.tenant_id, rate_card_id)
            await find_card(work, request.tenant_id, rate_card_id, 0)
            now = self._clock()
            if await work.requests.claim(*request.key, rate_card_id, now) is None:
                await work.cards.archive(request.tenant_id, rate_card_id, now, reason)
            return await find_card(work, request.tenant_id, rate_card_id, 0)

    async def unarchive(self, request: Request, rate_card_id: str) -> StoredRateCard:
        """Return the newest version, open for new subscriptions.

        :raises RateCardNotFound: if there is no such card
        :raises RequestIdReused: if the request id came with another request before
        """
        async with self._open_work(request.tenant_id) as work:
            await work.cards.lock(request.tenant_id, rate_card_id)
            await find_card(work, request.tenant_id, rate_card_id, 0)
            if await work.requests.claim(*request.key, rate_card_id, self._clock()) is None:
                await work.cards.unarchive(request.tenant_id, rate_card_id)
            return await find_card(work, request.tenant_id, rate_card_id, 0)
