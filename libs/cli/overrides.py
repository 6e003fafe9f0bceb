"""steelyard overrides ..."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from libs.cli.connection import as_tenant, request_id
from libs.cli.output import EXIT_REFUSED, EXIT_USAGE, Columns, Format, Output, fail, instant, show
from libs.cli.parsing import timestamp, zone_named
from libs.cli.yaml_messages import Document, read_documents
from steelyard import Client, InvalidRequest
from steelyard.rating.v1 import price_override_service_pb2 as pb

app = typer.Typer(help="Prices that were agreed with one customer, in the place of a card's.", no_args_is_help=True)

COLUMNS: Columns = {
    "OVERRIDE": lambda item: item.override_id,
    "CARD": lambda item: item.rate_card_id,
    "FOR": lambda item: item.subscription_id or item.customer_id,
    "CURRENCY": lambda item: item.currency,
    "PRICES": lambda item: ", ".join(f"{price.price_id} ({price.WhichOneof('model')})" for price in item.prices),
    "FROM": lambda item: instant(item.effective_time),
    "TO": lambda item: instant(item.end_time),
    "REASON": lambda item: item.reason,
}


@app.command("create")
def create(
    file: Annotated[Path, typer.Option("--file", "-f", exists=True, dir_okay=False, help="YAML, one document each")],
    output: Output = Format.TABLE,
) -> None:
    """Store the overrides of FILE (field names as in the PriceOverride proto); they are priced by at once."""
    try:
        documents = read_documents(file.read_text(encoding="utf-8-sig"), pb.PriceOverride)
    except (OSError, ValueError) as error:
        fail(ValueError(f"{file}: {error}"), EXIT_USAGE)

    async def work(client: Client) -> list[pb.PriceOverride]:
        return [await _create(client, file, document) for document in documents]

    show(as_tenant(work), COLUMNS, output)


@app.command("list")
def list_overrides(
    card: Annotated[str, typer.Option(help="only of this rate card")] = "",
    customer: Annotated[str, typer.Option(help="only of this customer")] = "",
    subscription: Annotated[str, typer.Option(help="only of this subscription")] = "",
    output: Output = Format.TABLE,
) -> None:
    """List overrides, ended ones too."""
    request = pb.ListPriceOverridesRequest(rate_card_id=card, customer_id=customer, subscription_id=subscription)

    async def work(client: Client) -> list[pb.PriceOverride]:
        found: list[pb.PriceOverride] = []
        while True:
            page = await client.services.price_overrides.ListPriceOverrides(request)
            found.extend(page.price_overrides)
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return found

    show(as_tenant(work), COLUMNS, output)


@app.command("end")
def end(
    override: str,
    at: Annotated[str, typer.Option(help="billing periods that start then or later are priced by the card again")],
    zone: Annotated[str, typer.Option(help="IANA zone of a date; default: UTC")] = "",
    output: Output = Format.TABLE,
) -> None:
    """Let an override end."""
    request = pb.EndPriceOverrideRequest(
        request_id=request_id(), override_id=override, end_time=timestamp(at, "--at", zone_named(zone, "--zone"))
    )

    async def work(client: Client) -> list[pb.PriceOverride]:
        return [(await client.services.price_overrides.EndPriceOverride(request)).price_override]

    show(as_tenant(work), COLUMNS, output)


async def _create(client: Client, file: Path, document: Document) -> pb.PriceOverride:
    request = pb.CreatePriceOverrideRequest(request_id=request_id(), price_override=document.message)
    try:
        return (await client.services.price_overrides.CreatePriceOverride(request)).price_override
    except InvalidRequest as error:
        if not error.violations:
            raise
        wrong = [
            f"line {document.line_of(v.field.removeprefix('price_override.'))}: {v.field}: {v.description} ({v.reason})"
            for v in error.violations
        ]
        fail(ValueError("\n".join([f"{file}: {error.args[0]}", *wrong])), EXIT_REFUSED)
