"""Store a rate card or its next version."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from libs.clock import Clock
from libs.errors import InvalidInput, Violation
from services.rating.domain.rate_card import RateCard
from services.rating.domain.rollout_guard import RolloutGuard
from services.rating.domain.stored_card import StoredRateCard
from services.rating.usecases.check_rate_card import CheckRateCard
from services.rating.usecases.errors import RateCardCurrencyFixed, RateCardEffectiveTimeNotLater, RateCardNotFound
from services.rating.usecases.guard_rollout import GuardRollout
from services.rating.usecases.ports import OpenWork, Work


@dataclass(frozen=True, slots=True)
class Request:
    """Who asks and how the request is recognised when it comes again; `fingerprint` digests it without its id."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    method: str = "CreateRateCard"

    @property
    def key(self) -> tuple[str, str, str, bytes]:
        """Tenant, method, request id and fingerprint."""
        return self.tenant_id, self.method, self.request_id, self.fingerprint


class CreateRateCard:
    """Adds a version, and has the billing periods that it prices rated again."""

    def __init__(
        self,
        open_work: OpenWork,
        check: CheckRateCard,
        guard_rollout: GuardRollout,
        clock: Clock,
        tenant_now: Callable[[str], datetime],
        on_marked: Callable[[], None],
    ) -> None:
        """
        :param tenant_now: the time that a tenant lives in, which a test clock may hold
        """
        self._open_work = open_work
        self._check = check
        self._guard_rollout = guard_rollout
        self._clock = clock
        self._tenant_now = tenant_now
        self._on_marked = on_marked

    async def __call__(
        self,
        request: Request,
        card: RateCard,
        violations: Sequence[Violation],
        guard: RolloutGuard | None = None,
        *,
        allow_past: bool = False,
    ) -> StoredRateCard:
        """Return the version as stored, also when the request was carried out before.

        `violations` are what was found wrong while the card was read; where two tell of one field, they come first.
        `allow_past`: it may be in force since a time that is over.

        :raises InvalidInput: naming everything wrong with the card, unknown meters included, and archived ones unless
            the version before prices them, too
        :raises RequestIdReused: if the request id came with another card before
        :raises RateCardCurrencyFixed, RateCardEffectiveTimeNotLater: if the versions before forbid this one
        :raises RolloutGuardExceeded: if it would change too much
        :raises Unavailable: if ingest does not answer
        """
        card, archived = await self._check(request.tenant_id, card, violations)
        if guard is not None:
            async with self._open_work(request.tenant_id) as work:
                carried_out = await work.requests.find(*request.key)
                if carried_out is not None:
                    return await find_card(work, request.tenant_id, card.rate_card_id, int(carried_out))
            await self._guard_rollout(request.tenant_id, card, guard)
        async with self._open_work(request.tenant_id) as work:
            stored = await self._create(work, request, card, archived, guard, allow_past=allow_past)
        self._on_marked()
        return stored

    async def plan(
        self,
        tenant_id: str,
        card: RateCard,
        violations: Sequence[Violation],
        guard: RolloutGuard | None = None,
        *,
        allow_past: bool = False,
    ) -> RateCard:
        """Return the version that would be stored, which is the newest one if that says the same; stores nothing.

        Raises as storing it does.
        """
        card, archived = await self._check(tenant_id, card, violations)
        async with self._open_work(tenant_id) as work:
            newest = await work.cards.find(tenant_id, card.rate_card_id)
        _check_archived(card, newest.card if newest else None, archived)
        if newest is not None and replace(newest.card, version=0) == card:
            return newest.card
        if newest is not None:
            _check_succession(newest.card, card)
        if not allow_past:
            self._check_not_past(tenant_id, card)
        if newest is None:
            return replace(card, version=1)
        if guard is not None:
            await self._guard_rollout(tenant_id, card, guard)
        return replace(card, version=newest.card.version + 1)

    async def _create(
        self,
        work: Work,
        request: Request,
        card: RateCard,
        archived: set[str],
        guard: RolloutGuard | None,
        *,
        allow_past: bool,
    ) -> StoredRateCard:
        tenant_id, now = request.tenant_id, self._clock()
        # Whoever stores a billing period of the tenant has to wait, and then finds the card, or is seen here.
        await work.usage.lock([tenant_id], exclusive=True)
        await work.cards.lock(tenant_id, card.rate_card_id)
        newest = await work.cards.find(tenant_id, card.rate_card_id)
        version = newest.card.version + 1 if newest else 1
        first_version = await work.requests.claim(*request.key, str(version), now)
        if first_version is not None:
            return await find_card(work, tenant_id, card.rate_card_id, int(first_version))
        _check_archived(card, newest.card if newest else None, archived)
        if newest is not None:
            _check_succession(newest.card, card)
        if not allow_past:
            self._check_not_past(tenant_id, card)
        stored = StoredRateCard(replace(card, version=version), now, guard.override_reason if guard else "")
        await self._add(work, tenant_id, stored)
        return stored

    async def _add(self, work: Work, tenant_id: str, stored: StoredRateCard) -> None:
        card, now = stored.card, stored.created_at
        await work.cards.add(tenant_id, card, now, stored.override_reason)
        await work.exact_usage.add_prices(tenant_id, card)
        await work.dimensions.add_prices(tenant_id, card)
        await work.terms.add_prices(tenant_id, card)
        # Also periods that failed for want of this card.
        await work.queue.mark_priced_by(tenant_id, card.rate_card_id, card.effective_at, now)

    def _check_not_past(self, tenant_id: str, card: RateCard) -> None:
        now = self._tenant_now(tenant_id)
        if card.effective_at is not None and card.effective_at < now:
            description = (
                f"is over (now: {now.isoformat()}) and would change billing periods that have begun;"
                " say so with allow_past_effective_time"
            )
            raise InvalidInput([Violation("effective_time", "EFFECTIVE_TIME_PAST", description)])


class GetRateCards:
    """Reads rate cards."""

    def __init__(self, open_work: OpenWork) -> None:
        self._open_work = open_work

    async def get(self, tenant_id: str, rate_card_id: str, version: int) -> StoredRateCard:
        """Return a version, or the newest for 0.

        :raises RateCardNotFound: if there is none
        """
        async with self._open_work(tenant_id) as work:
            return await find_card(work, tenant_id, rate_card_id, version)

    async def list_newest(self, tenant_id: str, after: str, limit: int) -> list[StoredRateCard]:
        """Return the newest versions of the cards behind the id `after`."""
        async with self._open_work(tenant_id) as work:
            return await work.cards.list_newest(tenant_id, after, limit)


async def find_card(work: Work, tenant_id: str, rate_card_id: str, version: int) -> StoredRateCard:
    """Return a version, or the newest for 0.

    :raises RateCardNotFound: if there is none
    """
    stored = await work.cards.find(tenant_id, rate_card_id, version)
    if stored is None:
        named = f"version {version} of rate card {rate_card_id}" if version else f"rate card {rate_card_id}"
        raise RateCardNotFound(f"there is no {named}", rateCardId=rate_card_id, version=str(version))
    return stored


def _check_archived(card: RateCard, newest: RateCard | None, archived: set[str]) -> None:
    """A version may go on with archived meters of the one before: what they have counted is still to be charged."""
    known = {price.meter_id for price in newest.prices} if newest else set()
    refused = [
        Violation(f"prices[{index}].meter_id", "METER_ARCHIVED", f"meter {price.meter_id} counts no more events")
        for index, price in enumerate(card.prices)
        if price.meter_id in archived - known
    ]
    if refused:
        raise InvalidInput(refused)


def _check_succession(newest: RateCard, card: RateCard) -> None:
    if card.currency != newest.currency:
        raise RateCardCurrencyFixed(
            f"rate card {card.rate_card_id} is in {newest.currency}", rateCardId=card.rate_card_id
        )
    # Subscriptions keep their currency, and would have no prices.
    if missing := [currency for currency in newest.currencies if currency not in card.currencies]:
        message = f"rate card {card.rate_card_id} has prices in {', '.join(missing)}, which a further version needs too"
        raise RateCardCurrencyFixed(message, rateCardId=card.rate_card_id, missing=",".join(missing))
    if card.effective_at is None or (newest.effective_at is not None and card.effective_at <= newest.effective_at):
        since = newest.effective_at.isoformat() if newest.effective_at else "always"
        raise RateCardEffectiveTimeNotLater(
            f"version {newest.version} is in force since {since}; a further one needs a later effective_time",
            rateCardId=card.rate_card_id,
        )
