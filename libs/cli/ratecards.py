"""steelyard ratecards ..."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.json_format import Parse, ParseError

from libs.cli.connection import as_tenant, request_id
from libs.cli.invoices import show_parts
from libs.cli.output import EXIT_USAGE, Columns, Format, Output, as_dict, fail, instant, print_json, quantity, show
from libs.cli.parsing import MAX_INT32, pairs
from steelyard import Client
from steelyard.rating.v1 import charge_service_pb2, rate_card_pb2, rate_card_service_pb2

app = typer.Typer(help="Rate cards and what usage would cost.", no_args_is_help=True)

COLUMNS: Columns = {
    "RATE CARD": lambda card: card.rate_card_id,
    "VERSION#": lambda card: card.version,
    "CURRENCY": lambda card: card.currency,
    "PRICES": lambda card: ", ".join(f"{price.price_id} ({price.WhichOneof('model')})" for price in card.prices),
    "EFFECTIVE": lambda card: instant(card.effective_time),
}
CHARGE_COLUMNS: Columns = {
    "LINE": lambda charge: charge.price_id,
    "METER": lambda charge: charge.meter_id or "-",
    "QUANTITY#": lambda charge: quantity(charge.quantity),
    "AMOUNT#": lambda charge: f"{quantity(charge.amount)} {charge.currency}",
}


@app.command("create")
def create(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JSON; amounts and quantities are text")],
    output: Output = Format.TABLE,
) -> None:
    """Store the rate card of FILE (JSON, field names as in the RateCard proto): a new card, or its next version."""
    try:
        card = Parse(file.read_text(encoding="utf-8-sig"), rate_card_pb2.RateCard())
    except (OSError, ValueError, ParseError, RecursionError) as error:
        fail(ValueError(f"{file}: {error}"), EXIT_USAGE)

    async def work(client: Client) -> rate_card_service_pb2.CreateRateCardResponse:
        return await client.services.rate_cards.CreateRateCard(
            rate_card_service_pb2.CreateRateCardRequest(request_id=request_id(), rate_card=card)
        )

    show([as_tenant(work).rate_card], COLUMNS, output)


@app.command("list")
def list_cards(output: Output = Format.TABLE) -> None:
    """List the newest version of each rate card."""

    async def work(client: Client) -> list[rate_card_pb2.RateCard]:
        cards: list[rate_card_pb2.RateCard] = []
        token = ""
        while True:
            page = await client.services.rate_cards.ListRateCards(
                rate_card_service_pb2.ListRateCardsRequest(page_token=token)
            )
            cards.extend(page.rate_cards)
            token = page.next_page_token
            if not token:
                return cards

    show(as_tenant(work), COLUMNS, output)


@app.command("show")
def show_card(
    rate_card: str,
    version: Annotated[int, typer.Option(min=0, max=MAX_INT32, help="0 means the newest")] = 0,
    output: Output = Format.JSON,
) -> None:
    """Print a rate card, by default as JSON in the form that `create` takes."""

    async def work(client: Client) -> rate_card_service_pb2.GetRateCardResponse:
        return await client.services.rate_cards.GetRateCard(
            rate_card_service_pb2.GetRateCardRequest(rate_card_id=rate_card, version=version)
        )

    card = as_tenant(work).rate_card
    if output is Format.JSON:
        print_json(as_dict(card))
    else:
        show([card], COLUMNS, output)


@app.command("preview")
def preview(
    rate_card: str,
    quantities: Annotated[list[str], typer.Option("--quantity", "-q", help="meter=quantity")],
    version: Annotated[int, typer.Option(min=0, max=MAX_INT32, help="0 means the newest")] = 0,
    output: Output = Format.TABLE,
) -> None:
    """Show what quantities would cost, tier by tier."""
    request = charge_service_pb2.PreviewChargeRequest(
        rate_card_id=rate_card, rate_card_version=version, quantities=pairs(quantities, "--quantity")
    )

    async def work(client: Client) -> charge_service_pb2.PreviewChargeResponse:
        return await client.services.charges.PreviewCharge(request)

    charges = as_tenant(work).charges
    show(charges, CHARGE_COLUMNS, output)
    if output is Format.TABLE:
        show_parts([(charge.price_id, part) for charge in charges for part in charge.parts])
