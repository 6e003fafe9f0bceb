"""steelyard ratecards archive | unarchive: cards that are not sold any more."""

from __future__ import annotations

from typing import Annotated

import typer

from libs.cli.connection import as_tenant, request_id
from libs.cli.output import Columns, Format, Output, instant, show
from steelyard import Client
from steelyard.rating.v1 import rate_card_pb2, rate_card_service_pb2

_COLUMNS: Columns = {
    "RATE CARD": lambda card: card.rate_card_id,
    "VERSION#": lambda card: card.version,
    "ARCHIVED": lambda card: instant(card.archive_time),
    "REASON": lambda card: card.archive_reason,
}


def archive(
    rate_card: str, reason: Annotated[str, typer.Option(help="why")] = "", output: Output = Format.TABLE
) -> None:
    """Close RATE_CARD for new subscriptions; who has it keeps it."""
    request = rate_card_service_pb2.ArchiveRateCardRequest(
        request_id=request_id(), rate_card_id=rate_card, reason=reason
    )

    async def work(client: Client) -> rate_card_pb2.RateCard:
        return (await client.services.rate_cards.ArchiveRateCard(request)).rate_card

    show([as_tenant(work)], _COLUMNS, output)


def unarchive(rate_card: str, output: Output = Format.TABLE) -> None:
    """Open RATE_CARD for new subscriptions again."""
    request = rate_card_service_pb2.UnarchiveRateCardRequest(request_id=request_id(), rate_card_id=rate_card)

    async def work(client: Client) -> rate_card_pb2.RateCard:
        return (await client.services.rate_cards.UnarchiveRateCard(request)).rate_card

    show([as_tenant(work)], _COLUMNS, output)
