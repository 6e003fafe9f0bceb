"""The streams of charges of one process, and what each of them still has to send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal

from libs.errors import FailedPrecondition, ResourceExhausted, ServiceError, Unavailable
from services.rating.domain.live_charge import ChargeKey, ChargeWatch, LiveCharge

MOST_CHARGES = 50_000
"""That one stream may watch."""
MOST_WATCHED = 500_000
"""By all streams of a process together."""
_FOLLOW_WITHIN_S = 5.0
_RETRY_AFTER_S = Decimal(1)


class TooManyCharges(FailedPrecondition):
    """The stream would watch more charges than one may; name fewer customers or subscriptions."""

    reason = "TOO_MANY_CHARGES"


class TooMuchWatched(ResourceExhausted):
    """The streams of this process watch as many charges as they may."""

    reason = "TOO_MUCH_WATCHED"


class ChargesInterrupted(Unavailable):
    """Changes of charges do not reach this process at present, or did not for a moment."""

    reason = "CHARGES_INTERRUPTED"


class WatchedCharges:
    """What is watched by all streams of a process, counted."""

    def __init__(self, most: int = MOST_WATCHED) -> None:
        self._most = most
        self.count = 0

    def add(self) -> None:
        """:raises TooMuchWatched: if there is no room for one more"""
        if self.count >= self._most:
            raise TooMuchWatched(f"{self.count} charges are watched", retry_after_s=_RETRY_AFTER_S)
        self.count += 1

    def remove(self, count: int) -> None:
        self.count -= count


class ChargeSubscription:
    """What one stream has to send: of each charge only the newest version, however slowly its reader reads.

    Offered from the follower's task and read from the stream's, both of one event loop: each method is one step.
    """

    def __init__(self, watch: ChargeWatch, watched: WatchedCharges, most_charges: int) -> None:
        self.watch = watch
        self._watched = watched
        self._most_charges = most_charges
        self._versions: dict[ChargeKey, int] = {}
        self._pending: dict[ChargeKey, LiveCharge] = {}
        self._watermark: datetime | None = None
        self._error: ServiceError | None = None
        self._wake = asyncio.Event()

    @property
    def has_changes(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._pending)

    def offer(self, charges: Iterable[LiveCharge]) -> None:
        """Keep what is watched and newer than what is known, to be sent."""
        had_changes = self.has_changes
        for charge in charges:
            if self._error is None and self._is_newer(charge):
                self._pending[charge.key] = charge
        if self.has_changes and not had_changes:
            self._wake.set()

    def unseen(self, charges: Iterable[LiveCharge]) -> list[LiveCharge]:
        """Return those of the stored charges that are to be sent now: a newer version is not known yet.

        :raises ServiceError: if the stream has to end
        """
        found = [charge for charge in charges if self._is_newer(charge)]
        for charge in found:
            self._pending.pop(charge.key, None)
        self.check()
        return found

    def passed(self, watermark: datetime) -> None:
        """Note that all charges which the watermark covers were offered, or committed before the subscription."""
        self._watermark = max(watermark, self._watermark or watermark)

    def take(self) -> tuple[list[LiveCharge], datetime | None]:
        """Return what has to be sent, and the watermark that holds when it is."""
        taken, self._pending = list(self._pending.values()), {}
        return taken, self._watermark

    def end(self, error: ServiceError) -> None:
        """Have the stream end with this error, unless it ends with another one already."""
        self._error = self._error or error
        self._wake.set()

    def check(self) -> None:
        """:raises ServiceError: if the stream has to end"""
        if self._error is not None:
            raise self._error

    async def wait(self, seconds: float) -> None:
        """Return after that time, or earlier if there begins to be something to send, or the stream has to end."""
        self._wake.clear()
        self.check()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def leave(self) -> None:
        """Forget everything; nothing is offered any more."""
        self._watched.remove(len(self._versions))
        self._versions, self._pending = {}, {}

    def _is_newer(self, charge: LiveCharge) -> bool:
        known = self._versions.get(charge.key)
        if known is None:
            # What is known already stays watched, also if its period now ends earlier.
            if not self.watch.has(charge) or not self._has_room():
                return False
        elif known >= charge.version:
            return False
        self._versions[charge.key] = charge.version
        return True

    def _has_room(self) -> bool:
        if self._error is not None:
            return False
        if len(self._versions) >= self._most_charges:
            self.end(TooManyCharges(f"more than {self._most_charges} charges are to be watched"))
            return False
        try:
            self._watched.add()
        except TooMuchWatched as error:
            self.end(error)
            return False
        return True


class LiveCharges:
    """Gives the changes of charges, which one follower per process receives, to the streams that watch them.

    A subscription is handed out only while the follower follows: whatever is published from then on is offered to it,
    and whatever was published before is committed and can be read. When the follower cannot be sure any more that it
    receives everything, all subscriptions end.
    """

    def __init__(
        self, *, most_charges: int = MOST_CHARGES, most_watched: int = MOST_WATCHED, within_s: float = _FOLLOW_WITHIN_S
    ) -> None:
        self._most_charges = most_charges
        self._watched = WatchedCharges(most_watched)
        self._within_s = within_s
        self._by_tenant: dict[str, set[ChargeSubscription]] = {}
        self._following = asyncio.Event()
        self._watermark: tuple[datetime, frozenset[str]] | None = None
        self.wanted = asyncio.Event()
        """Set while there are subscriptions."""

    @property
    def watched_count(self) -> int:
        """How many charges all streams know."""
        return self._watched.count

    @asynccontextmanager
    async def subscribed(self, watch: ChargeWatch) -> AsyncIterator[ChargeSubscription]:
        """Offer what changes to a subscription while the block runs.

        :raises ChargesInterrupted: if changes do not reach this process
        """
        subscription = ChargeSubscription(watch, self._watched, self._most_charges)
        self._by_tenant.setdefault(watch.tenant_id, set()).add(subscription)
        self.wanted.set()
        try:
            await self._until_following()
            if self._watermark is not None and watch.tenant_id not in self._watermark[1]:
                subscription.passed(self._watermark[0])
            yield subscription
        finally:
            self._remove(subscription)

    def follow(self) -> None:
        """From now on everything that is published arrives."""
        self._watermark = None
        self._following.set()

    def interrupt(self, message: str) -> None:
        """Something that was published may not arrive."""
        self._following.clear()
        for subscriptions in self._by_tenant.values():
            for subscription in subscriptions:
                subscription.end(ChargesInterrupted(message, retry_after_s=_RETRY_AFTER_S))

    def watches(self, tenant_id: str) -> bool:
        """Whether a stream watches charges of the tenant."""
        return tenant_id in self._by_tenant

    def offer(self, tenant_id: str, charges: Sequence[LiveCharge]) -> None:
        """Give published charges of a tenant to those who watch them."""
        for subscription in self._by_tenant.get(tenant_id, ()):
            subscription.offer(charges)

    def passed(self, watermark: datetime, holds: Mapping[str, str]) -> None:
        """A watermark has passed behind the charges that it covers; not for the tenants that are held."""
        self._watermark = (watermark, frozenset(holds))
        for tenant_id, subscriptions in self._by_tenant.items():
            if tenant_id not in holds:
                for subscription in subscriptions:
                    subscription.passed(watermark)

    async def _until_following(self) -> None:
        try:
            async with asyncio.timeout(self._within_s):
                await self._following.wait()
        except TimeoutError:
            raise ChargesInterrupted("changes do not arrive at present", retry_after_s=_RETRY_AFTER_S) from None

    def _remove(self, subscription: ChargeSubscription) -> None:
        tenant_id = subscription.watch.tenant_id
        subscription.leave()
        self._by_tenant[tenant_id].discard(subscription)
        if not self._by_tenant[tenant_id]:
            del self._by_tenant[tenant_id]
        if not self._by_tenant:
            self.wanted.clear()
