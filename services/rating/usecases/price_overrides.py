"""Agree other prices with one customer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from libs.clock import Clock
from libs.errors import InvalidInput, Violation
from libs.ids import check_resource_id, check_text
from services.rating.domain.price_override import OverrideFilter, PriceOverride
from services.rating.domain.rate_card import RateCard
from services.rating.usecases.check_rate_card import CheckRateCard
from services.rating.usecases.create_rate_card import GetRateCards
from services.rating.usecases.errors import PriceOverrideEndsEarlier, PriceOverrideExists, PriceOverrideNotFound
from services.rating.usecases.ports import OpenWork, Work

CUSTOMER_ID_LENGTH_MAX = 128
_REASON_LENGTH_MAX = 500


@dataclass(frozen=True, slots=True)
class OverrideRequest:
    """Who asks and how the request is recognised when it comes again; `fingerprint` digests it without its id."""

    tenant_id: str
    request_id: str
    fingerprint: bytes


class PriceOverrides:
    """Stores overrides, and has the billing periods that they price rated again."""

    def __init__(
        self,
        open_work: OpenWork,
        check: CheckRateCard,
        get_rate_cards: GetRateCards,
        clock: Clock,
        on_marked: Callable[[], None],
    ) -> None:
        self._open_work = open_work
        self._check = check
        self._get_rate_cards = get_rate_cards
        self._clock = clock
        self._on_marked = on_marked

    async def create(
        self, request: OverrideRequest, override: PriceOverride, violations: Sequence[Violation]
    ) -> PriceOverride:
        """Return the override as stored, also when the request was carried out before.

        `violations` are what was found wrong while it was read.

        :raises InvalidInput: naming everything wrong with it
        :raises RateCardNotFound, PriceOverrideExists, RequestIdReused, Unavailable:
        """
        wrong = [*violations, *_wrong(override)]
        if wrong:
            raise InvalidInput(list({violation.field: violation for violation in reversed(wrong)}.values()))
        newest = (await self._get_rate_cards.get(request.tenant_id, override.rate_card_id, 0)).card
        in_currency = newest.in_currency(override.currency)
        if in_currency is None:
            description = f"{newest.rate_card_id} has prices in {', '.join(newest.currencies)}"
            raise InvalidInput.of("price_override.currency", "CURRENCY_NOT_ON_CARD", description)
        _check_known(override, newest)
        # As a card of its own: a price has to be right whatever stands beside it.
        alone = RateCard(newest.rate_card_id, 0, in_currency.currency, None, override.prices)
        checked, _ = await self._check(request.tenant_id, alone, [])
        override = replace(override, prices=checked.prices)
        async with self._open_work(request.tenant_id) as work:
            stored = await self._create(work, request, override, checked)
        self._on_marked()
        return stored

    async def end(self, request: OverrideRequest, override_id: str, end_at: datetime) -> PriceOverride:
        """Return the override with its end, also when the request was carried out before.

        :raises PriceOverrideNotFound, PriceOverrideEndsEarlier, RequestIdReused:
        """
        async with self._open_work(request.tenant_id) as work:
            tenant_id, now = request.tenant_id, self._clock()
            await work.usage.lock([tenant_id], exclusive=True)
            override = await _found(work, tenant_id, override_id)
            carried_out = await work.requests.claim(
                tenant_id, "EndPriceOverride", request.request_id, request.fingerprint, override_id, now
            )
            if carried_out is not None:
                return override
            if override.end_at is not None and override.end_at < end_at:
                raise PriceOverrideEndsEarlier(
                    f"{override_id} ends at {override.end_at.isoformat()}", overrideId=override_id
                )
            await work.overrides.end(tenant_id, override_id, end_at)
            since = end_at if override.effective_at is None else max(end_at, override.effective_at)
            await work.queue.mark_overridden(tenant_id, override, since, now)
        self._on_marked()
        return replace(override, end_at=end_at)

    async def get(self, tenant_id: str, override_id: str) -> PriceOverride:
        """Return an override.

        :raises PriceOverrideNotFound: if there is none
        """
        async with self._open_work(tenant_id) as work:
            return await _found(work, tenant_id, override_id)

    async def list(self, tenant_id: str, of: OverrideFilter, after: str, limit: int) -> list[PriceOverride]:
        """Return the next overrides behind the id `after`."""
        async with self._open_work(tenant_id) as work:
            return await work.overrides.list(tenant_id, of, after, limit)

    async def _create(
        self, work: Work, request: OverrideRequest, override: PriceOverride, checked: RateCard
    ) -> PriceOverride:
        tenant_id, now, override_id = request.tenant_id, self._clock(), override.override_id
        # Whoever stores a billing period of the tenant has to wait, and then finds the override, or is seen here.
        await work.usage.lock([tenant_id], exclusive=True)
        carried_out = await work.requests.claim(
            tenant_id, "CreatePriceOverride", request.request_id, request.fingerprint, override_id, now
        )
        if carried_out is not None:
            return await _found(work, tenant_id, override_id)
        if not await work.overrides.add(tenant_id, replace(override, created_at=now)):
            raise PriceOverrideExists(f"there is an override {override_id}", overrideId=override_id)
        await work.exact_usage.add_prices(tenant_id, checked)
        await work.dimensions.add_prices(tenant_id, checked)
        await work.terms.add_prices(tenant_id, checked)
        await work.queue.mark_overridden(tenant_id, override, override.effective_at, now)
        return await _found(work, tenant_id, override_id)


async def _found(work: Work, tenant_id: str, override_id: str) -> PriceOverride:
    override = await work.overrides.find(tenant_id, override_id)
    if override is None:
        raise PriceOverrideNotFound(f"there is no override {override_id}", overrideId=override_id)
    return override


def _wrong(override: PriceOverride) -> list[Violation]:
    target = (
        check_resource_id(override.subscription_id, "price_override.subscription_id")
        if override.subscription_id
        else check_text(override.customer_id, "price_override.customer_id", CUSTOMER_ID_LENGTH_MAX)
    )
    found = [
        check_resource_id(override.override_id, "price_override.override_id"),
        check_resource_id(override.rate_card_id, "price_override.rate_card_id"),
        target,
        check_text(override.reason, "price_override.reason", _REASON_LENGTH_MAX) if override.reason else None,
    ]
    effective_at, end_at = override.effective_at, override.end_at
    if effective_at is not None and end_at is not None and end_at <= effective_at:
        found.append(Violation("price_override.end_time", "NOT_AFTER_START", "must be after effective_time"))
    return [violation for violation in found if violation]


def _check_known(override: PriceOverride, newest: RateCard) -> None:
    known = {price.price_id for price in newest.prices}
    unknown = [
        Violation(f"prices[{index}].price_id", "UNKNOWN_PRICE", f"{newest.rate_card_id} has no price of this id")
        for index, price in enumerate(override.prices)
        if price.price_id not in known
    ]
    if unknown:
        raise InvalidInput(unknown)
