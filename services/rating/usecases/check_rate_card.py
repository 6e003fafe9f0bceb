"""Check a rate card that was sent, on its own and against the meters that it prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from libs.errors import InvalidInput, Violation
from services.rating.domain.meter_use import meter_violations
from services.rating.domain.rate_card import Price, RateCard
from services.rating.domain.usage import MeterFacts
from services.rating.domain.validation import check_rate_card
from services.rating.usecases.ports import IngestMeters


class CheckRateCard:
    """Finds everything wrong with a card, and adds what its prices have to know of their meters for good."""

    def __init__(self, meters: IngestMeters) -> None:
        self._meters = meters

    async def __call__(
        self, tenant_id: str, card: RateCard, violations: Sequence[Violation]
    ) -> tuple[RateCard, set[str]]:
        """Return the card as it can be rated, and which of its meters are archived.

        `violations` are what was found wrong while the card was read; where two tell of one field, they come first.

        :raises InvalidInput: naming everything wrong with the card, unknown meters included
        :raises Unavailable: if ingest does not answer
        """
        by_field = {violation.field: violation for violation in [*check_rate_card(card), *violations]}
        if by_field:
            raise InvalidInput(list(by_field.values()))
        facts = await self._meters.facts(tenant_id, {price.meter_id for price in card.prices if price.meter_id})
        if wrong := meter_violations(card, facts):
            raise InvalidInput(wrong)
        further = [replace(item, prices=_with_facts(item.prices, facts)) for item in card.further_currencies]
        archived = {meter_id for meter_id, meter in facts.items() if meter.archived}
        return replace(card, prices=_with_facts(card.prices, facts), further_currencies=tuple(further)), archived


def _with_facts(prices: Sequence[Price], facts: Mapping[str, MeterFacts]) -> tuple[Price, ...]:
    return tuple(
        replace(price, exact_usage=price.meter_id is not None and not facts[price.meter_id].additive)
        for price in prices
    )
